"""``labs start``: the servers, JupyterLab, and nothing left of either afterwards."""

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import webbrowser
from pathlib import Path

import labs
from labs.cli.bootstrap import Progress, SetUpError

FIRST_PAGE = "notebooks/00_start_here.ipynb"
READY_SECONDS = 90.0
LEAVE_SECONDS = 8.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `labs start` takes."""
    parser.add_argument("--no-browser", action="store_true", help="print the address and leave the browser alone")
    parser.add_argument(
        "--services", choices=("embedded", "compose", "url"), help="where the servers come from (default: embedded)"
    )
    parser.add_argument("--port", type=_port, help="the port JupyterLab listens on (default: a free one)")


def main(arguments: argparse.Namespace) -> int:
    """Run until Ctrl-C, SIGTERM or `labs stop`; return the exit code."""
    from labs.cli.session import Session
    from labs.stack import files

    if arguments.services:
        os.environ["LABS_SERVICES"] = arguments.services
    home = labs.home()
    os.environ["LABS_HOME"] = str(home)  # the kernels' own view, whatever folder they run in
    turn = contextlib.ExitStack()
    try:
        turn.enter_context(files.locked(files.folder(home) / "session.lock", 0.0, "taken"))
    except files.StackError as error:
        if str(error) != "taken":
            raise
        return _already(home, Session)
    with turn:
        return _run(home, arguments)


def _already(home: Path, sessions: type) -> int:
    """Say where the JupyterLab is that somebody else has started, or is starting."""
    deadline = time.monotonic() + READY_SECONDS
    while (session := sessions.running(home)) is None:
        if time.monotonic() > deadline:
            raise SetUpError("Another `labs start` has been starting for too long; `python3 -m labs stop` ends it.")
        time.sleep(0.1)
    print("The workbook is already running; `python3 -m labs stop` stops it. JupyterLab:")
    print(session.url, flush=True)
    return 0


def _run(home: Path, arguments: argparse.Namespace) -> int:
    from labs import stack
    from labs.cli.session import Session

    say = Progress()
    for which in STOP_SIGNALS:
        signal.signal(which, _leave)
    Session.begin(home)
    jupyter = Jupyter(home, arguments.port)
    try:
        jupyter.start()  # the slowest to start goes first
        stack.up(progress=say)
        stack.adopt(jupyter.process.pid)
        say("Opening JupyterLab")
        jupyter.trust_notebooks()
        jupyter.until_ready()
        jupyter.announce(say)
        if not arguments.no_browser:
            _open_browser(jupyter.address)
        jupyter.until_gone()
    except KeyboardInterrupt:
        print("\nStopping", flush=True)
        return 0 if jupyter.announced else 130
    finally:
        for which in STOP_SIGNALS:
            signal.signal(which, signal.SIG_IGN)  # the end is bounded: impatience must not leave half of it
        jupyter.stop()
        stack.down()
        Session.forget(home)
        print("Everything has stopped.", flush=True)


def _leave(*_: object) -> None:
    raise KeyboardInterrupt


class Jupyter:
    """The JupyterLab server of one home: its own settings folder, its own port, its own token."""

    def __init__(self, home: Path, port: int | None) -> None:
        from labs.stack import files

        self.home, self.port = home, _free_port(port)
        self.token = secrets.token_hex(24)
        self.log = files.logs(home) / "jupyter.log"
        self.address = f"http://127.0.0.1:{self.port}/lab{_first_page()}?token={self.token}"
        self.announced = False
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start the server; it dies with this process (Linux) or with this process's lease."""
        from labs.stack import processes

        self._at = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                cwd=labs.PROJECT,
                start_new_session=True,
                preexec_fn=processes.dies_with_parent(signal.SIGTERM),  # noqa: PLW1509 - no other thread yet
            )

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "jupyterlab", "--no-browser"]
        command += [
            f"--ServerApp.ip={os.environ.get('LABS_BIND', '127.0.0.1')}",
            f"--ServerApp.port={self.port}",
            "--ServerApp.port_retries=0",
            f"--ServerApp.root_dir={labs.PROJECT}",
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            "--LabApp.extension_manager=readonly",
        ]
        return [*command, "--allow-root"] if os.geteuid() == 0 else command

    def _environment(self) -> dict[str, str]:
        own = self.home / "jupyter"
        settings = {
            "JUPYTER_TOKEN": self.token,  # not an argument: those can be read in a list of processes
            "JUPYTER_CONFIG_DIR": str(own / "config"),
            "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
            "JUPYTER_DATA_DIR": str(own / "data"),
            "JUPYTERLAB_SETTINGS_DIR": str(own / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(own / "workspaces"),
            "JUPYTER_PREFER_ENV_PATH": "1",
            "LABS_HOME": str(self.home),
            "PYTHONPATH": str(labs.PROJECT),
        }
        no_news = own / "config" / "labconfig" / "page_config.json"
        no_news.parent.mkdir(parents=True, exist_ok=True)
        no_news.write_text(json.dumps({"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}))
        return {**os.environ, **settings}

    def trust_notebooks(self) -> None:
        """Sign the workbook's own notebooks, so that JupyterLab shows their committed drawings."""
        import nbformat
        from nbformat.sign import NotebookNotary

        data = self.home / "jupyter" / "data"
        data.mkdir(parents=True, exist_ok=True)  # the notary does not make the folder of its secret
        notary = NotebookNotary(data_dir=str(data))
        for path in sorted((labs.PROJECT / "notebooks").glob("*.ipynb")):
            with contextlib.suppress(OSError, ValueError):
                notary.sign(nbformat.read(path, as_version=4))

    def until_ready(self) -> None:
        """Wait until the server answers. Raises SetUpError with its last words when it does not."""
        deadline = time.monotonic() + READY_SECONDS
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            if self.process.poll() is not None:
                raise SetUpError(f"JupyterLab did not start: {self.last_words()} (whole log: {self.log}).")
            with contextlib.suppress(OSError), opener.open(f"http://127.0.0.1:{self.port}/api", timeout=2):
                return
            if time.monotonic() > deadline:
                raise SetUpError(f"JupyterLab did not answer within {READY_SECONDS:.0f} s; see {self.log}.")
            time.sleep(0.1)

    def until_gone(self) -> None:
        """Wait as long as the server runs. Raises SetUpError when it has stopped by itself."""
        self.process.wait()
        raise SetUpError(f"JupyterLab has stopped: {self.last_words()} (whole log: {self.log}).")

    def announce(self, say: Progress) -> None:
        """Print the address, and leave it where the other commands look."""
        from importlib.metadata import version

        from labs.cli.session import Session, chosen_services
        from labs.stack import processes

        identities = processes.identity(os.getpid()), processes.identity(self.process.pid)
        session = Session(
            self.address, version("jupyterlab"), self.process.pid, "wheel jupyterlab", *identities, chosen_services()
        )
        session.save(self.home)
        self.announced = True
        say("Ready. JupyterLab is at this address; Ctrl-C here stops everything")
        print(self.address, flush=True)

    def stop(self) -> None:
        """Stop the server and its kernels, within seconds."""
        from labs.stack import processes

        if self.process is None:
            return
        if known := processes.alive(processes.identity(self.process.pid)):
            processes.end([known], patience=LEAVE_SECONDS)
        self.process.wait()
        shutil.rmtree(self.home / "jupyter" / "runtime", ignore_errors=True)

    def last_words(self) -> str:
        """Return the most telling line of what it has written."""
        from labs.stack import files

        return files.last_line(self.log, self._at)


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; it can be 1 to 65535")
    return int(text)


def _free_port(wanted: int | None) -> int:
    """Return ``wanted`` if it can be had, a free port for None. Raises SetUpError."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError as error:
            raise SetUpError(
                f"Port {wanted} cannot be had ({error.strerror}); choose another, or leave out `--port` for a free one."
            ) from error
        return probe.getsockname()[1]


def _first_page() -> str:
    return f"/tree/{FIRST_PAGE}" if (labs.PROJECT / FIRST_PAGE).exists() else ""


def _open_browser(address: str) -> None:
    graphical = sys.platform == "darwin" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
    if graphical:  # elsewhere a text browser would take the terminal
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

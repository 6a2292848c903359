"""Makes the workbook's own environment, ``.venv``, and continues inside it. Standard library only.

The environment is complete when it carries a stamp: the Python it was made with and a hash of each list of packages
it has installed. Whatever interrupts the making, the next run sees that the stamp is missing and starts over.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from labs import PROJECT

LISTS = {"workbook": Path("requirements.txt"), "development": Path("tests/requirements.txt")}
ROOM_NEEDED = 1_500_000_000  # bytes: the environment takes about 900 MB, and pip unpacks beside it
NEWS_SECONDS = 3.0
UNPACKING_SECONDS = 10.0
BEGAN = "LABS_BEGAN"  # hands the moment the command began to the Python that takes over, and to nobody else
_HANDED_OVER = os.environ.pop(BEGAN, None)

# What another environment may have left behind for its own Python and would mislead ours.
FOREIGN = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")

# What pip says when it fails, the most telling first.
TELLING = (
    r"No space left on device.*",
    r"ERROR: .*No matching distribution.*",
    r"ERROR: (?!Exception).+",
    r".*(Temporary failure in name resolution|Connection refused|Network is unreachable|timed out).*",
)


class SetUpError(RuntimeError):
    """The environment cannot be made. The message is one sentence and the remedy."""


class Environment:
    """The virtual environment in ``project``."""

    def __init__(self, project: Path = PROJECT) -> None:
        self.project = project
        self.folder = project / ".venv"
        self.python = self.folder / "bin" / "python"
        self._stamp = self.folder / "labs-stamp.json"
        self._unfinished = self.folder / "labs-unfinished"

    @property
    def entered(self) -> bool:
        """Whether this process runs inside it."""
        return Path(sys.prefix).resolve() == self.folder.resolve()

    def usable(self) -> bool:
        """Whether its Python starts, belongs to its packages, and no installation was cut short."""
        if not self.python.exists() or self._unfinished.exists():
            return False
        code = "import os, pip, sys; print('%d.%d' % sys.version_info[:2], os.path.realpath(sys.prefix))"
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = [str(self.python), "-I", "-c", code]
            said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
            return bool(said) and said[1:] == [str(self.folder.resolve())]
        return False

    def complete(self, development: bool) -> bool:
        """Whether everything asked for is installed, by the stamp."""
        stamp = _read(self._stamp)
        return (
            self.python.exists()
            and not self._unfinished.exists()
            and self._wanted(development).items() <= stamp.items()
        )

    def _wanted(self, development: bool) -> dict[str, str]:
        names = LISTS if development else ("workbook",)
        return {name: hashlib.sha256((self.project / LISTS[name]).read_bytes()).hexdigest() for name in names}

    def make(self, development: bool, say: "Progress") -> None:
        """Make the environment or bring it up to date. Raises SetUpError and leaves nothing half done."""
        fresh = not self.usable()
        if fresh:
            _need_room(self.project)
            need_venv_module()
            if self.folder.exists():
                say("An earlier .venv is unfinished or broken: making it again")
                _remove(self.folder)
        try:
            if fresh:
                say(f"Making .venv with Python {sys.version.split()[0]}")
                self._create()
            self._install(development, say)
        except BaseException:
            if fresh:
                _remove(self.folder)
            raise

    def _create(self) -> None:
        command = [sys.executable, "-I", "-m", "venv", str(self.folder)]
        done = subprocess.run(command, capture_output=True, text=True, env=_clean_environment(), check=False)
        if done.returncode:
            raise SetUpError(
                f"The environment .venv cannot be made: {telling_line(done.stdout + done.stderr)}.{remedy('')}"
            )

    def _install(self, development: bool, say: "Progress") -> None:
        wanted = self._wanted(development)
        say("Installing the packages of " + " and ".join(str(LISTS[name]) for name in wanted))
        command = [str(self.python), "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        command += ["--progress-bar", "off", "--retries", "2", "--root-user-action", "ignore"]
        for name in wanted:
            command += ["-r", str(self.project / LISTS[name])]
        code, said = self._run_pip(command, say)
        if code:
            line = telling_line(said)
            raise SetUpError(f"The packages cannot be installed: {line.rstrip('.')}.{remedy(line)}")
        self._find_the_package()
        stamp = {**_read(self._stamp), **wanted, "python": sys.version.split()[0]}
        self._stamp.write_text(json.dumps(stamp), encoding="utf-8")
        self._unfinished.unlink(missing_ok=True)

    def _run_pip(self, command: list[str], say: "Progress") -> tuple[int, str]:
        """Run pip, passing on what it is at; the environment counts as unfinished once it has begun to change it."""
        said: list[str] = []
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=_clean_environment(),
            cwd=self.project,
        ) as pip:
            done = threading.Event()
            try:
                for line in pip.stdout:
                    said.append(line)
                    if line.startswith("Installing collected packages"):
                        self._unfinished.touch()
                        say("Unpacking")
                        threading.Thread(target=_still_unpacking, args=(say, done), daemon=True).start()
                    elif found := re.match(
                        r"\s*(?:Collecting|Downloading|Using cached) ([\w.]+(?:-[A-Za-z]\w*)*)", line
                    ):
                        say.now_and_then(f"  {found[1]}")
            except BaseException:
                pip.terminate()
                raise
            finally:
                done.set()
        return pip.returncode, "".join(said)

    def _find_the_package(self) -> None:
        """Let every program of the environment, an editor's kernels too, import ``labs`` from here."""
        for packages in self.folder.glob("lib/python3*/site-packages"):
            (packages / "labs.pth").write_text(f"{self.project}\n", encoding="utf-8")


def _still_unpacking(say: "Progress", done: threading.Event) -> None:
    """Pip is silent while it unpacks; a reader should not be."""
    while not done.wait(UNPACKING_SECONDS):
        say("  still unpacking")


class Progress:
    """Plain lines with the seconds since the command began, before the environment's Python took over included."""

    def __init__(self) -> None:
        self._last = time.time()
        self._began = float(_HANDED_OVER or self._last)

    def __call__(self, line: str) -> None:
        """Print ``line``."""
        self._last = time.time()
        print(f"[{self._last - self._began:4.0f} s] {line}", flush=True)

    def now_and_then(self, line: str) -> None:
        """Print ``line`` unless something was printed a moment ago."""
        if time.time() - self._last > NEWS_SECONDS:
            self(line)


def enter(arguments: Sequence[str], development: bool) -> None:
    """Return inside the complete environment, or do not return: this process becomes its Python.

    With ``LABS_NO_VENV=1`` the running interpreter is used as it is. Raises SetUpError.
    """
    if os.environ.get("LABS_NO_VENV") == "1":
        _need_packages()
        return
    environment = Environment()
    began = time.time()
    if not environment.complete(development):
        with _alone(environment.project):
            if not environment.complete(development):
                say = Progress()
                environment.make(development, say)
                say("The environment is ready")
    _become(environment, arguments, {BEGAN: str(began)})


def enter_if_ready(arguments: Sequence[str]) -> bool:
    """As ``enter``, but install nothing; return False where there is no environment to continue in."""
    if os.environ.get("LABS_NO_VENV") == "1":
        return True
    environment = Environment()
    if not environment.entered and not environment.usable():
        return False
    _become(environment, arguments, {})
    return True


def _become(environment: Environment, arguments: Sequence[str], more: dict[str, str]) -> None:
    if environment.entered:
        return
    sys.stdout.flush()
    variables = {**_clean_environment(), "PYTHONPATH": str(environment.project), **more}
    try:
        os.execve(environment.python, [str(environment.python), "-m", "labs", *arguments], variables)
    except OSError as error:
        raise SetUpError(
            f"{environment.python} does not start ({error.strerror}); remove .venv and try again."
        ) from error


def telling_line(said: str) -> str:
    """Return the line of pip's or venv's output that says best what went wrong."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for pattern in TELLING:
        for line in lines:
            if found := re.search(pattern, line):
                return found[0].removeprefix("ERROR: ")
    return lines[-1] if lines else "it said nothing"


def remedy(line: str) -> str:
    """Return what to do about ``line``, beginning with a space."""
    if "No space left" in line:
        return " Free about 1.5 GB on this disk and run the same command again."
    if "No matching distribution" in line or any(
        word in line for word in ("resolution", "onnection", "Network", "timed")
    ):
        return " Check the network (or PIP_INDEX_URL) and run the same command again."
    return " Run the same command again; `python3 -m labs doctor` looks at the machine."


def _need_packages() -> None:
    missing = [name for name in ("psutil", "psycopg", "redis", "jupyterlab") if importlib.util.find_spec(name) is None]
    if missing:
        raise SetUpError(
            f"LABS_NO_VENV is set and this Python has no {', '.join(missing)}; "
            "install requirements.txt into it or unset LABS_NO_VENV."
        )


def _need_room(project: Path) -> None:
    free = shutil.disk_usage(project).free
    if free < ROOM_NEEDED:
        raise SetUpError(
            f"{project} has {free / 1e9:.1f} GB free and the environment needs {ROOM_NEEDED / 1e9:.1f} GB; "
            "make room first."
        )


def need_venv_module() -> None:
    """Raise SetUpError where this Python cannot make a virtual environment."""
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise SetUpError(
            f"This Python has no `{missing[0]}` module; install it "
            f"(Debian and Ubuntu: `apt install python{version}-venv`) or use Docker: `docker compose up`."
        )


@contextlib.contextmanager
def _alone(project: Path) -> Iterator[None]:
    """Wait for another set-up of the same folder to finish."""
    try:
        import fcntl
    except ImportError:
        raise SetUpError("The workbook runs on Linux and macOS; on Windows use WSL 2 or `docker compose up`.") from None
    path = project / ".labs"
    try:
        path.mkdir(exist_ok=True)
        lock = (path / "setup.lock").open("w")
    except OSError as error:
        raise SetUpError(
            f"{path} cannot be written ({error.strerror}); clone the workbook into a folder you own."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up of this folder is under way: waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in FOREIGN}


def _remove(folder: Path) -> None:
    # A second Ctrl-C must not leave half of it.
    before = None
    with contextlib.suppress(ValueError):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}

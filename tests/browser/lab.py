"""JupyterLab in a real Chromium: what the browser tests share.

A test asks for the fixtures ``lab`` (a running JupyterLab whose folder is a copy of the notebooks) and ``page`` (a
Playwright page on it), then calls ``open_notebook``, ``run_all`` and ``screenshot``.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nbformat

from labs.kit.parentage import die_with_parent

PROJECT = Path(__file__).resolve().parents[2]
SCREENSHOTS = Path(__file__).resolve().parent / "screenshots"
CHROMIUM = os.environ.get("LABS_CHROMIUM", "/usr/bin/chromium")
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
# Chromium drops every connection when the machine's network changes, as it does when a container starts.
LOAD_ATTEMPTS = 3
SETTINGS: dict[str, dict[str, Any]] = {
    # Render every cell: a test asks for cells that a reader has not scrolled to.
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none", "autoStartDefaultKernel": True},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
    "@jupyterlab/docmanager-extension": {"autosave": False},
}


@dataclass
class Lab:
    """A running JupyterLab. ``folder`` is where its notebooks are; ``url`` has no slash at its end."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    def write(self, name: str, *cells: str) -> str:
        """Write a notebook of code cells into the folder; returns its path there."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, self.folder / name)
        return name


@contextlib.contextmanager
def running_lab(folder: Path, private: Path, environment: dict[str, str] | None = None) -> Iterator[Lab]:
    """Start JupyterLab on ``folder`` with its own settings below ``private``; stop it and its kernels at the end."""
    port = free_port()
    for plugin, settings in SETTINGS.items():
        file = private / "settings" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings), encoding="utf-8")
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"),
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        "--ServerApp.password=",
        f"--ServerApp.root_dir={folder}",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.news_url=",
        f"--LabApp.user_settings_dir={private / 'settings'}",
        f"--LabApp.workspaces_dir={private / 'workspaces'}",
    ]
    own = {name: str(private / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    path = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
    surroundings = {**os.environ, "PYTHONPATH": path, **own, **(environment or {})}
    log = private / "jupyterlab.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env=surroundings,
            start_new_session=True,
            # A killed test run leaves nothing behind. The call is one system call, so threads do not matter.
            preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509
        )
    lab = Lab(f"http://127.0.0.1:{port}", folder, process)
    try:
        wait_until_up(lab, log)
        yield lab
    finally:
        stop(process)


def wait_until_up(lab: Lab, log: Path, timeout: float = 90.0) -> None:
    """Wait until JupyterLab answers; raises RuntimeError with its log when it ends or does not come up."""
    give_up = time.monotonic() + timeout
    while time.monotonic() < give_up:
        if lab.process.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{lab.url}/api/status", timeout=5):
            return
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not come up. Its log:\n{log.read_text(errors='replace')[-4000:]}")


def stop(process: subprocess.Popen[bytes], timeout: float = 20.0) -> None:
    """Ask JupyterLab to end, kernels included; kill it when it does not."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    """Return a TCP port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def page_on(chromium: Any, lab: Lab) -> Iterator[Any]:
    """Open a page on ``lab`` in a context of its own; ``page.troubles`` lists what its console called an error."""
    context = chromium.new_context(base_url=lab.url, viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.troubles = []
    page.on("pageerror", lambda error: page.troubles.append(f"{error}\n{error.stack}"))
    page.on("console", lambda message: is_trouble(message) and page.troubles.append(message.text))
    yield page
    context.close()


def is_trouble(message: Any) -> bool:
    """Whether a console message is an error of the page, and not of a network that changed under Chromium."""
    return message.type == "error" and "ERR_NETWORK_CHANGED" not in message.text


def open_notebook(page: Any, path: str, timeout: float = 90.0) -> None:
    """Open the notebook at ``path`` (relative to the lab's folder) and wait until its kernel is idle.

    ``page`` comes from the fixture, which has set its base URL. The side bar is closed, so the notebook has the width.
    """
    from playwright.sync_api import TimeoutError as PlaywrightTimeout

    for attempt in range(1, LOAD_ATTEMPTS + 1):
        try:
            load_notebook(page, path, timeout)
            return
        except PlaywrightTimeout:
            if attempt == LOAD_ATTEMPTS:
                raise


def load_notebook(page: Any, path: str, timeout: float) -> None:
    """Load the page of the notebook at ``path`` and wait until its kernel is idle."""
    page.goto(f"/lab/tree/{path}?reset", timeout=timeout * 1000)
    page.wait_for_function("() => window.jupyterapp !== undefined", timeout=timeout * 1000)
    page.wait_for_function(
        """(path) => {
            const open = [...window.jupyterapp.shell.widgets("main")];
            const notebook = open.find((widget) => widget.context?.path === path);
            if (!notebook?.context.isReady) return false;
            window.labsNotebook = notebook;
            if (document.querySelector("#jupyterlab-splash")) return false;
            return notebook.sessionContext?.session?.kernel?.status === "idle";
        }""",
        arg=path,
        timeout=timeout * 1000,
    )
    page.evaluate(
        """() => {
            window.jupyterapp.shell.collapseLeft();
            window.jupyterapp.shell.activateById(window.labsNotebook.id);
        }"""
    )


def run_all(page: Any, timeout: float = 240.0) -> None:
    """Run every cell and wait until the last has ended; raises AssertionError with what a cell raised."""
    page.evaluate(
        """() => {
            window.jupyterapp.shell.activateById(window.labsNotebook.id);
            window.labsRun = { done: false, failure: null };
            window.jupyterapp.commands.execute("notebook:run-all-cells").then(
                () => { window.labsRun.done = true; },
                (reason) => { window.labsRun = { done: true, failure: String(reason) }; },
            );
        }"""
    )
    page.wait_for_function(
        """() => window.labsRun.done
            && window.labsNotebook.sessionContext.session.kernel.status === "idle" """,
        timeout=timeout * 1000,
        polling=200,
    )
    failure = page.evaluate("() => window.labsRun.failure")
    assert not failure, f"the notebook could not be run: {failure}"
    raised = cell_errors(page)
    assert not raised, f"cells raised: {raised}"


def cell_errors(page: Any) -> list[str]:
    """Return what the cells of the open notebook raised, "NameError: ..."."""
    return page.evaluate(
        """() => window.labsNotebook.content.model.toJSON().cells
            .flatMap((cell) => cell.outputs ?? [])
            .filter((output) => output.output_type === "error")
            .map((output) => `${output.ename}: ${output.evalue}`)"""
    )


def run_code(page: Any, code: str, timeout: float = 60.0) -> str:
    """Run ``code`` in the open notebook's kernel, outside its cells; return what it printed.

    Raises AssertionError with what the code raised.
    """
    return page.evaluate(
        """async ([code, timeout]) => {
            const kernel = window.labsNotebook.sessionContext.session.kernel;
            const future = kernel.requestExecute({ code, store_history: false });
            let printed = "";
            let raised = null;
            future.onIOPub = ({ header, content }) => {
                if (header.msg_type === "stream") printed += content.text;
                if (header.msg_type === "error") raised = `${content.ename}: ${content.evalue}`;
            };
            const late = new Promise((_, reject) => setTimeout(() => reject(new Error("no answer in time")), timeout));
            await Promise.race([future.done, late]);
            if (raised) throw new Error(raised);
            return printed.trim();
        }""",
        [code, timeout * 1000],
    )


def use_theme(page: Any, theme: str, timeout: float = 30.0) -> None:
    """Switch JupyterLab to its "light" or "dark" theme and wait until the page follows."""
    names = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
    page.evaluate("(theme) => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", names[theme])
    # JupyterLab shows its splash screen meanwhile, and stumbles when the next switch comes before it is gone.
    page.wait_for_function(
        "(light) => document.body.dataset.jpThemeLight === light && !document.querySelector('#jupyterlab-splash')",
        arg=str(theme == "light").lower(),
        timeout=timeout * 1000,
    )


def screenshot(page: Any, name: str, width: int = 1400, height: int = 900, selector: str | None = None) -> Path:
    """Save the window at ``width`` pixels, or only what ``selector`` finds first; returns the file's path."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.set_viewport_size({"width": width, "height": height})
    # Two frames: one for the layout that follows the new width, one in which it is painted.
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    path = SCREENSHOTS / f"{name}-{width}.png"
    if selector:
        found = page.locator(selector).first
        found.scroll_into_view_if_needed()
        found.screenshot(path=path, animations="disabled")
    else:
        page.screenshot(path=path, animations="disabled")
    return path

"""A workbook in processes of its own: what the fault tests start, kill and look for afterwards.

Its processes are known by what its keeper wrote down, and their children: never by how a command line reads, which
servers rewrite.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from labs import PROJECT
from labs.stack.processes import alive

PATIENCE = 60.0  # wall seconds: a loaded machine is slow, not wrong

HOLD = """
import json, sys
from labs import stack
up = stack.up()
print(json.dumps({s.name: {"url": s.url, "pid": s.pid, "origin": s.origin} for s in up.services}), flush=True)
sys.stdin.readline()
"""


def until(true: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait until ``true()`` is, and return its value; fail saying ``what`` did not happen."""
    deadline = time.monotonic() + patience
    while not (value := true()):
        assert time.monotonic() < deadline, f"not within {patience:.0f} s: {what}"
        time.sleep(0.1)
    return value


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that still run; a zombie does not."""
    return [process for process in processes if _runs(process)]


def until_gone(processes: list[psutil.Process]) -> None:
    """Wait until none of ``processes`` runs."""
    assert processes
    until(lambda: not running(processes), f"the end of {processes}")


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


class Holder:
    """A process with a lease, as a notebook kernel is one."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process
        line = process.stdout.readline()
        assert line, f"the holder did not get its servers: {process.communicate()[1]}"
        self.stack: dict[str, dict[str, Any]] = json.loads(line)

    def kill(self) -> None:
        """End it by SIGKILL: it gets no chance to say goodbye."""
        self.process.kill()
        self.process.wait()

    def leave(self) -> None:
        """Let it end by itself."""
        self.process.communicate("\n", timeout=PATIENCE)


class Workbook:
    """One home, and the processes that use it.

    ``like``: another home whose data folder to start from, which saves the making of one.
    """

    def __init__(self, like: Path | None = None) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="labs-", dir="/tmp")).resolve()
        self._started: list[subprocess.Popen] = []
        if like is not None:
            (self.home / "stack").mkdir()
            copied = [like / "stack" / name for name in ("postgres", "secret.json")]
            subprocess.run(["cp", "-a", *copied, self.home / "stack"], check=True)

    def __enter__(self) -> "Workbook":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()
            process.communicate()
        if keeper := self.keeper():
            keeper.terminate()
        everything = self.processes()
        until(lambda: not running([*everything, *self.processes()]), "the end of the workbook")
        shutil.rmtree(self.home, ignore_errors=True)

    def environment(self, **more: str) -> dict[str, str]:
        """Return the variables its processes run with: embedded servers unless ``more`` says otherwise."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LABS_")}
        own = {"LABS_HOME": str(self.home), "LABS_SERVICES": "embedded", "LABS_NO_VENV": "1"}
        return {**kept, **own, "PYTHONPATH": str(PROJECT), **more}

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen:
        """Start ``python ARGUMENTS`` with pipes for its three streams."""
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(**variables),
            cwd=PROJECT,
        )
        self._started.append(process)
        return process

    def hold(self, **variables: str) -> Holder:
        """Start a process that attaches to the servers and keeps its lease."""
        return Holder(self.start("-c", HOLD, **variables))

    def run(self, code: str, **variables: str) -> subprocess.CompletedProcess:
        """Run Python ``code`` to its end."""
        return self._to_the_end("-c", code, **variables)

    def labs(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
        """Run ``python -m labs ARGUMENTS`` to its end."""
        return self._to_the_end("-m", "labs", *arguments, **variables)

    def _to_the_end(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
            env=self.environment(**variables),
            cwd=PROJECT,
        )

    def keeper(self) -> psutil.Process | None:
        """Return its keeper, if there is one."""
        return alive(self._read("keeper.json").get("keeper"))

    def servers(self) -> list[psutil.Process]:
        """Return its keeper and the servers it wrote down, which stay; their children come and go."""
        return _known([self._read("keeper.json").get("keeper"), *self._read("servers.json").get("servers", [])])

    def processes(self) -> list[psutil.Process]:
        """Return the processes of this home: its keeper, the servers it wrote down, JupyterLab, and their children."""
        session = self._read("session.json")
        found = [*self.servers(), *_known([session.get("owner"), session.get("jupyter")])]
        for process in list(found):
            try:
                found += [child for child in process.children(recursive=True) if child not in found]
            except psutil.Error:
                continue
        return found

    def _read(self, name: str) -> dict[str, Any]:
        try:
            return json.loads((self.home / "stack" / name).read_text())
        except (OSError, ValueError):
            return {}


def _known(identities: list[dict[str, float] | None]) -> list[psutil.Process]:
    return [process for known in identities if (process := alive(known))]

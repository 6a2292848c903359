"""The owner's side of the zygote: one warmed parent for each process that runs labs, used by all its fleets."""

import atexit
import contextlib
import itertools
import json
import os
import signal as signals
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from labs import PROJECT


class LaunchError(RuntimeError):
    """A process could not be started; the sentence says which and why."""


class Process:
    """One process of the system: its ``name``, ``pid``, ``log`` file and, once it has ended, its ``status``."""

    def __init__(self, name: str, pid: int, log: Path) -> None:
        self.name = name
        self.pid = pid
        self.log = log
        self.started = time.time()
        self.status: int | None = None
        self._ended = threading.Event()

    @property
    def alive(self) -> bool:
        """Whether the process has not ended yet."""
        return not self._ended.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to ``timeout`` wall seconds for the end; return whether it came."""
        return self._ended.wait(timeout)

    def ended(self, status: int) -> None:
        """Note the end: ``status`` is the exit code, or minus the number of the signal."""
        self.status = status
        self._ended.set()

    def tail(self, lines: int = 8) -> str:
        """Return the last ``lines`` lines of the log."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.strip().splitlines()[-lines:])

    def __repr__(self) -> str:
        return f"<Process {self.name}, pid {self.pid}, {'alive' if self.alive else f'ended with {self.status}'}>"


class Launcher:
    """Starts the zygote, asks it to fork, and hears of every end."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        environment = dict(os.environ)
        # macOS refuses to go on after a fork in a process that touched Objective-C, unless told that this is meant.
        environment["OBJC_DISABLE_INITIALIZE_FORK_SAFETY"] = "YES"
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "labs.kit.zygote", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self._socket = ours
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self._answered = threading.Condition()
        self._processes: dict[int, tuple[Process, Callable[[Process], None] | None]] = {}
        self._early: dict[int, int] = {}
        self._unwanted: set[int] = set()
        self._discarded: set[int] = set()
        self.ready = threading.Event()
        self.gone = threading.Event()
        threading.Thread(target=self._listen, name="labs launcher", daemon=True).start()

    @property
    def pid(self) -> int:
        """The zygote's process id."""
        return self._zygote.pid

    def start(
        self,
        name: str,
        module: str,
        args: Sequence[str] = (),
        env: dict[str, str] | None = None,
        log: Path | None = None,
        probe: bool = False,
        started: Callable[[Process], None] | None = None,
        ended: Callable[[Process], None] | None = None,
        timeout: float = 60.0,
    ) -> Process:
        """Run ``python -m module args`` in a fork of the warmed parent, in a process group of its own.

        ``env`` is the whole environment (this process' own by default). ``started`` is called as soon as the process
        has an id, ``ended`` after that, from another thread, when it has ended. Raises LaunchError when there is no
        answer within ``timeout`` wall seconds (the first start waits for the libraries to load).
        """
        log = Path(os.devnull) if log is None else log
        number = next(self._ids)
        self._send(
            {
                "op": "start", "id": number, "name": name, "module": module, "args": [str(part) for part in args],
                "env": dict(os.environ) if env is None else env, "cwd": str(PROJECT), "log": str(log), "probe": probe,
            }
        )  # fmt: skip
        with self._answered:
            answer = self._wait_for_answer(number, timeout)
            if answer is None:
                raise LaunchError(f"{name}: the process that forks the fleet did not answer; restart the kernel.")
            if "error" in answer:
                raise LaunchError(f"{name}: {answer['error']}; close other programs and run the cell again.")
            process = Process(name, answer["pid"], log)
            if started is not None:
                started(process)
            status = self._early.pop(process.pid, None)
            if status is None:
                self._processes[process.pid] = (process, ended)
        if status is not None:
            self._end(process, ended, status)
        return process

    def _wait_for_answer(self, number: int, timeout: float) -> dict[str, Any] | None:
        """Return the answer to request ``number``. A process that nobody waited for to the end is killed when it comes.

        That happens when the reader interrupts the kernel in mid-start.
        """
        waited = False
        try:
            self._answered.wait_for(lambda: number in self._answers or self.gone.is_set(), timeout)
            waited = True
        finally:
            answer = self._answers.pop(number, None)
            if answer is None:
                self._unwanted.add(number)
            elif not waited:
                self._discard(answer)
        return answer

    def _discard(self, answer: dict[str, Any]) -> None:
        if "pid" in answer:
            self._discarded.add(answer["pid"])
            self._send({"op": "signal", "pid": answer["pid"], "signal": int(signals.SIGKILL)})

    def signal(self, process: Process, number: int) -> None:
        """Send signal ``number`` to the process and everything in its group."""
        if process.alive:
            self._send({"op": "signal", "pid": process.pid, "signal": int(number)})

    def preload(self, modules: Iterable[str]) -> None:
        """Have libraries loaded before the next fork. Not for modules of a system: the probe must come before those."""
        self._send({"op": "import", "modules": list(modules)})

    def close(self) -> None:
        """Let go of the zygote: it kills what is left and exits."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._zygote.wait(timeout=10)

    def _send(self, message: dict[str, Any]) -> None:
        try:
            with self._lock:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise LaunchError("The process that forks the fleet is gone; run the cell again.") from error

    def _listen(self) -> None:
        try:
            with self._socket.makefile("rb") as lines:
                for line in lines:
                    self._hear(json.loads(line))
        except (OSError, ValueError):
            pass
        self._lost()

    def _hear(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self.ready.set()
        elif "exited" in message:
            with self._answered:
                found = self._processes.pop(message["exited"], None)
                if found is None and message["exited"] not in self._discarded:
                    self._early[message["exited"]] = message["status"]
                self._discarded.discard(message["exited"])
            if found is not None:
                self._end(*found, message["status"])
        elif message["id"] in self._unwanted:
            self._unwanted.discard(message["id"])
            self._discard(message)
        else:
            with self._answered:
                self._answers[message["id"]] = message
                self._answered.notify_all()

    def _end(self, process: Process, ended: Callable[[Process], None] | None, status: int) -> None:
        process.ended(status)
        if ended is not None:
            with contextlib.suppress(Exception):
                ended(process)

    def _lost(self) -> None:
        """The zygote is gone. It has swept on its way out unless it was killed: the groups it left are killed here."""
        with self._answered:
            self.gone.set()
            left = list(self._processes.values())
            self._processes.clear()
            self._answered.notify_all()
        for process, ended in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signals.SIGKILL)
            self._end(process, ended, -signals.SIGKILL)


_lock = threading.Lock()
_launcher: Launcher | None = None
_owner: int | None = None


def launcher() -> Launcher:
    """Return this process' launcher, starting the zygote at the first call (again if it is gone).

    Calling it early, before the first fleet, lets the libraries load while the reader still reads.
    """
    global _launcher, _owner
    with _lock:
        if _launcher is None or _owner != os.getpid() or _launcher.gone.is_set():
            _launcher, _owner = Launcher(), os.getpid()
        return _launcher


@atexit.register
def _close() -> None:
    if _launcher is not None and _owner == os.getpid():
        _launcher.close()

"""The warmed parent: ``python -m labs.kit.zygote FD`` loads the libraries once and forks processes on request.

Starting Python with Flask, SQLAlchemy and OpenTelemetry costs about a second of processor time; a fork of a process
that has them loaded costs milliseconds. So a fleet of 40 is up in seconds on two cores.

The owner (a notebook kernel, a test) talks to it over a socket pair, one JSON object a line:

    owner -> zygote   {"op": "start", "id", "name", "module", "args", "env", "cwd", "log", "probe"}
                      {"op": "signal", "pid", "signal"}           to the whole process group
                      {"op": "import", "modules"}                 load more libraries before the next fork
    zygote -> owner   {"ready": pid} · {"id", "pid"} · {"id", "error"} · {"exited": pid, "status": n}

The end of the owner, SIGKILL included, closes the socket; the zygote then kills every group and descendant and exits.
It stays single threaded: a fork copies only the calling thread, and a lock held by another would stay locked for ever.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from labs.kit import parentage

PRELOAD = (
    "aiohttp.web",
    "celery.apps.worker",
    "celery.bin.worker",
    "celery.concurrency.prefork",
    "flask",
    "gunicorn.app.wsgiapp",
    "gunicorn.workers.gthread",
    "jwt",
    "kombu.transport.redis",
    "labs.kit.arrivals",
    "labs.kit.control",
    "labs.kit.lines",
    "labs.kit.live",
    "labs.kit.probe_spans",
    "labs.kit.samplers",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.instrumentation.celery",
    "opentelemetry.instrumentation.flask",
    "opentelemetry.instrumentation.requests",
    "opentelemetry.instrumentation.sqlalchemy",
    "psutil",
    "psycopg",
    "redis.asyncio",
    "requests",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.orm",
)
"""Libraries loaded before the first fork; the ones that are not installed are left out."""


class Zygote:
    """Forks children on request and reports their end. ``serve`` returns only in a child, with what it has to run."""

    def __init__(self, owner: socket.socket) -> None:
        self._owner = owner
        self._owner_pid = os.getppid()
        self._children: dict[int, str] = {}
        self._unread = b""
        self._adopts = parentage.adopt_orphans()
        self._wake_read, self._wake_write = os.pipe()
        for descriptor in (self._wake_read, self._wake_write):
            os.set_blocking(descriptor, False)

    def serve(self) -> dict[str, Any]:
        """Answer the owner until it is gone; in a forked child, return its request."""
        # The byte written for each signal wakes the selector, so a child's end is told at once.
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._finish())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._tell({"ready": os.getpid()})
        selector = selectors.DefaultSelector()
        selector.register(self._owner, selectors.EVENT_READ)
        selector.register(self._wake_read, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select(timeout=1.0)}
            # A copy of the owner's socket in another fork of it would hide its end, so its process id is looked at too.
            if os.getppid() != self._owner_pid:
                self._finish()
            if self._wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
            self._reap()
            if self._owner in ready:
                for request in self._requests():
                    mine = self._handle(request)
                    if mine is not None:
                        selector.close()
                        return mine

    def _requests(self) -> list[dict[str, Any]]:
        received = self._owner.recv(65536)
        if not received:
            self._finish()
        *lines, self._unread = (self._unread + received).split(b"\n")
        return [json.loads(line) for line in lines]

    def _handle(self, request: dict[str, Any]) -> dict[str, Any] | None:
        if request["op"] == "import":
            preload(request["modules"])
        elif request["op"] == "signal":
            self._signal_group(request["pid"], request["signal"])
        elif request["op"] == "start":
            return self._fork(request)
        return None

    def _fork(self, request: dict[str, Any]) -> dict[str, Any] | None:
        try:
            pid = os.fork()
        except OSError as error:
            self._tell({"id": request["id"], "error": f"fork failed: {error}"})
            return None
        if pid == 0:
            self._become_child(request)
            return request
        # Both sides set the group, so that a signal sent right after the fork finds it.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        self._children[pid] = request["name"]
        self._tell({"id": request["id"], "pid": pid})
        return None

    def _become_child(self, request: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        zygote = os.getppid()
        for descriptor in (self._wake_read, self._wake_write):
            os.close(descriptor)
        self._owner.close()
        parentage.die_with_parent(zygote)
        parentage.forks_die_with_parent()
        parentage.show_name(request["name"])
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        os.close(log)

    def _reap(self) -> None:
        while (found := _next_dead()) is not None:
            pid, status = found
            name = self._children.pop(pid, None)
            if name is not None:
                self._tell({"exited": pid, "status": status})
        # Only Linux adopts: a child of ours that we did not start lost its own parent, and may have left its group.
        if self._adopts:
            for orphan in _own_children():
                if orphan not in self._children:
                    _kill(orphan)

    def _signal_group(self, pid: int, number: int) -> None:
        # Only groups whose leader has not been reaped: the number may belong to somebody else by now.
        if pid in self._children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, number)

    def _tell(self, message: dict[str, Any]) -> None:
        try:
            self._owner.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self._finish()

    def _finish(self) -> None:
        """Kill all that was started, whatever group it is in by now, and exit."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        until = time.monotonic() + 5.0
        left = _descendants()
        for pid in list(self._children):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        while left and time.monotonic() < until:
            for pid in left:
                _kill(pid)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.01)
            left = _descendants()
        os._exit(0)


def _next_dead() -> tuple[int, int] | None:
    """Reap one dead child and the rest of its group; return its process id and exit code (negative: signal)."""
    try:
        if hasattr(os, "waitid"):
            # Seen but not reaped yet, the process id still is the child's: nobody else can be hit by the signal.
            seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if seen is None:
                return None
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(seen.si_pid, signal.SIGKILL)
            pid, status = os.waitpid(seen.si_pid, 0)
        else:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return None
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
    except ChildProcessError:
        return None
    return pid, os.waitstatus_to_exitcode(status)


def _own_children() -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        import psutil

        return [child.pid for child in psutil.Process().children()]


def _descendants() -> list[int]:
    import psutil

    alive = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                alive.append(child.pid)
    return alive


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def preload(modules: list[str] | tuple[str, ...]) -> None:
    """Import ``modules``; one that is not installed is left out, since the process that needs it will say so."""
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)


def run(request: dict[str, Any]) -> None:
    """Run ``request["module"]`` in this process as ``python -m`` would."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    time.tzset()
    sys.path[0] = request["cwd"]
    for folder in reversed(os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        if folder and folder not in sys.path:
            sys.path.insert(1, folder)
    sys.argv = [request["module"], *request["args"]]
    if request["probe"]:
        from labs.kit import probe

        probe.attach()
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def main() -> None:
    """Serve the owner on the socket whose descriptor is the first argument."""
    owner = socket.socket(fileno=int(sys.argv[1]))
    preload(PRELOAD)
    # What is loaded by now is never collected, so the collector of a child does not copy the parent's pages.
    gc.collect()
    gc.freeze()
    # Returns only in a child, with the stack of the zygote unwound: the child then ends as any Python program does.
    run(Zygote(owner).serve())


if __name__ == "__main__":
    main()

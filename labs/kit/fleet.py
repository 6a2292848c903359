"""The fleet: the system's pods as real processes, started, stopped, killed and restarted.

A whole run, from an empty folder to a recording:

    from labs.kit import control
    from labs.kit.fleet import Fleet, free_port
    from labs.kit.recorder import Recorder

    with Recorder(run_dir, postgres_url=stack.postgres.url) as recorder, Fleet(run_dir, recorder) as fleet:
        recorder.describe("power-user fan-out", {"pool_size": 20}, clock="15:20:50")
        port = free_port()
        fleet.gunicorn("api-1", "team.api:app", port, threads=64, env={"DATABASE_URL": stack.postgres.url})
        fleet.wait_for_port("127.0.0.1", port, process="api-1")
        control.write(run_dir / "traffic.json", {"targets": [f"http://127.0.0.1:{port}"], "streams": {...}})
        fleet.start("traffic", "labs.kit.traffic", [run_dir / "traffic.json"])
        time.sleep(5)
        fleet.stop("traffic")
        fleet.finish()                       # every span is in, also of requests that are still open
        fleet.kill("api-1")
"""

import contextlib
import os
import signal as signals
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from labs.kit import control
from labs.kit.launcher import LaunchError, Process, launcher
from labs.kit.lines import LineSender
from labs.kit.probe_halts import AFTER
from labs.kit.recorder import Recorder, token


class FleetError(ValueError):
    """A fleet was asked for something it cannot do; the sentence names what and the remedy."""


@dataclass(frozen=True)
class Start:
    """How a process was started, so that it can be started again."""

    module: str
    args: tuple[str, ...]
    env: dict[str, str] = field(repr=False)
    probe: bool


class Fleet:
    """The processes of one run. Their logs are in ``run_dir/logs/NAME.log``.

    ``recorder`` hears of every start and end, and the probes report to it. ``preload``: libraries to load before the
    first fork, besides the usual ones. Use it as a context manager: on the way out nothing is left running.
    """

    def __init__(self, run_dir: Path, recorder: Recorder | None = None, preload: Sequence[str] = ()) -> None:
        self.run_dir = Path(run_dir)
        self.recorder = recorder
        self.probe_control = self.run_dir / "probe.json"
        self._processes: dict[str, Process] = {}
        self._starts: dict[str, Start] = {}
        self._ending: dict[int, str] = {}
        self._loops: list[CrashLoop] = []
        self._probe_values: dict[str, Any] = {"db_latency": 0.0}
        self._lock = threading.RLock()
        (self.run_dir / "logs").mkdir(parents=True, exist_ok=True)
        self._launcher = launcher()
        if preload:
            self._launcher.preload(preload)
        self._lines = LineSender(recorder.lines if recorder else None, every=0.05)
        self.tell_probes()

    # Start and stop

    def start(
        self, name: str, module: str, args: Sequence[object] = (), env: Mapping[str, object] | None = None,
        probe: bool = False,
    ) -> Process:  # fmt: skip
        """Start ``python -m module args`` as ``name``, with ``env`` added to this process' environment.

        ``probe`` attaches the lab's probe before the module runs. Raises FleetError when ``name`` is running already,
        LaunchError when the process cannot be forked.
        """
        with self._lock:
            if self.alive(name):
                raise FleetError(f"{name} is running already; stop it, or give the new process another name.")
            variables = {key: str(value) for key, value in (env or {}).items()}
            start = Start(module, tuple(str(part) for part in args), variables, probe)
            self._starts[name] = start
            return self._launcher.start(
                name, module, start.args, self._environment(name, start), self.run_dir / "logs" / f"{name}.log",
                probe, self._started, self._ended,
            )  # fmt: skip

    def gunicorn(
        self, name: str, app: str, port: int, threads: int = 64, env: Mapping[str, object] | None = None,
        probe: bool = True, workers: int = 1,
    ) -> Process:  # fmt: skip
        """Start ``gunicorn app`` ("package.module:attribute") with ``threads`` threads on 127.0.0.1:``port``."""
        args = [
            app, "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", "--workers", workers,
            "--threads", threads, "--graceful-timeout", 1, "--timeout", 0, "--backlog", 2048,
            "--no-control-socket", "--log-level", "warning",
        ]  # fmt: skip
        return self.start(name, "gunicorn", args, env, probe)

    def celery(
        self, name: str, app: str, concurrency: int = 1, env: Mapping[str, object] | None = None, probe: bool = True,
        args: Sequence[object] = (),
    ) -> Process:  # fmt: skip
        """Start a Celery worker of ``app`` ("package.module") with ``concurrency`` prefork children.

        It logs warnings and errors; with ``CELERY_WORKER_LOGLEVEL=INFO`` in ``env`` also what it does.
        """
        command = [
            "-A", app, "worker", "--pool", "prefork", "--concurrency", concurrency,
            "--hostname", f"{name}@labs", *args,
        ]  # fmt: skip
        return self.start(name, "celery", command, env, probe)

    def stop(self, *names: str, grace: float = 3.0) -> None:
        """Ask processes (all if none is named) to end, by SIGTERM; kill those that linger past ``grace`` seconds."""
        self._end(names, signals.SIGTERM, "stopped", grace)

    def kill(self, *names: str, signal: int = signals.SIGKILL) -> None:
        """Send ``signal`` to processes and all they started, all of them if none is named; wait for their end.

        A signal that ends nothing (SIGSTOP, say) is sent and not waited for.
        """
        fatal = signal in (signals.SIGKILL, signals.SIGTERM, signals.SIGINT, signals.SIGQUIT, signals.SIGABRT)
        self._end(names, signal, "killed", 3.0 if fatal else 0.0)

    def restart(self, name: str, grace: float = 3.0) -> Process:
        """Stop ``name`` and start it again as it was started."""
        with self._lock:
            start = self._known(name)
            self.stop(name, grace=grace)
            return self.start(name, start.module, start.args, start.env, start.probe)

    def crash_loop(self, name: str, up: float = 1.0, down: float = 0.5, times: int | None = None) -> "CrashLoop":
        """Kill ``name`` after ``up`` wall seconds, start it after ``down`` more; ``times`` times, or for ever.

        Returns the loop; its ``stop()`` leaves the process as it is then.
        """
        self._known(name)
        loop = CrashLoop(self, name, up, down, times)
        self._loops.append(loop)
        return loop

    def close(self) -> None:
        """Kill all that runs. Safe to call twice."""
        for loop in self._loops:
            loop.stop()
        with contextlib.suppress(LaunchError):
            self.kill()
        self._lines.close()

    # Look

    def alive(self, name: str) -> bool:
        """Whether ``name`` runs."""
        process = self._processes.get(name)
        return process is not None and process.alive

    @property
    def names(self) -> list[str]:
        """The names of the processes that run."""
        return [name for name in list(self._processes) if self.alive(name)]

    def __getitem__(self, name: str) -> Process:
        self._known(name)
        return self._processes[name]

    def wait_for_port(self, host: str, port: int, timeout: float = 60.0, process: str | None = None) -> None:
        """Wait until something accepts connections there; ``process`` is who should.

        Raises FleetError after ``timeout`` wall seconds, or at once with the end of its log when ``process`` died.
        """
        until = time.monotonic() + timeout
        while True:
            try:
                socket.create_connection((host, port), timeout=1.0).close()
                return
            except OSError:
                pass
            if process is not None and not self.alive(process):
                raise FleetError(f"{process} ended before it listened on port {port}:\n{self[process].tail()}")
            if time.monotonic() > until:
                raise FleetError(f"Nothing listens on {host}:{port} after {timeout:g} s; see {self.run_dir}/logs.")
            time.sleep(0.01)

    # Probes

    def tell_probes(self, **values: Any) -> None:
        """Change what the probes do; what is not named stays as it is.

        ``db_latency``: wall seconds added to each SQL round trip, within 0.1 s. ``halt``: {"after": "commit", "by":
        the name of a request or task}, or None. The next thread that serves it and has committed what it wrote tells
        the recorder (``live()["halted"]``) and stands still, until ``halt`` changes, its process ends or 60 wall
        seconds have passed. The order holds for every commit that begins after this returns, for one thread of one
        process, once; also a pod that is started again does not stop for it. Each call with ``halt`` is a new order.
        Raises FleetError for a ``halt`` that is none.
        """
        if values.get("halt") is not None:
            values["halt"] = _halt_order(values["halt"])
        with self._lock:
            self._probe_values.update(values)
            control.write(self.probe_control, self._probe_values)

    def finish(self, timeout: float = 60.0) -> list[str]:
        """Have every probe end its open spans as cut off and send all it has; return the names of those that did.

        After this the pods can be killed without losing a trace. The probes then record no further spans: it is the
        end of the run. Raises RecorderError when one does not answer within ``timeout`` wall seconds.
        """
        if self.recorder is None:
            raise FleetError("A fleet without a recorder has nobody to send its last spans to; give it one.")
        mark = token()
        probed = [name for name in self.names if self._starts[name].probe]
        self.tell_probes(finish=mark)
        try:
            return self.recorder.wait_finished(mark, probed, timeout)
        finally:
            # A pod that is started later must not take the order for itself.
            with self._lock:
                self._probe_values.pop("finish", None)
            self.tell_probes()

    # Inside

    def _known(self, name: str) -> Start:
        if name not in self._starts:
            known = ", ".join(self._starts) or "none so far"
            raise FleetError(f"There is no process {name!r} in this fleet; there is {known}.")
        return self._starts[name]

    def _environment(self, name: str, start: Start) -> dict[str, str]:
        added = {"PYTHONUNBUFFERED": "1"}
        if self.recorder is not None:
            added |= {"LABS_RECORDER": self.recorder.lines, "LABS_OTLP": self.recorder.otlp}
        if start.probe:
            added |= {"LABS_POD": name, "LABS_PROBE_CONTROL": str(self.probe_control)}
        return {**os.environ, **added, **start.env}

    def _end(self, names: Sequence[str], signal: int, event: str, grace: float) -> None:
        for name in names:
            self._known(name)
        ending = [self._processes[name] for name in names or self.names if self.alive(name)]
        for process in ending:
            if grace:
                self._ending[process.pid] = event
            self._launcher.signal(process, signal)
        until = time.monotonic() + grace
        for process in ending:
            process.wait(max(0.0, until - time.monotonic()))
        lingering = [process for process in ending if grace and process.alive]
        for process in lingering:
            self._launcher.signal(process, signals.SIGKILL)
        for process in lingering:
            process.wait(5.0)

    def _started(self, process: Process) -> None:
        self._processes[process.name] = process
        self._tell(process.name, "started", process.pid)

    def _ended(self, process: Process) -> None:
        self._tell(process.name, self._ending.pop(process.pid, "exited"), process.pid)

    def _tell(self, name: str, event: str, pid: int) -> None:
        self._lines.send({"kind": "fleet", "at": time.time(), "name": name, "event": event, "pid": pid})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class CrashLoop:
    """Kills and restarts one process over and over, from a thread."""

    def __init__(self, fleet: Fleet, name: str, up: float, down: float, times: int | None) -> None:
        self._fleet = fleet
        self._name = name
        self._up = up
        self._down = down
        self._times = times
        self._stop = threading.Event()
        self.crashes = 0
        self._thread = threading.Thread(target=self._run, name=f"labs crash loop {name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        start = self._fleet._known(self._name)
        with contextlib.suppress(LaunchError, FleetError):
            while (self._times is None or self.crashes < self._times) and not self._stop.wait(self._up):
                self._fleet.kill(self._name)
                self.crashes += 1
                if self._stop.wait(self._down):
                    return
                self._fleet.start(self._name, start.module, start.args, start.env, start.probe)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the last crash and restart; return whether it came."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """End the loop."""
        self._stop.set()
        self._thread.join(10.0)


def _halt_order(halt: Any) -> dict[str, str]:
    """Return ``halt`` with a token of its own."""
    if not isinstance(halt, Mapping) or set(halt) != {"after", "by"} or halt["after"] not in AFTER:
        moments = " or ".join(f'"{moment}"' for moment in AFTER)
        raise FleetError(f'halt is {halt!r}; it can be None or {{"after": {moments}, "by": a request or task}}.')
    return {"after": halt["after"], "by": str(halt["by"]), "order": token()}


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

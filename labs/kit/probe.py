"""The probe: what the lab attaches, from outside, to a process of the system under study.

The system's code knows nothing of it. ``attach()`` runs before the system's own module is imported; it instruments
the libraries with OpenTelemetry, watches the connection pool, and reports ten times a second to the recorder. Settings
come from the environment:

    LABS_RECORDER       host:port of the recorder's line socket
    LABS_OTLP           where the spans go, http://host:port/v1/traces
    LABS_POD            the process' name in the recording
    LABS_PROBE_CONTROL  a control file: {"db_latency": wall seconds added to each statement's round trip,
                        "halt": {"after": "commit", "by": a request or task, "order": a token}; stop one there,
                        "finish": a token; end open spans, send everything, and say so}
    LABS_TRACE          "off" leaves out the recording of spans, to measure what tracing costs

It survives forks: whatever needs a thread starts in the process that serves. Of several workers forked from one
process the first is named as the process, the next "name.2", "name.3".
"""

import atexit
import contextlib
import os
import sys
import threading
import time
from typing import Any

from labs.kit import control
from labs.kit.lines import LineSender
from labs.kit.probe_halts import Halts
from labs.kit.probe_pool import PoolWatch
from labs.kit.probe_spans import Spans
from labs.kit.probe_statements import Statements

EVERY = 0.1
AT_LEAST_EVERY = 1.0
MOST_WORKERS = 512


class Probe:
    """One process' probe. Asleep until the process serves something; then it reports from a thread."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._recorder = environ.get("LABS_RECORDER")
        self._name = environ.get("LABS_POD", f"pid {os.getpid()}")
        self._control = environ.get("LABS_PROBE_CONTROL")
        exported = environ.get("LABS_TRACE", "on") != "off"
        self.spans = Spans(self._name, environ.get("LABS_OTLP"), exported)
        tracer = self.spans.tracer if self.spans.switch.exported else None
        self.pools = PoolWatch(self.spans.kept.by, self._tell, tracer, self.wake)
        self.statements = Statements()
        self.halts = Halts(self.spans.kept.by, self._control, self._tell_at_once)
        self.spans.kept.entered = self.wake
        self._reset()

    def install(self) -> None:
        """Attach to the libraries. What is not installed is not watched; the system runs either way."""
        self.spans.install()
        for watch in (self.pools, self.statements, self.halts):
            with contextlib.suppress(ImportError):
                watch.install()
        os.register_at_fork(after_in_child=self._after_fork)
        atexit.register(self._close)

    def wake(self) -> None:
        """Start to report, the first time that this process serves something."""
        if self._awake:
            return
        with self._waking:
            if not self._awake:
                self._pod = self._claim_name()
                if self._control is not None:
                    self._watcher = control.Watcher(self._control)
                self._lines = LineSender(self._recorder, EVERY, self._tick, {"kind": "hello", "pod": self._pod})
                self._awake = True

    def _reset(self) -> None:
        self._awake = False
        self._waking = threading.Lock()
        self._pod = self._name
        self._lines: LineSender | None = None
        self._watcher: control.Watcher | None = None
        self._last: tuple[float, Any] = (0.0, None)
        self._told_statements = 0.0
        self._finished: str | None = None

    def _after_fork(self) -> None:
        self._reset()
        self.pools.after_fork()
        self.statements.after_fork()
        self.halts.after_fork()

    def _close(self) -> None:
        if self._lines is not None:
            with contextlib.suppress(Exception):
                self._tick()
            self._lines.close()

    def _claim_name(self) -> str:
        """Return this worker's name: the first free number among the living ones of the same process.

        A lock on one byte of a shared file stands for each number; the system frees it when its holder dies.
        """
        if self._control is None:
            return self._name
        import fcntl

        self._names = open(f"{self._control}.{self._name}.workers", "ab")  # noqa: SIM115 (held while the process lives)
        for number in range(MOST_WORKERS):
            with contextlib.suppress(OSError):
                fcntl.lockf(self._names, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
                return self._name if number == 0 else f"{self._name}.{number + 1}"
        return f"{self._name}.{os.getpid()}"

    # Reporting

    def _tell(self, line: dict[str, Any]) -> None:
        if self._lines is not None:
            self._lines.send({"kind": line["kind"], "pod": self._pod, **line})

    def _tell_at_once(self, line: dict[str, Any]) -> None:
        self._tell(line)
        if self._lines is not None:
            self._lines.flush()

    def _tick(self) -> None:
        """One round, in the sending thread: look at the control file, take a snapshot."""
        self._obey()
        now = time.time()
        pool = self.pools.snapshot() or {"size": 0, "max_overflow": 0, "slots": [], "waiting": []}
        pool["serving"] = len(self.spans.kept.serving)
        if pool != self._last[1] or now - self._last[0] >= AT_LEAST_EVERY:
            self._last = (now, pool)
            self._tell({"kind": "pool", "at": now, **pool})
        if self.statements.changed and now - self._told_statements >= AT_LEAST_EVERY:
            self._tell_statements(now)

    def _tell_statements(self, now: float) -> None:
        self._told_statements = now
        self._tell({"kind": "statements", "at": now, "rows": self.statements.rows()})

    def _obey(self) -> None:
        values = self._watcher.changed() if self._watcher is not None else None
        if values is None:
            return
        self.statements.latency = float(values.get("db_latency") or 0.0)
        token = values.get("finish")
        if token and token != self._finished:
            self._finished = token
            self.spans.finish()
            self._tell_statements(time.time())
            self._tell({"kind": "finished", "token": token, "at": time.time()})


_probe: Probe | None = None


def attach() -> Probe | None:
    """Attach the probe to this process, once, as the environment says. Returns it, or None if it could not be.

    A probe that fails must not take the system down: the reason goes to standard error.
    """
    global _probe
    if _probe is None:
        try:
            probe = Probe(dict(os.environ))
            probe.install()
            _probe = probe
        except Exception as error:
            print(f"labs probe: not attached: {type(error).__name__}: {error}", file=sys.stderr)
    return _probe

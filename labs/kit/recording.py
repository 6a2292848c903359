"""A recording: everything that was observed in one run, on one clock.

Times are incident seconds since the run's start, durations are incident seconds, whatever the speed of the replay.
Every series is empty, never missing, when the run died before anything was seen.
"""

import json
import math
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from labs.kit.clock import Clock
from labs.kit.history import Columns, Holds, PoolHistory, Requests, Statements, process_of, step_sum
from labs.kit.traces import Traces


class RecordingError(ValueError):
    """A run's folder cannot be read. The message is one sentence."""


class Recording:
    """What one run left behind. Open it with ``Recording.open(folder)``.

    ``name``: the folder's name. ``incident``: which lab it belongs to. ``knobs``: the run's inputs by name.
    ``speed``: incident seconds a wall second. ``seconds``: the run's length. ``cores``: of the machine it ran on.
    """

    def __init__(self, run_dir: Path, run: dict[str, Any], events: dict[str, list[dict[str, Any]]]) -> None:
        self.folder = run_dir
        self.name = str(run.get("label") or run_dir.name)
        self.incident: str = run.get("incident", "")
        self.knobs: dict[str, Any] = run.get("knobs") or {}
        self.speed = float(run.get("speed") or 1.0)
        self.cores = int(run.get("cores") or os.cpu_count() or 1)
        self._times = [when for lines in events.values() for line in lines if (when := _when(line))]
        started = float(run.get("started") or min(self._times, default=0.0))
        self.clock = Clock(self.speed, started, run.get("clock") or "00:00:00")
        self._events = events
        self._ended = run.get("ended")
        self.culprit: str | None = None
        """The endpoint that charts set apart, where the lab knows it; else the one that held connections longest."""

    @classmethod
    def open(cls, run_dir: Path | str, pods: str = "") -> Self:
        """Read the recording in ``run_dir``; raises RecordingError when there is none.

        ``pods``: only pools of processes whose name begins so count as the pool; all do by default. A run that was
        killed leaves a last line half written: that line is left out.
        """
        folder = Path(run_dir)
        if not (folder / "run.json").is_file():
            raise RecordingError(f"run_dir must be a folder with a run.json in it, not {folder}.")
        try:
            run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise RecordingError(f"{folder / 'run.json'} must be JSON, but line {error.lineno} is not.") from None
        events = _read_events(folder / "events.jsonl")
        events["pool"] = [line for line in events.get("pool", []) if str(line.get("pod", "")).startswith(pods)]
        return cls(folder, run, events)

    def __repr__(self) -> str:
        failed = self.failed_share()
        outcome = "nothing was asked of it" if math.isnan(failed) else f"{failed:.0%} of {len(self.requests):,} failed"
        return f"Recording {self.name}: {self.seconds:,.0f} s of the incident from {self.clock_at(0)}, {outcome}"

    @cached_property
    def seconds(self) -> float:
        """How long the run was; up to the last thing seen when it died early."""
        ended = self._ended or max(self._times, default=self.clock.started)
        return max(0.0, self.clock.since_start(ended))

    def clock_at(self, at: float) -> str:
        """Return what the clock on the wall showed ``at`` seconds after the start, "15:21:10"."""
        return self.clock.label(at)

    # What the clients saw

    @cached_property
    def requests(self) -> Requests:
        """Every request sent, retries included, in the order in which they were due."""
        return Requests.read(self._events.get("request", []), self.clock)

    def failed_share(self, after: float = -math.inf, before: float = math.inf, **which: Any) -> float:
        """Return the share (0..1) of requests due in [after, before) that failed; NaN when there were none.

        Failed: answered 503 or another error, refused, or given up by the client. Requests still in flight when the
        run ended have no outcome and are left out. ``which`` narrows it: ``endpoint=...``, ``who="reader"``.
        """
        asked = self.requests.where(**which).between(after, before)
        finished = asked[asked.outcome != "pending"]
        return float(finished.failed.mean()) if len(finished) else math.nan

    def answered(self, endpoint: str | None = None, who: str | None = None) -> Requests:
        """Return the requests that were answered with success, of one endpoint or one kind of client."""
        wanted = {key: value for key, value in (("endpoint", endpoint), ("who", who)) if value is not None}
        chosen = self.requests.where(**wanted)
        return chosen[chosen.ok]

    # What the pool saw

    @cached_property
    def pool(self) -> PoolHistory:
        """The pool of each pod, as often as it changed."""
        return PoolHistory.read(self._events.get("pool", []), self.clock)

    @cached_property
    def holds(self) -> Holds:
        """Every finished use of a connection."""
        return Holds.read(self._events.get("hold", []), self.clock)

    @cached_property
    def wait_timeouts(self) -> Columns:
        """Every request that waited for a connection in vain: ``at``, ``pod``, ``by``, ``waited``."""
        lines = self._events.get("wait_timeout", [])
        return Columns.of(self.clock, lines, times=("at",), durations=("waited",), words=("pod", "by"))

    def pool_in_use(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (times, connections in use by the serving pods together), a step function; both of shape (n,)."""
        return self.pool_series("in_use")

    @cached_property
    def serving_pool(self) -> PoolHistory:
        """The pools of the pods that clients sent requests to: background workers have pools of their own.

        All pools, where no request names its pod.
        """
        asked = set(self.requests.pod.tolist())
        serving = np.array([process_of(pod) in asked for pod in self.pool.pod.tolist()], dtype=bool)
        return self.pool[serving] if serving.any() else self.pool

    def pool_series(self, what: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (times, totals over the serving pods) of "in_use", "waiting", "size" or "serving"; shapes (n,).

        A pod that was stopped or killed counts as nothing until it is heard of again.
        """
        pool = self.serving_pool
        return step_sum(pool.at, pool.pod, getattr(pool, what), self.departures)

    def pool_held_by(self, endpoint: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (times, connections held by ``endpoint``, serving pods together), a step function; shapes (n,)."""
        pool = self.serving_pool
        return step_sum(pool.at, pool.pod, pool.held_by(endpoint), self.departures)

    @cached_property
    def departures(self) -> list[tuple[float, str]]:
        """When processes were stopped, killed or gone: (time, name)."""
        gone = self.fleet[np.isin(self.fleet.event, ("stopped", "killed", "exited"))]
        return list(zip(gone.at.tolist(), gone.name.tolist(), strict=True))

    # What the machines saw

    @cached_property
    def statements(self) -> Statements:
        """Every SQL statement with its calls, total, mean and longest time, over all pods and restarts."""
        return Statements.read(self._events.get("statements", []), self.clock)

    @cached_property
    def postgres(self) -> Columns:
        """Postgres' own view: ``at``, ``total``, ``max_connections``, ``by_state`` (dict), ``rows`` (list of dict).

        In the rows ``state_age`` and ``transaction_age`` are incident seconds.
        """
        lines = [{**line, "rows": [_aged(row, self.clock) for row in line.get("rows") or []]}
                 for line in self._events.get("postgres", [])]
        return Columns.of(self.clock, lines, times=("at",), numbers=("total", "max_connections"),
                          objects=("by_state", "rows"))

    @cached_property
    def redis(self) -> Columns:
        """Redis: ``at``, ``memory`` and ``max_memory`` (bytes), ``clients``, ``queues`` (dict of lengths)."""
        return Columns.of(self.clock, self._events.get("redis", []), times=("at",),
                          numbers=("memory", "max_memory", "clients"), objects=("queues",))

    @cached_property
    def processes(self) -> Columns:
        """Processes: ``at``, ``name``, ``cpu`` (cores in use on this machine), ``rss`` (bytes)."""
        return Columns.of(self.clock, self._events.get("process", []), times=("at",), words=("name",),
                          numbers=("cpu", "rss"))

    @cached_property
    def fcm(self) -> Columns:
        """The push server's counters since its reset: ``at``, ``accepted``, ``devices``, ``duplicates``, ``rejected``,
        ``requests``, ``batches``, ``first_accepted_at`` and ``last_accepted_at`` (NaN before the first)."""
        return Columns.of(self.clock, self._events.get("fcm", []),
                          times=("at", "first_accepted_at", "last_accepted_at"),
                          numbers=("accepted", "devices", "duplicates", "rejected", "requests", "batches"))

    @cached_property
    def fleet(self) -> Columns:
        """Processes started, stopped, killed, exited: ``at``, ``name``, ``event``."""
        return Columns.of(self.clock, self._events.get("fleet", []), times=("at",), words=("name", "event"))

    @cached_property
    def marks(self) -> list[tuple[float, str]]:
        """Named moments of the run, (time, label), in order."""
        lines = self._events.get("mark", [])
        return sorted((self.clock.since_start(line["at"]), str(line.get("label", ""))) for line in lines)

    def mark(self, label: str) -> float:
        """Return the time of the first mark called ``label``; raises KeyError naming the marks there are."""
        for at, name in self.marks:
            if name == label:
                return at
        known = ", ".join(dict.fromkeys(name for _, name in self.marks)) or "none"
        raise KeyError(f"{label} is not a mark of this run; marks: {known}")

    @cached_property
    def traces(self) -> Traces:
        """The requests as traces; decoded when first asked for."""
        held_by = {hold["at"]: hold.get("by") or "" for hold in self._events.get("hold", [])}
        return Traces.open(self.folder / "traces.otlp", self.clock, held_by)


def _read_events(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of events.jsonl by kind; what cannot be read (a line cut short) is left out."""
    events: dict[str, list[dict[str, Any]]] = {}
    for line in _json_lines(path):
        events.setdefault(line.get("kind", ""), []).append(line)
    return events


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            if isinstance(line, dict):
                yield line


def _when(line: dict[str, Any]) -> float | None:
    return line.get("at") or line.get("done") or line.get("due")


def _aged(row: dict[str, Any], clock: Clock) -> dict[str, Any]:
    ages = {key: clock.incident(row[key]) for key in ("state_age", "transaction_age") if row.get(key) is not None}
    return {**row, **ages}


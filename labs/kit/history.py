"""The series of a recording: columns of equal length, as numpy arrays, in incident time."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from labs.kit.clock import Clock
from labs.kit.table import Table, count, seconds

FAILED = ("unavailable", "error", "no_answer", "refused")
"""The outcomes of a request that the client saw as a failure: 503, another status, gave up waiting, refused."""


class Columns:
    """Named columns of equal length n, each a numpy array of shape (n,), read as attributes.

    Index with a boolean mask, a slice or an array of indices to get the chosen rows as Columns again.
    """

    def __init__(self, columns: Mapping[str, np.ndarray]) -> None:
        self._columns = dict(columns)

    @classmethod
    def of(
        cls,
        clock: Clock,
        lines: Sequence[Mapping[str, Any]],
        *,
        times: Sequence[str] = (),
        durations: Sequence[str] = (),
        numbers: Sequence[str] = (),
        words: Sequence[str] = (),
        objects: Sequence[str] = (),
    ) -> Self:
        """Read columns from event lines, sorted by the first of ``times``; a missing number is NaN, a word is ""."""
        columns: dict[str, np.ndarray] = {}
        for name in times:
            columns[name] = np.round((_floats(lines, name) - clock.started) * clock.speed, 6)
        for name in durations:
            columns[name] = _floats(lines, name) * clock.speed
        for name in numbers:
            columns[name] = _floats(lines, name)
        for name in words:
            columns[name] = _objects([str(line.get(name) or "") for line in lines])
        for name in objects:
            columns[name] = _objects([line.get(name) for line in lines])
        read = cls(columns)
        return read[np.argsort(columns[times[0]], kind="stable")] if times else read

    def __getattr__(self, name: str) -> np.ndarray:
        # Only called for what is not an ordinary attribute.
        columns = self.__dict__.get("_columns", {})
        if name in columns:
            return columns[name]
        raise AttributeError(f"{name} is not a column; columns: {', '.join(columns)}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._columns]

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()), ()))

    def __getitem__(self, chosen: Any) -> Self:
        return type(self)({name: column[chosen] for name, column in self._columns.items()})

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for values in zip(*self._columns.values(), strict=True):
            yield dict(zip(self._columns, values, strict=True))

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {len(self):,} rows of {', '.join(self._columns)}"

    def where(self, **equal: Any) -> Self:
        """Return the rows in which each named column equals the given value, or is among a tuple of values."""
        chosen = np.ones(len(self), dtype=bool)
        for name, value in equal.items():
            chosen &= np.isin(getattr(self, name), value if isinstance(value, (tuple, list)) else [value])
        return self[chosen]

    def between(self, after: float = -math.inf, before: float = math.inf) -> Self:
        """Return the rows whose first time is in [after, before)."""
        first = next(iter(self._columns.values()))
        return self[(first >= after) & (first < before)]


class Requests(Columns):
    """Requests in the order in which they were due, one row an attempt.

    Columns: ``due``, ``sent``, ``done`` (NaN while in flight), ``endpoint``, ``who`` ("reader", "author", "opener"),
    ``attempt`` (1 for the first), ``status`` (NaN without an answer), ``outcome`` ("ok", "unavailable", "error",
    "no_answer", "refused", "pending"), ``pod``.
    """

    @classmethod
    def read(cls, lines: Sequence[Mapping[str, Any]], clock: Clock) -> Self:
        """Read the request lines of a run."""
        return cls.of(clock, lines, times=("due", "sent", "done"), numbers=("attempt", "status"),
                      words=("endpoint", "who", "outcome", "pod"))

    @property
    def latency(self) -> np.ndarray:
        """Seconds from when each was due to its end, however it ended; NaN while in flight."""
        return self.done - self.due

    @property
    def ok(self) -> np.ndarray:
        """Which were answered with success; booleans."""
        return self.outcome == "ok"

    @property
    def failed(self) -> np.ndarray:
        """Which the client saw fail; booleans. See FAILED."""
        return np.isin(self.outcome, FAILED)

    def by_outcome(self) -> Table:
        """Return a table: endpoint, then how many ended in each way."""
        kinds = [kind for kind in ("ok", *FAILED, "pending") if (self.outcome == kind).any()]
        rows = []
        for endpoint in dict.fromkeys(self.endpoint.tolist()):
            ended = self.outcome[self.endpoint == endpoint]
            rows.append((endpoint, *(int((ended == kind).sum()) for kind in kinds)))
        return Table(("endpoint", *(kind.replace("_", " ") for kind in kinds)), rows)


class Holds(Columns):
    """Finished uses of a connection: ``at`` (checkout), ``pod``, ``slot``, ``by``, ``waited``, ``held`` (seconds)."""

    @classmethod
    def read(cls, lines: Sequence[Mapping[str, Any]], clock: Clock) -> Self:
        """Read the hold lines of a run."""
        return cls.of(clock, lines, times=("at",), durations=("waited", "held"), numbers=("slot",), words=("pod", "by"))

    def by_endpoint(self) -> Table:
        """Return a table: who held connections, how often, how long in all, at the median and at most."""
        rows = []
        for who in dict.fromkeys(self.by.tolist()):
            held, waited = self.held[self.by == who], self.waited[self.by == who]
            rows.append((held.sum(), who or "(outside a request)", len(held), held, waited))
        rows.sort(key=lambda row: -row[0])
        return Table(
            ("held by", "times", "in all", "median", "longest", "longest wait for it"),
            [(who, times, seconds(total), seconds(float(np.median(held))), seconds(float(held.max())),
              seconds(float(np.nanmax(waited)) if not np.isnan(waited).all() else None))
             for total, who, times, held, waited in rows],
        )


@dataclass(frozen=True)
class Held:
    """One connection in use, or one request waiting for one: since when, and by whom."""

    since: float
    by: str


class PoolHistory(Columns):
    """The pools of all pods over time, one row a look at one pod.

    Columns: ``at``, ``pod``, ``size``, ``max_overflow``, ``in_use``, ``waiting``, ``serving`` (requests in progress),
    ``slots`` (list of Held or None) and ``line`` (list of Held, the requests waiting).
    """

    @classmethod
    def read(cls, lines: Sequence[Mapping[str, Any]], clock: Clock) -> Self:
        """Read the pool lines of a run."""
        held = [
            {
                **line,
                "slots": [_held(slot, clock) for slot in line.get("slots") or []],
                "line": [_held(slot, clock) for slot in line.get("waiting") or []],
            }
            for line in lines
        ]
        for line in held:
            line["in_use"] = sum(slot is not None for slot in line["slots"])
            line["waiting"] = len(line["line"])
        return cls.of(clock, held, times=("at",), words=("pod",), objects=("slots", "line"),
                      numbers=("size", "max_overflow", "in_use", "waiting", "serving"))

    def at_time(self, at: float) -> "PoolHistory":
        """Return the last look at each pod up to ``at``."""
        seen = self.between(before=np.nextafter(at, math.inf))
        last = {pod: index for index, pod in enumerate(seen.pod.tolist())}
        return seen[np.array(sorted(last.values()), dtype=int)]

    def holders(self, at: float) -> Table:
        """Return a table of who held the connections at a moment: endpoint, connections, longest held, waiting."""
        held: dict[str, list[float]] = defaultdict(list)
        waiting: dict[str, int] = defaultdict(int)
        for look in self.at_time(at):
            for slot in filter(None, look["slots"]):
                held[slot.by].append(at - slot.since)
            for slot in look["line"]:
                waiting[slot.by] += 1
        names = sorted({*held, *waiting}, key=lambda name: (-len(held[name]), -waiting[name]))
        rows = [(name or "(outside a request)", len(held[name]), seconds(max(held[name], default=math.nan)),
                 waiting[name]) for name in names]
        return Table(("endpoint", "connections held", "longest held", "waiting for one"), rows)

    @cached_property
    def longest_holder(self) -> str | None:
        """The endpoint that held connections longest in all, if it ever held one for 5 s or more; otherwise None."""
        total: dict[str, float] = defaultdict(float)
        longest: dict[str, float] = defaultdict(float)
        for at, slots in zip(self.at.tolist(), self.slots.tolist(), strict=True):
            for slot in filter(None, slots):
                total[slot.by] += 1
                longest[slot.by] = max(longest[slot.by], at - slot.since)
        slow = [name for name, held in longest.items() if held >= 5.0]
        return max(slow, key=lambda name: total[name]) if slow else None

    def held_by(self, endpoint: str) -> np.ndarray:
        """Return how many connections ``endpoint`` held at each look; shape (n,)."""
        counts = [sum(slot is not None and slot.by == endpoint for slot in slots) for slots in self.slots]
        return np.array(counts, dtype=float)


@dataclass(frozen=True)
class Statement:
    """One SQL statement's statistics; ``total``, ``mean`` and ``longest`` are incident seconds."""

    text: str
    calls: int
    total: float
    longest: float
    rows: int

    @property
    def mean(self) -> float:
        """Seconds a call on average."""
        return self.total / self.calls if self.calls else 0.0


class Statements(tuple[Statement, ...]):
    """Statement statistics of a run, most total time first."""

    @classmethod
    def read(cls, lines: Sequence[Mapping[str, Any]], clock: Clock) -> Self:
        """Sum cumulative statistics over pods; a pod whose counts fell had been restarted and counts afresh."""
        last: dict[tuple[str, str], Mapping[str, Any]] = {}
        totals: dict[str, list[float]] = {}
        for line in sorted(lines, key=lambda line: line.get("at") or 0):
            for row in line.get("rows") or []:
                key = (str(line.get("pod")), row["text"])
                before = last.get(key)
                if before and row["calls"] < before["calls"]:
                    before = None
                _add(totals.setdefault(row["text"], [0.0, 0.0, 0.0, 0.0]), row, before)
                last[key] = row
        found = [
            Statement(text, int(calls), clock.incident(total), clock.incident(longest), int(rows))
            for text, (calls, total, longest, rows) in totals.items()
        ]
        return cls(sorted(found, key=lambda each: -each.total))

    def table(self, most: int = 8) -> Table:
        """Return the ``most`` expensive statements: text, calls, mean, longest, in all."""
        rows = [(_one_line(each.text), count(each.calls), seconds(each.mean), seconds(each.longest),
                 seconds(each.total)) for each in self[:most]]
        return Table(("statement", "calls", "mean", "longest", "in all"), rows)

    @property
    def longest(self) -> float:
        """The longest call of all, seconds; 0 when there were none."""
        return max((each.longest for each in self), default=0.0)


def step_sum(
    at: np.ndarray, who: np.ndarray, value: np.ndarray, departures: Iterable[tuple[float, str]] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Add up step functions: at time ``at[i]`` the part of ``who[i]`` becomes ``value[i]``.

    Returns (times, totals), both of shape (m,) with one entry a distinct time. ``departures``: (time, who) from which
    a part is nothing until it is seen again; a process "worker" takes its workers "worker.2", "worker.3" with it.
    """
    changes = [*zip(at.tolist(), who.tolist(), value.tolist(), strict=True)]
    known = set(who.tolist())
    changes += [(time, part, 0.0) for time, name in departures for part in known if process_of(part) == name]
    changes.sort(key=lambda change: change[0])
    current: dict[str, float] = {}
    totals: dict[float, float] = {}
    total = 0.0
    for time, name, value_now in changes:
        number = 0.0 if math.isnan(value_now) else value_now
        total += number - current.get(name, 0.0)
        current[name] = number
        totals[time] = total
    return np.array(list(totals), dtype=float), np.round(np.array(list(totals.values()), dtype=float), 9)


def process_of(pod: str) -> str:
    """Return the name of the process that a pod's name stands for: "worker-1" for its second worker "worker-1.2"."""
    stem, dot, number = pod.rpartition(".")
    return stem if dot and number.isdigit() else pod


def _add(total: list[float], row: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    for index, key in ((0, "calls"), (1, "total"), (3, "rows")):
        total[index] += (row.get(key) or 0) - ((before or {}).get(key) or 0)
    total[2] = max(total[2], row.get("max") or 0)


def _one_line(text: str, width: int = 72) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _held(slot: Mapping[str, Any] | None, clock: Clock) -> Held | None:
    return None if slot is None else Held(clock.since_start(slot.get("since") or clock.started), slot.get("by") or "")


def _floats(lines: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.array([math.nan if line.get(name) is None else line[name] for line in lines], dtype=float)


def _objects(values: Sequence[Any]) -> np.ndarray:
    column = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):  # a slice assignment would unpack values that are lists
        column[index] = value
    return column

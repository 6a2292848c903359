"""Traces of a run: find the slow ones, see what they did, draw one as a waterfall.

    slow = recording.traces.longer_than("10 s")
    slow.by_endpoint()
    slow.longest().waterfall()

A trace is one request and everything done on its behalf, in its own process or in another. All times are incident
seconds since the run's start.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np

from labs.kit import otlp
from labs.kit.clock import Clock
from labs.kit.table import Table, seconds

if TYPE_CHECKING:
    from labs.kit.waterfall import Waterfall

CUT_OFF = "labs.cut_off"
"""The attribute that marks a span which was still open when the run ended."""

NOT_CALLS = {"connect", "connection wait", "connection held"}
"""Spans about the pool: they carry the database's attributes, but no statement was sent."""

UNKNOWN_ROOT = "(its root never arrived)"

_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "": 1.0}


@dataclass(frozen=True)
class Span:
    """One span. ``start`` and ``duration`` are incident seconds; ``parent`` is None for a root.

    ``cut_off``: it was still open when the run ended, so ``duration`` is what had passed until then.
    """

    name: str
    start: float
    duration: float
    attributes: dict[str, Any]
    parent: int | None = None
    error: bool = False
    cut_off: bool = False

    @property
    def end(self) -> float:
        """When it ended, incident seconds since the run's start."""
        return self.start + self.duration

    @property
    def statement(self) -> str:
        """The SQL statement on one line; empty where there is none."""
        return statement_of(self.attributes)


class Trace:
    """One request and everything done on its behalf."""

    def __init__(self, store: "_Store", index: int) -> None:
        self._store = store
        self._index = index

    @cached_property
    def rows(self) -> np.ndarray:
        """Positions of this trace's spans in the span table, by start."""
        return self._store.rows_of(self._index)

    @cached_property
    def root(self) -> Span:
        """The span of the request itself.

        When it never arrived (its process was killed), a stand-in from the first of its spans to the last.
        """
        store = self._store
        position = store.root[self._index]
        if position >= 0:
            return store.span(position)
        start, end = store.start[self._index], store.end[self._index]
        return Span(store.endpoint(self._index), start, end - start, {}, cut_off=True)

    @cached_property
    def spans(self) -> list[Span]:
        """Every span, by start. A trace of an outage may have tens of thousands."""
        return [self._store.span(row) for row in self.rows]

    @property
    def endpoint(self) -> str:
        """The name of the root span, "POST /api/v1/posts/create"."""
        return self._store.endpoint(self._index)

    @property
    def clock(self) -> Clock:
        """The clock that its times are counted on."""
        return self._store.clock

    @property
    def id(self) -> str:
        """The trace id in hexadecimal, as Jaeger shows it."""
        return self._store.table.trace_ids[self._index].hex()

    @property
    def duration(self) -> float:
        """Seconds from the root's start to its end: what the client waited for. At least that, when cut off."""
        return self.root.duration

    @property
    def extent(self) -> float:
        """Seconds from the first span's start to the last one's end, work handed to other processes included."""
        return float(self._store.last[self._index] - self._store.start[self._index])

    @property
    def cut_off(self) -> bool:
        """Whether the request was still running when the run ended, or its process was killed."""
        return self.root.cut_off

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        more = ", cut off" if self.cut_off else ""
        return f"Trace {self.endpoint}: {seconds(self.duration)}{more}, {len(self):,} spans"

    def waterfall(self, title: str | None = None) -> "Waterfall":
        """Draw the trace: a line a span, equal spans folded into one line."""
        from labs.kit.waterfall import Waterfall

        return Waterfall.of(self, title)

    # For folding: spans by their position in the span table, without making an object for each

    def span(self, row: int) -> Span:
        """Return the span at a position of the span table."""
        return self._store.span(row)

    def start_of(self, row: int) -> float:
        """Return when the span at a position began."""
        return float(self._store.span_start[row])

    def key(self, row: int) -> tuple[str, ...]:
        """Return what makes spans equal: name, statement and the host called."""
        return self._store.key(row)

    def times(self, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray, int, bool]:
        """Return the starts (ascending) and ends of spans, how many ended in an error, and whether any was cut off."""
        chosen = np.array(rows)
        chosen = chosen[np.argsort(self._store.span_start[chosen], kind="stable")]
        store = self._store
        cut_off = bool(store.span_cut[chosen].any())
        return store.span_start[chosen], store.span_end[chosen], int(store.table.error[chosen].sum()), cut_off

    def children(self) -> dict[int, list[int]]:
        """Return the positions of each span's children; those without a known parent are the root's (key -1)."""
        parents = self._store.table.parent[self.rows]
        root = self._store.root[self._index]
        found: dict[int, list[int]] = {}
        for row, parent in zip(self.rows.tolist(), parents.tolist(), strict=True):
            if row != root:
                found.setdefault(-1 if parent < 0 or parent == root else parent, []).append(row)
        return found


class Traces(Sequence[Trace]):
    """Traces in the order in which they began; a sequence of Trace."""

    def __init__(self, store: "_Store", chosen: np.ndarray) -> None:
        self._store = store
        self._chosen = chosen

    @classmethod
    def open(cls, path: Path, clock: Clock, held_by: Mapping[float, str] | None = None) -> Self:
        """Decode the OTLP file at ``path``; no traces where there is no file."""
        return cls.of(otlp.read(path), clock, held_by)

    @classmethod
    def of(cls, table: otlp.SpanTable, clock: Clock, held_by: Mapping[float, str] | None = None) -> Self:
        """Group a table of spans into traces.

        ``held_by``: who checked out a connection at which wall time (seconds since the epoch). It names a request whose
        process was killed before its root span could be sent.
        """
        store = _Store(table, clock, held_by or {})
        return cls(store, np.argsort(store.start, kind="stable"))

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> Trace: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> Trace | Self:
        if isinstance(index, slice):
            return type(self)(self._store, self._chosen[index])
        return Trace(self._store, int(self._chosen[index]))

    def __iter__(self) -> Iterator[Trace]:
        return (Trace(self._store, int(index)) for index in self._chosen)

    def __repr__(self) -> str:
        if not len(self):
            return "No traces"
        longest = self.longest()
        return f"{len(self):,} traces, the longest {seconds(longest.duration)} ({longest.endpoint})"

    @property
    def durations(self) -> np.ndarray:
        """Seconds each root took; shape (n,)."""
        return (self._store.end - self._store.start_of_root)[self._chosen]

    @property
    def starts(self) -> np.ndarray:
        """When each root began, incident seconds since the run's start; shape (n,)."""
        return self._store.start_of_root[self._chosen]

    @property
    def span_count(self) -> int:
        """How many spans these traces have together."""
        return int(self._store.sizes[self._chosen].sum())

    def longer_than(self, duration: float | str) -> Self:
        """Return the traces whose root took longer than ``duration``: seconds, or text such as "10 s" or "250 ms"."""
        return type(self)(self._store, self._chosen[self.durations > parse_duration(duration)])

    def where(self, endpoint: str | None = None, cut_off: bool | None = None) -> Self:
        """Return the traces of one endpoint, or those that were (or were not) cut off."""
        keep = np.ones(len(self), dtype=bool)
        if endpoint is not None:
            keep &= np.array([self._store.endpoint(index) == endpoint for index in self._chosen], dtype=bool)
        if cut_off is not None:
            keep &= self._store.cut_off[self._chosen] == cut_off
        return type(self)(self._store, self._chosen[keep])

    def longest(self) -> Trace:
        """Return the trace whose root took longest; raises LookupError when there are none."""
        if not len(self):
            raise LookupError("there is no longest trace: no trace was recorded, or none was that long")
        return self[int(np.argmax(self.durations))]

    def by_endpoint(self) -> Table:
        """Return a table, longest first: endpoint, traces, longest, most database and HTTP calls in one trace."""
        groups: dict[str, list[int]] = {}
        for index in self._chosen.tolist():
            groups.setdefault(self._store.endpoint(index), []).append(index)
        store = self._store
        took = store.end - store.start_of_root
        rows = [(name, len(each), took[each].max(), int(store.database_calls[each].max()),
                 int(store.http_calls[each].max()), int(store.cut_off[each].sum())) for name, each in groups.items()]
        rows.sort(key=lambda row: -row[2])
        return Table(
            ("endpoint", "traces", "longest", "database calls in one", "HTTP calls in one", "cut off"),
            [(name, traces, seconds(float(longest)), *calls) for name, traces, longest, *calls in rows],
        )


class _Store:
    """The spans of a run, grouped by trace. All per-trace arrays have shape (traces,)."""

    def __init__(self, table: otlp.SpanTable, clock: Clock, held_by: Mapping[float, str]) -> None:
        self.table = table
        self._held_by = {int(since * 1e9): name for since, name in held_by.items()}
        self.clock = clock
        self._keys: dict[tuple[int, int], tuple[str, ...]] = {}
        traces = len(table.trace_ids)
        zero = round(clock.started * 1e9)
        self.span_start = (table.start - zero) / 1e9 * clock.speed
        self.span_end = (np.maximum(table.end, table.start) - zero) / 1e9 * clock.speed
        self._order = np.lexsort((self.span_start, table.trace))
        self.sizes = np.bincount(table.trace, minlength=traces)
        self._first = np.concatenate([[0], np.cumsum(self.sizes)]).astype(int)
        self.start = _per_trace(np.minimum, table.trace, self.span_start, traces, np.inf)
        self.last = _per_trace(np.maximum, table.trace, self.span_end, traces, -np.inf)
        self.root = self._roots(traces)
        known = self.root >= 0
        self.start_of_root = np.where(known, self._pick(self.span_start), self.start)
        self.end = np.where(known, self._pick(self.span_end), self.last)
        cut = np.array([bool(each.get(CUT_OFF)) for each in table.attribute_sets] or [False])
        self.span_cut = cut[table.attributes] if len(table) else np.zeros(0, bool)
        self.cut_off = ~known | self._pick(self.span_cut).astype(bool)
        kinds = np.array([kind_of(each) for each in table.attribute_sets] or [""])
        self.span_kind = kinds[table.attributes] if len(table) else np.zeros(0, kinds.dtype)
        connect = np.array([name in NOT_CALLS for name in table.names] or [False])
        calls = ~connect[table.name] if len(table) else np.zeros(0, bool)
        outward = table.kind == otlp.CLIENT
        self.database_calls = np.bincount(table.trace[(self.span_kind == "database") & calls], minlength=traces)
        self.http_calls = np.bincount(table.trace[(self.span_kind == "http") & outward & calls], minlength=traces)

    def _roots(self, traces: int) -> np.ndarray:
        roots = np.full(traces, -1)
        top = np.flatnonzero(self.table.parent == -1)
        latest_first = top[np.argsort(-self.span_start[top], kind="stable")]
        roots[self.table.trace[latest_first]] = latest_first  # the earliest is written last
        return roots

    def _pick(self, values: np.ndarray) -> np.ndarray:
        """The root's value of each trace; where there is no root, any value (the caller replaces it)."""
        return values[np.maximum(self.root, 0)] if len(values) else np.zeros(len(self.root))

    def rows_of(self, index: int) -> np.ndarray:
        return self._order[self._first[index] : self._first[index + 1]]

    def endpoint(self, index: int) -> str:
        position = self.root[index]
        if position >= 0:
            return self.table.names[self.table.name[position]]
        checkouts = (self._held_by.get(int(self.table.start[row])) for row in self.rows_of(index))
        return next(filter(None, checkouts), UNKNOWN_ROOT)

    def key(self, position: int) -> tuple[str, ...]:
        """Spans with one name and one attribute set have one key, so it is made once for each pair."""
        pair = (int(self.table.name[position]), int(self.table.attributes[position]))
        if pair not in self._keys:
            attributes = self.table.attribute_sets[pair[1]]
            host = attributes.get("server.address") or attributes.get("net.peer.name") or ""
            self._keys[pair] = (self.table.names[pair[0]], statement_of(attributes), str(host))
        return self._keys[pair]

    def span(self, position: int) -> Span:
        table = self.table
        start = float(self.span_start[position])
        parent = int(table.parent[position])
        return Span(
            table.names[table.name[position]], start, float(self.span_end[position]) - start,
            table.attribute_sets[table.attributes[position]], None if parent < 0 else parent,
            bool(table.error[position]), bool(self.span_cut[position]),
        )


def kind_of(attributes: dict[str, Any]) -> str:
    """Return "database", "http" or "" by the span's attributes (OpenTelemetry's semantic conventions, old and new)."""
    if "db.system" in attributes or "db.system.name" in attributes:
        return "database"
    if "http.method" in attributes or "http.request.method" in attributes:
        return "http"
    return ""


def statement_of(attributes: dict[str, Any]) -> str:
    """Return the SQL statement in a span's attributes on one line; empty where there is none."""
    return " ".join(str(attributes.get("db.statement") or attributes.get("db.query.text") or "").split())


def parse_duration(duration: float | str) -> float:
    """Return seconds from a number of seconds or from text such as "10 s", "250 ms" or "2 min".

    Raises ValueError for anything else.
    """
    written = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|)\s*", str(duration))
    if not written or isinstance(duration, bool):
        raise ValueError(f'duration must be seconds or text such as "10 s" or "250 ms", not {duration!r}.')
    return float(written[1]) * _UNITS[written[2]]


def _per_trace(best: np.ufunc, trace: np.ndarray, values: np.ndarray, traces: int, empty: float) -> np.ndarray:
    found = np.full(traces, empty)
    best.at(found, trace, values)
    return found

"""Folding a trace into lines: spans that did the same thing under one parent become one line with their figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

import numpy as np

from labs.kit.traces import Span, Trace, kind_of, statement_of

FEW = 3
"""Up to so many equal spans under one parent are shown one by one."""

MOST_LINES = 36
_DEEPEST = 10

HELD, WAIT = "connection held", "connection wait"


@dataclass(frozen=True)
class Line:
    """One line of a waterfall: one span, or all spans that did the same.

    ``kind``: "root", "held", "wait", "database", "http" or "" for other work. ``starts`` and ``ends``: incident seconds
    since the run's start, ascending by start, shape (n,). ``errors``: how many ended in an error. ``detail``: the whole
    statement or address.
    """

    depth: int
    label: str
    detail: str
    kind: str
    starts: np.ndarray
    ends: np.ndarray
    errors: int = 0
    cut_off: bool = False

    @property
    def count(self) -> int:
        """How many spans the line stands for."""
        return len(self.starts)

    @cached_property
    def durations(self) -> np.ndarray:
        """Seconds each span took; shape (n,)."""
        return self.ends - self.starts

    @property
    def total(self) -> float:
        """Seconds of all of them together; more than the clock shows where they ran side by side."""
        return float(self.durations.sum())

    def percentile(self, percent: float) -> float:
        """Return the ``percent`` percentile of the durations, seconds."""
        return float(np.percentile(self.durations, percent))

    def covered(self, edges: np.ndarray) -> np.ndarray:
        """Return which share (0..1) of each interval between ``edges`` lies within a span; 1 where several do."""
        time = np.zeros(len(edges))
        for points, sign in ((self.starts, 1.0), (np.sort(self.ends), -1.0)):
            before = np.searchsorted(points, edges)
            sums = np.concatenate([[0.0], np.cumsum(points)])
            time += sign * (before * edges - sums[before])
        return np.clip(np.diff(time) / np.diff(edges), 0.0, 1.0)


def fold(trace: Trace) -> list[Line]:
    """Return the lines of ``trace``, the root first, each followed by its children by their first start."""
    root = trace.root
    starts, ends = np.array([root.start]), np.array([root.end])
    lines = [Line(0, root.name, "", "root", starts, ends, int(root.error), root.cut_off)]
    _Folding(trace).below([-1], 1, lines)
    return lines


class _Folding:
    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.children = trace.children()

    def below(self, parents: Sequence[int], depth: int, lines: list[Line]) -> None:
        """Add the lines under ``parents`` (rows of one span or of equal ones) to ``lines``, ``depth`` levels in."""
        rows = [row for parent in parents for row in self.children.get(parent, ())]
        if not rows or depth > _DEEPEST:
            return
        groups: dict[tuple[str, ...], list[int]] = {}
        for row in rows:
            groups.setdefault(self.trace.key(row), []).append(row)
        shown: list[list[int]] = []
        for group in groups.values():
            alike = len(group) > FEW or (len(parents) > 1 and len(group) > 1)
            shown += [group] if alike else [[row] for row in group]
        shown.sort(key=lambda group: (self.rank(group[0]), self.trace.start_of(group[0])))
        for group in shown:
            lines.append(self.line(group, depth))
            self.below(group, depth + 1, lines)

    def rank(self, row: int) -> int:
        """Return where a span's line stands: the pool's own first, under the request whose connection they tell of."""
        return {WAIT: 0, HELD: 1}.get(self.trace.key(row)[0], 2)

    def line(self, group: list[int], depth: int) -> Line:
        starts, ends, errors, cut_off = self.trace.times(group)
        label, detail, kind = describe(self.trace.span(group[0]))
        return Line(depth, label, detail, kind, starts, ends, errors, cut_off)


def _tail(path: str, width: int = 28) -> str:
    """Return a path, or as many of its last parts as fit."""
    parts = path.split("/")
    while len(path) > width and len(parts) > 1:
        parts = parts[1:]
        path = "…/" + "/".join(parts)
    return path


def describe(span: Span) -> tuple[str, str, str]:
    """Return a span's label, its detail and its kind."""
    if span.name in {HELD, WAIT}:
        return span.name, "", "held" if span.name == HELD else "wait"
    statement = statement_of(span.attributes)
    if statement:
        return statement, statement, "database"
    kind = kind_of(span.attributes)
    url = str(span.attributes.get("url.full") or span.attributes.get("http.url") or "")
    if kind == "http" and url:
        method = span.attributes.get("http.request.method") or span.attributes.get("http.method") or ""
        return f"{method} {_tail(urlsplit(url).path)}", url, kind
    return span.name, "", kind

"""The views of a run: each draws one panel of a chart from a recording and returns the labels to write on it.

A view never sets the scale that panels share; ``charts`` does, when all of them are drawn.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from labs.kit.history import Requests, step_sum
from labs.kit.recording import Recording
from labs.kit.style import (
    BLUE,
    FAINT,
    GREY,
    INK,
    LIGHT,
    PAPER,
    SERIES,
    VERMILION,
    AreaLabel,
    EndLabel,
    Label,
    nothing,
)
from labs.kit.table import count


@dataclass(frozen=True)
class View:
    """One kind of panel: its heading, a note in grey, and the function that draws it."""

    title: str
    note: str
    draw: Callable[[Axes, Recording], Sequence[Label]]
    log: bool = False


def bin_width(length: float) -> float:
    """Return a round bin width (seconds) that cuts ``length`` seconds into 120 bins at most."""
    for width in (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300):
        if length / width <= 120:
            return width
    return length / 120


def draw_pool(axes: Axes, recording: Recording) -> list[Label]:
    """Draw connections in use as steps, split by the endpoint that held them longest, and the waiting above."""
    times, in_use = recording.pool_in_use()
    if not len(times):
        nothing(axes)
        return []
    labels: list[Label] = []
    floor = np.zeros_like(in_use)
    holder = recording.serving_pool.longest_holder
    if holder:
        _, held = recording.pool_held_by(holder)
        words = f"held by\n{holder}"
        labels.append(_steps(axes, recording, times, floor, held, words=words, colour=VERMILION, inside=PAPER))
        floor = held
    words = "held by others" if holder else "in use"
    labels.append(_steps(axes, recording, times, floor, in_use, words=words, colour=LIGHT))
    _, waiting = recording.pool_series("waiting")
    if waiting.any():
        top = in_use + waiting
        labels.append(_steps(axes, recording, times, in_use, top, words="waiting", colour=GREY, hatch="////"))
    _, size = recording.pool_series("size")
    axes.step(*_extended(recording, times, size), where="post", color=INK, lw=1, ls=(0, (4, 2)), zorder=5)
    labels.append(EndLabel(f"pool size {count(size.max())}", float(size[-1]), INK))
    return labels


def draw_requests(axes: Axes, recording: Recording) -> list[Label]:
    """Draw requests a second by when they were due: answered, failed, and without an outcome at the end."""
    asked = recording.requests
    if not len(asked):
        nothing(axes)
        return []
    edges = _edges(recording)
    width = edges[1] - edges[0]
    parts = ((asked.ok, "answered", LIGHT, INK), (asked.failed, "failed", VERMILION, PAPER),
             (asked.outcome == "pending", "no outcome yet", FAINT, INK))
    labels: list[Label] = []
    floor = np.zeros(len(edges) - 1)
    for chosen, words, colour, inside in parts:
        rate = np.histogram(asked.due[chosen], edges)[0] / width
        axes.bar(edges[:-1], rate, width * 0.88, floor, align="edge", color=colour, lw=0)
        margin = GREY if colour == FAINT else _readable(colour)
        labels.append(AreaLabel(words, edges[:-1] + width / 2, floor, floor + rate, margin, inside, colour))
        floor = floor + rate
    return labels


def draw_latency(axes: Axes, recording: Recording) -> list[Label]:
    """Draw the median and the 99th percentile of the time to answer, on a log scale, by when requests were due.

    Where the request in question was never answered, a hollow triangle shows how long it had waited: the true time is
    above it.
    """
    asked = readers(recording.requests)
    if not len(asked):
        nothing(axes)
        return []
    axes.set_yscale("log")
    edges = _edges(recording)
    middle = (edges[:-1] + edges[1:]) / 2
    labels: list[Label] = []
    open_ended = np.zeros(len(middle), dtype=bool)
    for share, words, colour, width in ((0.5, "p50", BLUE, 2.0), (0.99, "p99", GREY, 1.2)):
        took, waited = censored_percentile(asked, edges, share)
        axes.plot(middle, took, color=colour, lw=width, zorder=4, solid_joinstyle="round")
        _isolated(axes, middle, took, colour)
        shown = ~np.isnan(waited) & ~open_ended
        axes.plot(middle[shown], waited[shown], ls="", marker="^", ms=4.5, mfc="none", mec=VERMILION, mew=0.9, zorder=3)
        open_ended |= shown
        seen = np.flatnonzero(~np.isnan(took))
        if len(seen):
            labels.append(EndLabel(words, float(took[seen[-1]]), colour))
    if open_ended.any():
        _, waited = censored_percentile(asked, edges, 0.99)
        labels.append(EndLabel("△ gave up or refused\n    after this long", float(np.nanmax(waited)), VERMILION))
    return labels


def draw_threads(axes: Axes, recording: Recording) -> list[Label]:
    """Draw requests in progress (busy threads) as steps, against the threads there are."""
    times, serving = recording.pool_series("serving")
    if not len(times):
        nothing(axes)
        return []
    nobody = np.zeros_like(serving)
    labels: list[Label] = [_steps(axes, recording, times, nobody, serving, words="busy", colour=LIGHT)]
    threads = recording.knobs.get("threads")
    if threads:
        there = float(threads) * float(recording.knobs.get("pods") or 1)
        axes.axhline(there, color=INK, lw=1, ls=(0, (4, 2)))
        labels.append(EndLabel(f"{count(there)} threads", there, INK))
    return labels


def draw_cpu(axes: Axes, recording: Recording) -> list[Label]:
    """Draw the cores in use, by kind of process, against the cores of the machine."""
    labels = _by_process(axes, recording, "cpu", 1.0)
    if labels:
        axes.axhline(recording.cores, color=INK, lw=1, ls=(0, (4, 2)))
        labels.append(EndLabel(f"{recording.cores} cores", recording.cores, INK))
    return labels


def draw_memory(axes: Axes, recording: Recording) -> list[Label]:
    """Draw resident memory in MB, by kind of process."""
    return _by_process(axes, recording, "rss", 1e-6)


def draw_postgres(axes: Axes, recording: Recording) -> list[Label]:
    """Draw Postgres' connections, in all and by state."""
    seen = recording.postgres
    if not len(seen):
        nothing(axes)
        return []
    labels: list[Label] = [_line(axes, recording, seen.at, seen.total, "connections", colour=INK, width=1.4)]
    states = {state for by_state in seen.by_state for state in by_state or {}}
    colours = {"active": BLUE, "idle in transaction": VERMILION, "idle": GREY}
    for state in sorted(states & set(colours)):
        values = np.array([(by_state or {}).get(state, 0) for by_state in seen.by_state], dtype=float)
        labels.append(_line(axes, recording, seen.at, values, state, colour=colours[state]))
    return labels


def draw_redis(axes: Axes, recording: Recording) -> list[Label]:
    """Draw the length of each queue."""
    seen = recording.redis
    queues = sorted({name for lengths in seen.queues for name in lengths or {}}) if len(seen) else []
    if not queues:
        nothing(axes, "no queue" if len(seen) else "nothing recorded")
    labels: list[Label] = []
    for name, colour in zip(queues, SERIES, strict=False):
        values = np.array([(lengths or {}).get(name, 0) for lengths in seen.queues], dtype=float)
        labels.append(_line(axes, recording, seen.at, values, name, colour=colour))
    return labels


def draw_fcm(axes: Axes, recording: Recording) -> list[Label]:
    """Draw what the push server accepted so far, and what of it was sent twice or rejected."""
    seen = recording.fcm
    if not len(seen):
        nothing(axes)
        return []
    labels: list[Label] = []
    for column, words, colour in (("accepted", "accepted", BLUE), ("duplicates", "twice", VERMILION),
                                  ("rejected", "rejected", GREY)):
        values = np.nan_to_num(getattr(seen, column))
        if values.any() or column == "accepted":
            labels.append(_line(axes, recording, seen.at, values, f"{words} {count(values[-1])}", colour=colour))
    return labels


VIEWS: dict[str, View] = {
    "pool": View("Connections in use", "", draw_pool),
    "requests": View("Requests a second", "by when they were due", draw_requests),
    "latency": View("Time to answer", "log scale, by when requests were due", draw_latency, log=True),
    "threads": View("Requests in progress", "one thread each", draw_threads),
    "cpu": View("Cores busy", "on this machine", draw_cpu),
    "memory": View("Memory, MB", "resident", draw_memory),
    "postgres": View("Postgres connections", "by state", draw_postgres),
    "redis": View("Queue length", "in Redis", draw_redis),
    "fcm": View("Notifications accepted", "by the push server, so far", draw_fcm),
}


def readers(asked: Requests) -> Requests:
    """Return the requests of the steady readers, whose experience a latency chart shows; all where there are none."""
    steady = asked.where(who="reader")
    return steady if len(steady) else asked


def censored_percentile(asked: Requests, edges: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``share`` percentile of the time to answer a bin of due times, as (took, waited), shapes (bins,).

    A request without an answer counts as slower than any answered one. Where the percentile falls on an answered
    request ``took`` has its seconds and ``waited`` NaN. Where it falls on one without, ``took`` is NaN and ``waited``
    is how long such requests had waited when they failed (their median), a lower bound. Both are NaN in a bin without
    requests, and where all are still in flight.
    """
    took, waited = np.full(len(edges) - 1, math.nan), np.full(len(edges) - 1, math.nan)
    where = np.digitize(asked.due, edges) - 1
    lasted = asked.latency
    for index in np.unique(where[(where >= 0) & (where < len(took))]):
        here = where == index
        answered = np.sort(lasted[here & asked.ok])
        rank = math.ceil(share * here.sum()) - 1
        if rank < len(answered):
            took[index] = answered[rank]
        else:
            failed = lasted[here & asked.failed]
            waited[index] = np.median(failed) if len(failed) else math.nan
    return took, waited


def _edges(recording: Recording) -> np.ndarray:
    length = max(recording.seconds, 1e-3)
    width = bin_width(length)
    return np.arange(0, math.ceil(length / width) + 1) * width


def _extended(recording: Recording, times: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
    """The step function up to the end of the run."""
    end = max(recording.seconds, times[-1])
    return [np.append(times, end), *(np.append(value, value[-1]) for value in values)]


def _steps(axes: Axes, recording: Recording, *band: np.ndarray, words: str, colour: str,
           inside: str = INK, hatch: str = "") -> AreaLabel:
    x, bottom, top = _extended(recording, *band)
    style = {"facecolor": "none", "edgecolor": colour, "hatch": hatch} if hatch else {"facecolor": colour}
    axes.fill_between(x, bottom, top, step="post", lw=0, **style)
    return AreaLabel(words, x, bottom, top, _readable(colour), inside, PAPER if hatch else "none")


def _readable(colour: str) -> str:
    """A colour dark enough for words on white."""
    return BLUE if colour == LIGHT else colour


def _line(axes: Axes, recording: Recording, times: np.ndarray, values: np.ndarray, words: str, *,
          colour: str, width: float = 1.8) -> EndLabel:
    axes.step(*_extended(recording, times, values), where="post", color=colour, lw=width)
    return EndLabel(words, float(values[-1]), colour)


def _isolated(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str) -> None:
    """Points with no neighbour would not show as a line: draw them as dots."""
    there = ~np.isnan(y)
    alone = there & ~np.append(False, there[:-1]) & ~np.append(there[1:], False)
    axes.plot(x[alone], y[alone], ls="", marker="o", ms=2.5, color=colour)


def _by_process(axes: Axes, recording: Recording, column: str, unit: float) -> list[Label]:
    seen = recording.processes
    if not len(seen):
        nothing(axes)
        return []
    stem = np.array([re.sub(r"[-_ ]?\d+$", "", name) for name in seen.name.tolist()], dtype=object)
    grid = np.linspace(0, max(recording.seconds, seen.at[-1]), 300)
    totals = {}
    for group in dict.fromkeys(stem.tolist()):
        rows = seen[stem == group]
        times, values = step_sum(rows.at, rows.name, getattr(rows, column) * unit, recording.departures)
        place = np.searchsorted(times, grid, side="right") - 1
        many = len(set(rows.name.tolist()))
        label = f"{group} × {many}" if many > 1 else rows.name[0]
        totals[label] = np.where(place >= 0, values[np.maximum(place, 0)], 0.0)
    ranked = sorted(totals.items(), key=lambda item: -item[1].mean())
    if len(ranked) > 4:
        ranked = [*ranked[:3], ("the others", sum(values for _, values in ranked[3:]))]
    labels: list[Label] = []
    floor = np.zeros_like(grid)
    for (label, values), colour in zip(ranked, (LIGHT, BLUE, "#9AA3AE", "#C9CED5"), strict=False):
        axes.fill_between(grid, floor, floor + values, lw=0, facecolor=colour)
        inside = PAPER if colour == BLUE else INK
        labels.append(AreaLabel(label, grid, floor, floor + values, INK, inside))
        floor = floor + values
    return labels

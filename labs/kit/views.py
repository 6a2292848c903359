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
    MIST,
    PAPER,
    SERIES,
    VERMILION,
    AreaLabel,
    EndLabel,
    Label,
    nothing,
)
from labs.kit.table import count

_WORTH_SAYING = 3.0  # seconds: whoever was due later than this before the end has not waited long in any run


@dataclass(frozen=True)
class View:
    """One kind of panel: its heading, a note in grey, and the function that draws it.

    ``draw`` gets the axes, the run and all runs of the chart, in which one colour must mean one thing. ``log``: on a
    log scale; ``whole``: only whole numbers make sense on its axis.
    """

    title: str
    note: str
    draw: Callable[[Axes, Recording, Sequence[Recording]], Sequence[Label]]
    log: bool = False
    whole: bool = False


def bin_width(length: float) -> float:
    """Return a round bin width (seconds) that cuts ``length`` seconds into 120 bins at most."""
    for width in (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300):
        if length / width <= 120:
            return width
    return length / 120


def draw_pool(axes: Axes, recording: Recording, runs: Sequence[Recording]) -> list[Label]:
    """Draw connections in use as steps, split by the endpoint that held them longest, and the waiting above."""
    times, in_use = recording.pool_in_use()
    if not len(times):
        nothing(axes)
        return []
    labels: list[Label] = []
    floor = np.zeros_like(in_use)
    holder = longest_holder(runs)
    _, held = recording.pool_held_by(holder) if holder else (None, floor)
    if held.any():
        words = f"held by\n{holder}"
        labels.append(_steps(axes, recording, times, floor, held, words=words, colour=VERMILION, inside=PAPER))
        floor = held
    words = "held by others" if held.any() else "in use"
    labels.append(_steps(axes, recording, times, floor, in_use, words=words, colour=LIGHT))
    _, waiting = recording.pool_series("waiting")
    if waiting.any():
        top = in_use + waiting
        labels.append(_steps(axes, recording, times, in_use, top, words="waiting", colour=GREY, hatch="////"))
    _, size = recording.pool_series("size")
    there = np.where(size > 0, size, math.nan)  # no line while no pod is up
    axes.step(*_extended(recording, times, there), where="post", color=INK, lw=1, ls=(0, (4, 2)), zorder=5)
    sizes = size[size > 0]
    labels += [EndLabel(f"pool size {count(sizes[-1])}", float(sizes[-1]), INK)] if len(sizes) else []
    return labels


def longest_holder(runs: Sequence[Recording]) -> str | None:
    """Return the endpoint to set apart in all of ``runs``: the longest holder of the first run that has one.

    An incident that knows its culprit says so, in ``Recording.culprit``.
    """
    known = (run.culprit for run in runs)
    return next(filter(None, (*known, *(run.serving_pool.longest_holder for run in runs))), None)


def draw_requests(axes: Axes, recording: Recording, _: Sequence[Recording]) -> list[Label]:
    """Draw requests a second by when they were due: answered, failed, and without an outcome at the end."""
    asked = recording.requests
    if not len(asked):
        nothing(axes)
        return []
    edges = _edges(recording)
    width = edges[1] - edges[0]
    parts = ((asked.ok, "answered", LIGHT, INK), (asked.failed, "failed", VERMILION, PAPER),
             (asked.outcome == "pending", "still waiting", FAINT, INK))
    labels: list[Label] = []
    floor = np.zeros(len(edges) - 1)
    for chosen, words, colour, inside in parts:
        rate = np.histogram(asked.due[chosen], edges)[0] / width
        axes.bar(edges[:-1], rate, width * 0.88, floor, align="edge", color=colour, lw=0)
        margin = GREY if colour == FAINT else _readable(colour)
        labels.append(AreaLabel(words, edges[:-1] + width / 2, floor, floor + rate, margin, inside, colour))
        floor = floor + rate
    return labels


def draw_latency(axes: Axes, recording: Recording, _: Sequence[Recording]) -> list[Label]:
    """Draw the median and the 99th percentile of the time to answer, on a log scale, by when requests were due.

    Where the request in question was never answered, a hollow triangle shows how long such requests had waited when
    they failed, or when the run ended: the true time is above it.
    """
    asked = readers(recording.requests)
    if not len(asked):
        nothing(axes)
        return []
    axes.set_yscale("log")
    edges = _edges(recording)
    middle = (edges[:-1] + edges[1:]) / 2
    labels: list[Label] = []
    bounds = {FAILED: np.full(len(middle), math.nan), WAITING: np.full(len(middle), math.nan)}
    for share, words, colour, width in ((0.5, "p50", BLUE, 2.0), (0.99, "p99", GREY, 1.2)):
        found = censored_percentile(asked, edges, share, recording.seconds)
        took = np.where(found.how == ANSWERED, found.seconds, math.nan)
        axes.plot(middle, took, color=colour, lw=width, zorder=4, solid_joinstyle="round")
        _isolated(axes, middle, took, colour)
        for how, bound in bounds.items():
            empty = np.isnan(bounds[FAILED]) & np.isnan(bounds[WAITING])
            worth = found.seconds >= (_WORTH_SAYING if how == WAITING else 0)
            bound[:] = np.where((found.how == how) & empty & worth, found.seconds, bound)
        seen = np.flatnonzero(~np.isnan(took))
        labels += [EndLabel(words, float(took[seen[-1]]), colour)] if len(seen) else []
    for how, words, colour in ((FAILED, "△ gave up or refused\n    after this long", VERMILION),
                               (WAITING, "△ still waiting\n    after this long", GREY)):
        bound = bounds[how]
        axes.plot(middle, bound, ls="", marker="^", ms=4.5, mfc="none", mec=colour, mew=0.9, zorder=3)
        labels += [] if np.isnan(bound).all() else [EndLabel(words, float(np.nanmax(bound)), colour)]
    return labels


def draw_threads(axes: Axes, recording: Recording, _: Sequence[Recording]) -> list[Label]:
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


def draw_cpu(axes: Axes, recording: Recording, _: Sequence[Recording]) -> list[Label]:
    """Draw the cores in use, by kind of process, against the cores of the machine."""
    labels = _by_process(axes, recording, "cpu", 1.0)
    if labels:
        axes.axhline(recording.cores, color=INK, lw=1, ls=(0, (4, 2)))
        labels.append(EndLabel(f"{recording.cores} cores", recording.cores, INK))
    return labels


def draw_memory(axes: Axes, recording: Recording, _: Sequence[Recording]) -> list[Label]:
    """Draw resident memory in MB, by kind of process."""
    return _by_process(axes, recording, "rss", 1e-6)


def draw_postgres(axes: Axes, recording: Recording, _: Sequence[Recording]) -> list[Label]:
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


def draw_redis(axes: Axes, recording: Recording, _: Sequence[Recording]) -> list[Label]:
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


def draw_fcm(axes: Axes, recording: Recording, _: Sequence[Recording]) -> list[Label]:
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
    "pool": View("Connections in use", "", draw_pool, whole=True),
    "requests": View("Requests a second", "by when they were due", draw_requests),
    "latency": View("Time to answer", "log scale, by when requests were due", draw_latency, log=True),
    "threads": View("Requests in progress", "one thread each", draw_threads, whole=True),
    "cpu": View("Cores busy", "on this machine", draw_cpu),
    "memory": View("Memory, MB", "resident", draw_memory),
    "postgres": View("Postgres connections", "by state", draw_postgres, whole=True),
    "redis": View("Queue length", "in Redis", draw_redis, whole=True),
    "fcm": View("Notifications accepted", "by the push server, so far", draw_fcm, whole=True),
}


def readers(asked: Requests) -> Requests:
    """Return the requests of the steady readers, whose experience a latency chart shows; all where there are none."""
    steady = asked.where(who="reader")
    return steady if len(steady) else asked


ANSWERED, FAILED, WAITING = "answered", "failed", "waiting"


@dataclass(frozen=True)
class Percentiles:
    """A percentile of the time to answer in each bin, shapes (bins,).

    ``how``: what became of the request at that rank, ANSWERED, FAILED or WAITING (still in flight when the run ended);
    "" in a bin without requests. ``seconds``: the time to answer, or how long it had waited by then, a lower bound.
    """

    how: np.ndarray
    seconds: np.ndarray


def censored_percentile(asked: Requests, edges: np.ndarray, share: float, end: float) -> Percentiles:
    """Return the ``share`` percentile of the time to answer, a bin of due times.

    A request without an answer counts as slower than any answered one, failed ones before those still waiting; for
    both the median of how long such requests had waited stands in. ``end``: when the run ended.
    """
    how, lasted = np.full(len(edges) - 1, "", dtype=object), np.full(len(edges) - 1, math.nan)
    where = np.digitize(asked.due, edges) - 1
    took = np.where(np.isnan(asked.done), np.maximum(end - asked.due, 1e-3), asked.latency)
    for index in np.unique(where[(where >= 0) & (where < len(how))]):
        here = where == index
        answered, failed = np.sort(took[here & asked.ok]), took[here & asked.failed]
        rank = math.ceil(share * here.sum()) - 1
        if rank < len(answered):
            how[index], lasted[index] = ANSWERED, answered[rank]
        elif rank < len(answered) + len(failed):
            how[index], lasted[index] = FAILED, np.median(failed)
        else:
            how[index], lasted[index] = WAITING, np.median(took[here & ~asked.ok & ~asked.failed])
    return Percentiles(how, lasted)


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
    style = {"facecolor": MIST, "edgecolor": colour, "hatch": hatch} if hatch else {"facecolor": colour}
    axes.fill_between(x, bottom, top, step="post", lw=0, **style)
    return AreaLabel(words, x, bottom, top, _readable(colour), inside, MIST if hatch else "none")


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

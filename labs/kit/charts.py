"""Charts of runs: what clients, pool and machine saw, on the incident's clock and on the same axes.

    run_chart(alone, title="One patient post: the pool has room")
    run_chart(retried, beside=alone, title="Retries fill the pool; alone, one post took one connection")
    shared_axes([step0, step1, step2], show=("pool", "latency"))

The title should state the finding; the caller knows it, a chart does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from labs.kit.recording import Recording
from labs.kit.style import (
    BLUE,
    GREY,
    INK,
    LIGHT,
    SERIES,
    VERMILION,
    WIDTH,
    Chart,
    EndLabel,
    Label,
    look,
    sheet,
    text_size,
    wrapped,
    write_beside,
    write_inside,
)
from labs.kit.table import percent, seconds
from labs.kit.views import VIEWS, View

_LEFT, _RIGHT, _GAP, _LABELLED_GAP = 0.72, 1.78, 0.3, 2.25  # inches
_TICK_STEPS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)


class ChartError(ValueError):
    """A chart was asked for something there is no view of. The message is one sentence."""


def run_chart(
    recording: Recording,
    show: str | Sequence[str] = ("pool", "requests", "latency"),
    beside: Recording | Sequence[Recording] | None = None,
    *,
    title: str | None = None,
    labels: Sequence[str] | None = None,
    between: tuple[float, float] | None = None,
) -> Chart:
    """Draw a run, one panel under another, on the incident's clock.

    ``show``: any of pool, requests, latency, threads, cpu, memory, postgres, redis, fcm. ``beside``: a second run in
    the next column on the same axes, in time too (both start at the left edge); for more than one, ``shared_axes``.
    ``labels``: what to call each run, its name otherwise. ``between``: only this part, seconds since the start.
    Raises ChartError for a view that does not exist.
    """
    others = [] if beside is None else [beside] if isinstance(beside, Recording) else list(beside)
    if len(others) > 1:
        return shared_axes([recording, *others], show, title=title, labels=labels, between=between)
    runs = [recording, *others]
    views = _views(show)
    names = _names(runs, labels) if others else None
    return _grid([[(view, run) for run in runs] for view in views], title, column_heads=names, between=between)


def shared_axes(
    recordings: Sequence[Recording],
    show: str | Sequence[str] = ("pool",),
    *,
    title: str | None = None,
    labels: Sequence[str] | None = None,
    between: tuple[float, float] | None = None,
) -> Chart:
    """Draw several runs as rows, one under another, with a column a view and the same axes in each column.

    ``show``, ``labels`` and ``between`` as for ``run_chart``; two views at most can be told apart at 900 px.
    Raises ChartError for an empty list of runs or a view that does not exist.
    """
    runs, views = list(recordings), _views(show)
    if not runs:
        raise ChartError("recordings must be one run or more, not an empty list.")
    rows = [[(view, run) for view in views] for run in runs]
    return _grid(rows, title, row_heads=_names(runs, labels), between=between)


def line_chart(
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    title: str | None = None,
    *,
    x_label: str = "",
    y_label: str = "",
    log_x: bool = False,
    log_y: bool = False,
    limit: tuple[float, str] | None = None,
    points: bool = True,
) -> Chart:
    """Draw lines over ``x``, each labelled at its right end by its name. ``limit``: a dashed line and its words."""
    with look():
        figure = sheet(3.6, title)
        axes = _panel(figure, 3.6, top=0.9, height=2.05, left=_LEFT, width=WIDTH - _LEFT - _RIGHT)
        labels: list[EndLabel] = []
        for (name, values), colour in zip(lines.items(), SERIES, strict=False):
            axes.plot(x, values, color=colour, lw=2, marker="o" if points else None, ms=4)
            seen = [value for value in values if value is not None and np.isfinite(value)]
            labels += [EndLabel(name, seen[-1], colour)] if seen else []
        if log_x:
            axes.set_xscale("log")
        if log_y:
            axes.set_yscale("log")
        else:
            axes.set_ylim(0, axes.get_ylim()[1])
        if limit:
            axes.axhline(limit[0], color=INK, lw=1, ls=(0, (4, 2)))
            labels.append(EndLabel(limit[1], limit[0], INK))
        _plain_numbers(axes)
        axes.set_xlabel(x_label)
        axes.text(0, 1.06, y_label, transform=axes.transAxes, weight="bold", size=9.5)
        write_beside(axes, labels)
    return Chart(figure, title or "", ", ".join(lines))


def bar_chart(
    values: Mapping[str, float],
    title: str | None = None,
    *,
    x_label: str = "",
    words: Mapping[str, str] | None = None,
    highlight: Sequence[str] = (),
    log_x: bool = False,
) -> Chart:
    """Draw a lying bar for each value, its figure at its end.

    ``words``: what to write instead of the figure. ``highlight``: names of bars drawn in the colour of failure.
    """
    names = list(values)
    height = 0.8 + 0.36 * len(names) + (0.25 if x_label else 0)
    longest = max((text_size(name, 9)[0] / 100 for name in names), default=1.0)
    with look():
        figure = sheet(height, title)
        axes = _panel(figure, height, top=0.62, height=0.36 * len(names), left=longest + 0.35,
                      width=WIDTH - longest - 1.65)
        numbers = [values[name] for name in names]
        colours = [VERMILION if name in highlight else LIGHT for name in names]
        axes.barh(range(len(names)), numbers, height=0.68, color=colours, log=log_x)
        axes.set_yticks(range(len(names)), names, color=INK, size=9)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        axes.set_xticks([])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(x_label)
        for index, name in enumerate(names):
            figure_words = (words or {}).get(name) or f"{values[name]:,.4g}"
            axes.annotate(figure_words, (values[name], index), xytext=(5, 0), textcoords="offset points", va="center")
    return Chart(figure, title or "", ", ".join(f"{name} {values[name]:,.4g}" for name in names))


def _views(show: str | Sequence[str]) -> list[View]:
    names = [show] if isinstance(show, str) else list(show)
    for name in names:
        if name not in VIEWS:
            raise ChartError(f"show must name views among {', '.join(VIEWS)}, not {name!r}.")
    if not names:
        raise ChartError(f"show must name one view or more among {', '.join(VIEWS)}, not none.")
    return [VIEWS[name] for name in names]


def _names(runs: Sequence[Recording], labels: Sequence[str] | None) -> list[str]:
    if labels is not None and len(labels) != len(runs):
        raise ChartError(f"labels must name each of the {len(runs)} runs, not {len(labels)}.")
    return list(labels or [run.name for run in runs])


@dataclass(frozen=True)
class _Layout:
    """Where the panels of a grid stand, in inches from the top left corner."""

    rows: int
    columns: int
    head: float
    between_columns: float

    @property
    def panel(self) -> float:
        return 2.3 if self.rows == 1 else 1.12 if self.rows < 4 else 0.9

    @property
    def height(self) -> float:
        return self.head + self.rows * (self.panel + 0.44) + 0.32

    @property
    def width(self) -> float:
        return (WIDTH - _LEFT - _RIGHT - (self.columns - 1) * self.between_columns) / self.columns

    def left(self, column: int) -> float:
        return _LEFT + column * (self.width + self.between_columns)

    def add(self, figure: Figure, row: int, column: int) -> Axes:
        top = self.head + row * (self.panel + 0.44) + 0.34
        return _panel(figure, self.height, top=top, height=self.panel, left=self.left(column), width=self.width)


def _grid(
    rows: list[list[tuple[View, Recording]]],
    title: str | None,
    column_heads: Sequence[str] | None = None,
    row_heads: Sequence[str] | None = None,
    between: tuple[float, float] | None = None,
) -> Chart:
    """Draw views in rows and columns.

    With ``row_heads`` a row is a run and scales are shared down a column; otherwise a row is a view and its scale is
    shared along the row.
    """
    runs_down = row_heads is not None
    head = (0.2 + 0.24 * (wrapped(title).count("\n") + 1) if title else 0.1) + (0.26 if column_heads else 0)
    layout = _Layout(len(rows), len(rows[0]), head, _LABELLED_GAP if runs_down else _GAP)
    runs = list({id(run): run for row in rows for _, run in row}.values())
    start, end = between or (0.0, max(run.seconds for run in runs) or 1.0)
    most_ticks = 6 if layout.columns == 1 else 4
    with look():
        figure = sheet(layout.height, title)
        drawn: list[list[_Drawn]] = []
        for index, row in enumerate(rows):
            drawn.append([])
            for column, (view, run) in enumerate(row):
                axes = layout.add(figure, index, column)
                drawn[-1].append(_Drawn(axes, view, run, view.draw(axes, run, runs)))
                if runs_down or column == 0:
                    of_run = runs_down and column == 0
                    words = f"{row_heads[index]}: {_lower(view.title)}" if of_run else view.title
                    _heading(axes, words, "" if runs_down else view.note)
                _clock_axis(axes, run, (start, end), most=most_ticks, labelled=index == len(rows) - 1)
        for column, name in enumerate(column_heads or ()):
            figure.text(layout.left(column) / WIDTH, 1 - (head + 0.04) / layout.height, name, size=10, weight="bold",
                        color=BLUE)
        for group in zip(*drawn, strict=True) if runs_down else drawn:
            _share(group, side_by_side=not runs_down)
        for index, row in enumerate(drawn):
            for each in row:
                _draw_marks(each.axes, each.run, start, end, labelled=index == 0 or runs_down)
        for group in zip(*drawn, strict=True) if runs_down else drawn:
            _write_labels(group, down=runs_down)
    return Chart(figure, title or "", _summary(rows, column_heads or row_heads))


@dataclass(frozen=True)
class _Drawn:
    axes: Axes
    view: View
    run: Recording
    labels: Sequence[Label]


def _lower(words: str) -> str:
    return words[0].lower() + words[1:] if words[1:2].islower() else words


def _panel(figure: Figure, total: float, *, top: float, height: float, left: float, width: float) -> Axes:
    """Add axes at inches from the top left corner of a figure ``total`` inches high."""
    bottom = total - top - height
    return figure.add_axes((left / WIDTH, bottom / total, width / WIDTH, height / total))


def _heading(axes: Axes, title: str, note: str) -> None:
    head = axes.annotate(title, (0, 1), xycoords="axes fraction", xytext=(0, 6), textcoords="offset points", size=9.5,
                         weight="bold", va="bottom")
    if note:
        axes.annotate(note, (1, 0), xycoords=head, xytext=(6, 0), textcoords="offset points", size=8.5, color=GREY,
                      va="bottom")


def _clock_axis(axes: Axes, run: Recording, span: tuple[float, float], *, most: int, labelled: bool) -> None:
    start, end = span
    axes.set_xlim(start, end)
    of_day = datetime.strptime(run.clock.of_day, "%H:%M:%S")
    zero = of_day.hour * 3600 + of_day.minute * 60 + of_day.second
    step = next((step for step in _TICK_STEPS if (end - start) / step <= most), _TICK_STEPS[-1])
    first = -(-(zero + start) // step) * step - zero
    axes.xaxis.set_major_locator(FixedLocator(np.arange(first, end + 1e-9, step)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: run.clock_at(at) if labelled else ""))
    axes.xaxis.set_minor_locator(NullLocator())


def _share(group: Sequence[_Drawn], side_by_side: bool) -> None:
    """Give all panels of a group the same scale, with some room on top; figures once where they stand side by side."""
    with_data = [each.axes for each in group if each.axes.has_data()]
    if not with_data:
        return
    low = min(axes.dataLim.y0 for axes in with_data)
    high = max(axes.dataLim.y1 for axes in with_data)
    for index, each in enumerate(group):
        if each.view.log:
            _log_scale(each.axes, low, high)
        else:
            _linear_scale(each.axes, high, each.view.whole)
        if side_by_side and index:
            each.axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: ""))


def _log_scale(axes: Axes, low: float, high: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(10 ** np.floor(np.log10(max(low, 1e-4))), 10 ** np.ceil(np.log10(max(high, 1e-3) * 1.2)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(FixedLocator(_decades(axes.get_ylim())))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _duration(value)))


def _linear_scale(axes: Axes, high: float, whole: bool) -> None:
    axes.set_ylim(0, (high or 1) * 1.12)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=whole))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _decades(limits: tuple[float, float]) -> list[float]:
    low, high = np.log10(limits)
    decades = np.arange(round(low), round(high) + 1)
    return [10.0**decade for decade in (decades if len(decades) <= 5 else decades[::2])]


def _duration(value: float) -> str:
    return f"{value:g} s" if value >= 1 else f"{value * 1000:g} ms"


def _draw_marks(axes: Axes, run: Recording, start: float, end: float, labelled: bool) -> None:
    """Draw a dotted line for each mark; write its name where that does not run into the one before."""
    free_from = -np.inf
    across = axes.get_window_extent().width
    for at, name in run.marks:
        if not start <= at <= end:
            continue
        axes.axvline(at, color=INK, lw=0.9, ls=(0, (1, 2)), zorder=7)
        x = (at - start) / (end - start) * across
        width = text_size(name, 8)[0]
        if not labelled or x < free_from:
            continue
        leftward = x + width + 6 > across
        axes.annotate(name, (at, 1), xycoords=("data", "axes fraction"), xytext=(-4 if leftward else 4, -1),
                      textcoords="offset points", size=8, va="top", ha="right" if leftward else "left", color=INK,
                      zorder=8, bbox={"boxstyle": "square,pad=0.15", "fc": (1, 1, 1, 0.82), "ec": "none"})
        free_from = x + width + 14


def _write_labels(group: Sequence[_Drawn], down: bool) -> None:
    """Write the labels of panels with one scale, each once: colours mean the same in all of them.

    What has no room inside goes right of the last panel of a row, or right of the first in a column to have it.
    """
    said: set[str] = set()
    beside: dict[str, EndLabel] = {}
    for each in group:
        avoid = [at for at, _ in each.run.marks]
        unsaid = [label for label in each.labels if label.text not in said]
        left_over = {label.text: label for label in write_inside(each.axes, unsaid, avoid)}
        if down:
            write_beside(each.axes, list(left_over.values()))
            said |= {label.text for label in each.labels}
        else:
            said |= {label.text for label in unsaid} - set(left_over)
            beside |= left_over
    if not down:
        write_beside(group[-1].axes, [label for text, label in beside.items() if text not in said])


def _plain_numbers(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
        axis.set_minor_locator(NullLocator())


def _summary(rows: list[list[tuple[View, Recording]]], names: Sequence[str] | None) -> str:
    """What the chart shows, in words, for those who do not see it."""
    runs = list({id(run): run for row in rows for _, run in row}.values())
    views = dict.fromkeys(_lower(view.title) for row in rows for view, _ in row)
    told = []
    for run, name in zip(runs, names if names and len(names) == len(runs) else _names(runs, None), strict=True):
        failed = run.failed_share()
        share = "no requests" if np.isnan(failed) else f"{percent(failed)} of requests failed"
        told.append(f"{name} ({seconds(run.seconds)} from {run.clock_at(0)}, {share})")
    return f"Shows {', '.join(views)} of {'; '.join(told)}"

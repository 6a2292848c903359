"""How the workbook's charts look: one palette, one type size, labels beside the lines instead of legends.

The palette is Okabe and Ito's, which colour-blind readers can tell apart (https://jfly.uni-koeln.de/color/).
"""

import io
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

BLUE, LIGHT, VERMILION, GREY = "#0072B2", "#8EC5E8", "#D55E00", "#7A828C"
ORANGE, GREEN, PURPLE = "#E69F00", "#009E73", "#AA5C8F"
INK, FAINT, MIST, PAPER = "#1B2430", "#E3E6EA", "#ECEEF1", "#FFFFFF"
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, GREY)

WIDTH = 9.0
"""Inches; 900 px on the page."""

_DPI = 100
_SHARP = 2  # pixels drawn a pixel shown, for screens that show them


@dataclass(frozen=True)
class EndLabel:
    """Words at the right end of a series, at height ``y`` (data units), in the series' colour."""

    text: str
    y: float
    colour: str


@dataclass(frozen=True)
class AreaLabel:
    """Words inside a band between ``low`` and ``high`` (data units, shape (n,) as ``x``), where it is thick enough.

    Where it is not, the words go to the right end, if the band is there at all. ``behind``: the band's own colour, so
    that a hatch or a gap does not run through the words.
    """

    text: str
    x: np.ndarray
    low: np.ndarray
    high: np.ndarray
    colour: str
    inside: str = INK
    behind: str = "none"


Label = EndLabel | AreaLabel


class Chart:
    """A finished figure, shown as a picture in a notebook. ``figure`` is matplotlib's, to change at will."""

    def __init__(self, figure: Figure, title: str = "", summary: str = "") -> None:
        self.figure = figure
        self.title = title
        self.summary = summary

    def __repr__(self) -> str:
        return "Chart: " + ". ".join(filter(None, (self.title.rstrip("."), self.summary))) + "."

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        width, height = self.figure.get_size_inches() * _DPI
        return self.png(), {"width": round(width), "height": round(height)}

    def png(self) -> bytes:
        """Return the picture as PNG, twice the size it is shown at, in 128 colours."""
        from PIL import Image

        drawn = io.BytesIO()
        with look():
            self.figure.savefig(drawn, format="png", dpi=_DPI * _SHARP, transparent=True)
        picture = Image.open(drawn).quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        small = io.BytesIO()
        picture.save(small, format="png", optimize=True)
        return small.getvalue()

    def save(self, path: Any) -> None:
        """Write the picture to ``path`` as PNG."""
        from pathlib import Path

        Path(path).write_bytes(self.png())


@cache
def _fonts() -> list[str]:
    from matplotlib import font_manager

    known = set(font_manager.get_font_names())
    return [name for name in ("Inter", "Helvetica Neue", "Segoe UI", "Roboto") if name in known] + ["DejaVu Sans"]


def look() -> AbstractContextManager[None]:
    """Return a context in which matplotlib draws in the workbook's style."""
    return mpl.rc_context({
        "font.family": _fonts(), "font.size": 9, "text.color": INK, "axes.edgecolor": "#B6BCC4",
        "axes.linewidth": 0.8, "axes.labelcolor": GREY, "axes.labelsize": 9, "xtick.color": "#B6BCC4",
        "ytick.color": "#B6BCC4", "xtick.labelcolor": "#59616B", "ytick.labelcolor": "#59616B", "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5, "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
        "ytick.major.size": 0, "xtick.major.size": 3, "axes.grid": True, "axes.grid.axis": "y", "grid.color": FAINT,
        "grid.linewidth": 0.8, "axes.axisbelow": True, "axes.facecolor": "none", "hatch.linewidth": 0.7,
        "lines.solid_capstyle": "round", "path.simplify": True,
    })


def sheet(height: float, title: str | None) -> Figure:
    """Return an empty figure WIDTH inches wide on a white card, with ``title`` at its top left."""
    figure = Figure(figsize=(WIDTH, height), dpi=_DPI)
    figure.patch.set_alpha(0)
    card = FancyBboxPatch((0, 0), WIDTH, height, boxstyle="round,pad=0,rounding_size=0.09", facecolor=PAPER,
                          edgecolor="none", transform=figure.dpi_scale_trans, zorder=-10)
    figure.add_artist(card)
    if title:
        title = wrapped(title)
        figure.text(0.16 / WIDTH, 1 - 0.17 / height, title, size=12.5, weight="bold", va="top", linespacing=1.25)
    return figure


def wrapped(title: str) -> str:
    """Return a title in lines that fit the width of a figure."""
    return "\n".join(textwrap.fill(line, 88) for line in title.split("\n"))


def write_inside(axes: Axes, labels: Sequence[Label], avoid: Sequence[float] = ()) -> list[EndLabel]:
    """Write the labels of areas that are thick enough; return the others as labels for the right end.

    ``avoid``: places on the x axis where a line runs that should not cross words.
    """
    beside: list[EndLabel] = []
    for label in labels:
        if isinstance(label, EndLabel):
            beside.append(label)
        elif not _write_inside(axes, label, avoid):
            beside += _at_the_end(label)
    return beside


def nothing(axes: Axes, words: str = "nothing recorded") -> None:
    """Say in the middle of ``axes`` that there is nothing to draw."""
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color=GREY, style="italic")
    axes.set_yticks([])


@cache
def text_size(text: str, size: float = 8.5) -> tuple[float, float]:
    """Return the width and height of ``text`` in pixels of a 100 dpi figure."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    lines = text.split("\n")
    with look():
        paths = [TextPath((0, 0), line or " ", size=size, prop=FontProperties(family=_fonts())) for line in lines]
    return max(path.get_extents().width for path in paths) * _DPI / 72, len(lines) * size * 1.38 * _DPI / 72


def _write_inside(axes: Axes, label: AreaLabel, avoid: Sequence[float]) -> bool:
    if len(label.x) < 2:
        return False
    width, height = text_size(label.text)
    pixel = axes.transData.transform
    left, right = axes.get_xlim()
    across = pixel((right, 0))[0] - pixel((left, 0))[0]
    room = (width + 12) / across * (right - left)
    tops = [min(value, axes.get_ylim()[1]) for value in label.high]
    best, where = 0.0, None
    for x in np.linspace(left, right - room, 60):
        inside = (label.x >= x) & (label.x <= x + room)
        crossed = any(x <= line <= x + room for line in avoid)
        if crossed or not inside.any() or x + room > label.x[-1] or x < label.x[0]:
            continue
        top, bottom = np.array(tops)[inside].min(), label.low[inside].max()
        thick = pixel((left, top))[1] - pixel((left, bottom))[1]
        if thick > best:
            best, where = thick, (x + room / 2, (top + bottom) / 2)
    if where is None or best < height + 2:
        return False
    axes.text(*where, label.text, color=label.inside, size=8.5, ha="center", va="center", zorder=6,
              bbox={"boxstyle": "square,pad=0.2", "fc": label.behind, "ec": "none"})
    return True


def _at_the_end(label: AreaLabel) -> list[EndLabel]:
    present = np.flatnonzero(label.high > label.low)
    if not len(present):
        return []
    last = present[-1]
    return [EndLabel(label.text, float(label.low[last] + label.high[last]) / 2, label.colour)]


def write_beside(axes: Axes, labels: Sequence[EndLabel]) -> None:
    """Write labels right of ``axes``, moved apart where they would overlap, never above or below the axes."""
    if not labels:
        return
    bottom, top = axes.transData.transform([(0, limit) for limit in axes.get_ylim()])[:, 1]
    box = axes.get_window_extent()
    ordered = sorted(labels, key=lambda label: label.y)
    heights = [text_size(label.text)[1] for label in ordered]
    wanted = [float(np.clip(axes.transData.transform((0, label.y))[1], bottom, top)) for label in ordered]
    for label, y in zip(ordered, spread(wanted, heights, box.y0 - 4, box.y1 + 4), strict=True):
        axes.annotate(label.text, (1, (y - box.y0) / box.height), xycoords="axes fraction", xytext=(6, 0),
                      textcoords="offset points", color=label.colour, size=8.5, va="center", linespacing=1.15,
                      annotation_clip=False)


def spread(wanted: Sequence[float], heights: Sequence[float], low: float, high: float) -> list[float]:
    """Return centres near ``wanted`` (ascending) for boxes of ``heights`` that do not overlap, within [low, high].

    Where they cannot all fit they overlap evenly rather than leave the range at the bottom.
    """
    centres: list[float] = []
    floor = low
    for centre, height in zip(wanted, heights, strict=True):
        centres.append(max(centre, floor + height / 2))
        floor = centres[-1] + height / 2
    ceiling = high
    for index in range(len(centres) - 1, -1, -1):
        centres[index] = min(centres[index], ceiling - heights[index] / 2)
        ceiling = centres[index] - heights[index] / 2
    return centres

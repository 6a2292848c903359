"""A still picture of the panel, for places without a kernel: committed notebooks, the README.

Drawn with matplotlib from the same snapshot the browser draws, in the same style. Coordinates are the browser's
pixels, with the origin at the top left.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

INK, QUIET, LINE, EDGE = "#1f2933", "#667281", "#e1e5ea", "#c6ced7"
MAIN, GOOD, ON_GOOD, BAD, BAD_SOLID = "#0072b2", "#8ec5e8", "#10293a", "#d55e00", "#c85800"
TONES = {
    "idle": (QUIET, "#f3f5f7"),
    "good": ("#2f7d4f", "#edf6f1"),
    "warn": ("#b07400", "#fcf5e3"),
    "bad": (BAD, "#fdf1ea"),
}
FILLS = {"good": GOOD, "bad": BAD, "main": MAIN, "quiet": EDGE}
STROKES = {"good": GOOD, "bad": BAD, "main": MAIN, "quiet": QUIET}
FONTS = ["Inter", "Segoe UI", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans"]
SLOT_SIZES = [
    (54, 10, 100, 11.0),
    (34, 8, 62, 9.0),
    (26, 6, 46, 8.5),
    (22, 5, 38, 8.0),
    (18, 4, 29, 7.0),
    (14, 3, 22, 6.0),
    (11, 3, 8, 0),
]
HEIGHTS: dict[str, Callable[[dict[str, Any]], float]] = {
    "slider": lambda _: 46,
    "choice": lambda spec: 24 + 29 * math.ceil(len(spec["options"]) / options_across(spec)),
    "action": lambda _: 38,
}
Box = tuple[float, float, float, float]  # left, top, width, height
SCALE = 110.0  # browser pixels an inch of the picture


@dataclass
class Picture:
    """What the panel showed. Shown by a notebook as an image; ``save`` writes a file.

    ``width`` is in inches. ``figure`` is the matplotlib figure, drawn when first asked for.
    """

    snapshot: dict[str, Any]
    controls: list[dict[str, Any]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    width: float = 9.6

    @cached_property
    def figure(self) -> Any:
        """The matplotlib figure."""
        return Drawing(self).figure

    def save(self, path: Path | str, dpi: float = 200) -> Path:
        """Write the picture to ``path``; the ending chooses the format (png, svg, pdf). Returns the path."""
        path = Path(path)
        self.figure.savefig(path, dpi=dpi)
        return path

    def __repr__(self) -> str:
        return f"[picture of the panel] {self.snapshot.get('sentence', '')}"

    def _repr_mimebundle_(self, **_kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        file = io.BytesIO()
        self.figure.savefig(file, dpi=192, format="png")
        shown = {"width": round(self.width * 96), "height": round(self.figure.get_figheight() * 96)}
        return {"image/png": file.getvalue(), "text/plain": repr(self)}, {"image/png": shown}


class Drawing:
    """Lays the parts of a picture out on one figure."""

    def __init__(self, picture: Picture) -> None:
        from matplotlib.figure import Figure

        self.fonts = installed_fonts()
        self.snapshot = picture.snapshot
        self.controls = picture.controls
        self.values = picture.values
        self.wide = picture.width * SCALE
        self.left = 300.0 if self.controls else 24.0
        self.charts = self.snapshot.get("charts") or []
        facts = self.snapshot.get("facts")
        middle = 52 + 46 + (236 if self.snapshot.get("pool") or self.snapshot.get("waiting") else 0)
        column = 84 + sum(HEIGHTS[spec["kind"]](spec) for spec in self.controls)
        self.high = max(middle + (168 if self.charts else 0) + (34 if facts else 12), column)
        self.figure = Figure(figsize=(picture.width, self.high / SCALE), facecolor="white")
        self.page = self.axes(0, 0, self.wide, self.high)
        self.banner()
        self.column()
        self.pool()
        self.waiting()
        self.all_charts(middle)
        if facts:
            self.facts(facts)

    # Tools.

    def axes(self, x: float, y: float, wide: float, high: float) -> Any:
        """Return axes over the box whose top left is (x, y), in pixels of their own, y downwards."""
        axes = self.figure.add_axes((x / self.wide, 1 - (y + high) / self.high, wide / self.wide, high / self.high))
        axes.set_xlim(0, wide)
        axes.set_ylim(high, 0)
        axes.axis("off")
        return axes

    def text(self, x: float, y: float, words: str, size: float = 9, colour: str = INK, **more: Any) -> None:
        """Write ``words`` with their baseline at y."""
        more = {"ha": "left", "va": "baseline", "family": self.fonts, **more}
        axes = more.pop("axes", self.page)
        axes.text(x, y, words, fontsize=size * 72 / SCALE * 1.42, color=colour, **more)

    def box(self, x: float, y: float, wide: float, high: float, **more: Any) -> None:
        """Draw a box with rounded corners."""
        from matplotlib.patches import FancyBboxPatch

        radius = min(5.0, high / 5)
        style = f"round,pad=0,rounding_size={radius}"
        self.page.add_patch(FancyBboxPatch((x, y), wide, high, boxstyle=style, **{"linewidth": 0.7, **more}))

    def dot(self, x: float, y: float, radius: float, **more: Any) -> None:
        """Draw a circle."""
        from matplotlib.patches import Circle

        self.page.add_patch(Circle((x, y), radius, **{"linewidth": 0, **more}))

    def rule(self, x: float, y: float, wide: float, colour: str, thick: float = 0.8) -> None:
        """Draw a horizontal line."""
        self.page.plot([x, x + wide], [y, y], color=colour, linewidth=thick, solid_capstyle="round")

    # Parts.

    def banner(self) -> None:
        """Draw the sentence on its tint."""
        from matplotlib.patches import Rectangle

        strong, tint = TONES.get(self.snapshot.get("tone", "idle"), TONES["idle"])
        self.page.add_patch(Rectangle((0, 0), self.wide, 52, color=tint, linewidth=0))
        self.page.add_patch(Rectangle((0, 0), 5, 52, color=strong, linewidth=0))
        sentence = self.snapshot.get("sentence", "")
        size = min(12.0, 12.0 * 92 / max(92, len(sentence)))
        self.text(24, 32, sentence, size, weight=600)
        speed = self.snapshot.get("speed")
        if speed and len(sentence) < 100:
            self.text(self.wide - 24, 32, f"{speed:g}× faster than life", 8.5, QUIET, ha="right")

    def column(self) -> None:
        """Draw where each slider and each choice stands."""
        y = 88.0
        for spec in self.controls:
            draw = {"slider": self.slider, "choice": self.choice, "action": self.action}[spec["kind"]]
            draw(spec, self.values.get(spec["name"]), y)
            y += HEIGHTS[spec["kind"]](spec)

    def choice(self, spec: dict[str, Any], value: str, y: float) -> None:
        """Draw one choice with all its options."""
        self.text(24, y, spec["label"])
        across = options_across(spec)
        wide = (232 - 5 * (across - 1)) / across
        for at, option in enumerate(spec["options"]):
            left, top = 24 + at % across * (wide + 5), y + 9 + at // across * 29
            chosen = option["value"] == value
            self.box(left, top, wide, 24, facecolor=INK if chosen else "white", edgecolor=INK if chosen else EDGE)
            size = min(7.6, wide / 5.0 * 7.6 / max(1, len(option["label"])))
            self.text(left + wide / 2, top + 15.5, option["label"], size, "white" if chosen else INK, ha="center")

    def action(self, spec: dict[str, Any], _value: None, y: float) -> None:
        """Draw one button."""
        fill = BAD_SOLID if spec["primary"] else "white"
        self.box(24, y - 6, 232, 30, facecolor=fill, edgecolor=fill if spec["primary"] else EDGE)
        self.text(140, y + 13, spec["label"], 8.5, "white" if spec["primary"] else INK, weight=600, ha="center")

    def slider(self, spec: dict[str, Any], value: float, y: float) -> None:
        """Draw one slider."""
        low, high = spec["low"], spec["high"]
        share = (value - low) / (high - low)
        if spec["values"]:
            share = math.log(value / low) / math.log(high / low)
        shown = f"{value:,.10g} {spec['unit']}".strip()
        self.text(24, y, spec["label"])
        self.text(256, y, shown, weight=600, ha="right")
        self.rule(24, y + 14, 232, LINE, 2.6)
        self.rule(24, y + 14, 232 * share, MAIN, 2.6)
        self.dot(24 + 232 * share, y + 14, 7, facecolor="white", edgecolor=MAIN, linewidth=1.5, zorder=3)

    def pool(self) -> None:
        """Draw the pool, slot by slot."""
        pool = self.snapshot.get("pool")
        if not pool:
            return
        wide = self.wide - self.left - 240
        self.text(self.left, 82, pool["title"], weight=600)
        self.text(self.left + wide, 82, pool.get("note", ""), 8.5, QUIET, ha="right")
        pods = pool.get("pods") or [{"name": "", "slots": pool.get("slots") or []}]
        each = wide / len(pods) - (14 if len(pods) > 1 else 0)
        for at, pod in enumerate(pods):
            x = self.left + at * wide / len(pods)
            if pod["name"]:
                self.text(x, 104, pod["name"], 8, QUIET)
            top = 112 if pod["name"] else 94
            self.slots(pod["slots"], x, top, each)

    def slots(self, slots: list[Any], x: float, y: float, wide: float) -> None:
        """Draw one pod's slots in a box ``wide`` pixels wide."""
        high, gap, columns, across, size = fit_slots(len(slots), wide, 312 - y)
        for at, slot in enumerate(slots):
            left, top = x + at % columns * (across + gap), y + at // columns * (high + gap)
            held = bool(slot) and slot.get("tone") != "free"
            bad = held and slot.get("tone") == "bad"
            fill = "white" if not held else BAD_SOLID if bad else GOOD
            self.box(left, top, across, high, facecolor=fill, edgecolor=fill if held else EDGE)
            words = slot["label"] if held else "free"
            if size and (held or across >= 40):
                colour = QUIET if not held else "white" if bad else ON_GOOD
                more = {"ha": "center", "weight": 600 if bad else 400}
                self.text(left + across / 2, top + high / 2 + size * 0.46, words, size, colour, **more)

    def waiting(self) -> None:
        """Draw the line, a dot a request, and what was refused."""
        waiting = self.snapshot.get("waiting")
        if not waiting:
            return
        x, count, limit = self.wide - 204, waiting.get("count", 0), waiting.get("limit") or 0
        self.text(x, 82, f"Waiting, {count:,}" if count else "Waiting, none", weight=600)
        waits = sorted(waiting.get("waits") or [], reverse=True)
        longest = f"{waiting.get('longest') or 0:,.0f} of {limit:g} s" if count else f"limit {limit:g} s"
        self.text(x + 184, 82, longest, 8, QUIET, ha="right")
        pitch = next((p for p in (18, 16, 14, 12, 10, 8, 7) if (180 // p) * (144 // p) >= count), 7)
        across = int(180 // pitch)
        for at in range(min(count, across * int(144 // pitch))):
            share = min(1.0, waits[min(at, len(waits) - 1)] / limit) if waits and limit else 1.0
            place = x + at % across * pitch + pitch / 3, 96 + at // across * pitch + pitch / 3
            self.dot(*place, pitch / 3, facecolor=MAIN, alpha=0.25 + 0.75 * share)
        if "refused" not in waiting:
            return
        refused = waiting["refused"] or 0
        words = f"Refused with 503, {refused:,}" if refused else "Refused with 503, none"
        self.text(x, 258, words, 9, BAD if refused else QUIET, weight=600 if refused else 400)
        for at in range(min(refused, 20)):
            place = x + 6 + at % 10 * 18, 276 + at // 10 * 18
            self.dot(*place, 5, facecolor="none", edgecolor=BAD, linewidth=1.4)

    def all_charts(self, top: float) -> None:
        """Draw the charts side by side below the pool."""
        room = self.wide - self.left - 24
        for at, chart in enumerate(self.charts):
            each = room / len(self.charts) - (16 if len(self.charts) > 1 else 0)
            x = self.left + at * (room / len(self.charts)) + (16 if at else 0)
            self.text(x, top + 4, chart["title"], weight=600)
            self.text(x + each, top + 4, chart.get("note", ""), 8.5, QUIET, ha="right")
            draw = self.lines if chart["kind"] == "lines" else self.bars
            draw(chart, (x, top + 28, each, 100))

    def bars(self, chart: dict[str, Any], box: Box) -> None:
        """Draw stacked bars."""
        import numpy as np

        values = [np.nan_to_num(np.array(each["values"], float)) for each in chart["series"]]
        count = max((len(each) for each in values), default=0)
        top = max([chart.get("limit") or 0, *(sum(values) if count else [0])]) or 1
        axes = self.plot(box, (0, max(1, count)), (0, top))
        base = np.zeros(count)
        for each, series in zip(values, chart["series"], strict=True):
            tone = series.get("tone", "good")
            axes.bar(np.arange(count) + 0.5, each, 0.86, base, color=FILLS[tone], linewidth=0)
            at = roomy(each, top, len(series["name"]) * 6.2 + 4, box[2], series is not chart["series"][0])
            if at is not None:
                colour = "white" if tone in {"bad", "main"} else ON_GOOD
                self.text(at, base[int(at)] + each[int(at)] / 2, series["name"], 8.5, colour, axes=axes, ha="center")
            base = base + each
        self.around(chart, box, count)

    def lines(self, chart: dict[str, Any], box: Box) -> None:
        """Draw lines, each with its name at its right end."""
        import numpy as np

        ticks = chart.get("y_ticks") or []
        values = [np.array(each["values"], float) for each in chart["series"]]
        count = max((len(each) for each in values), default=0)
        biggest = max([1.0, *(float(np.nanmax(each)) for each in values if np.isfinite(each).any())])
        low, top = (ticks[0][0], ticks[-1][0]) if len(ticks) > 1 else (1.0 if chart.get("log") else 0.0, biggest)
        x, y, wide, high = box[0] + 38, box[1], box[2] - 74, box[3]
        axes = self.plot((x, y, wide, high), (0, max(1, count - 1)), (low, top))
        if chart.get("log"):
            axes.set_yscale("log")
            axes.minorticks_off()
        axes.set_yticks([tick for tick, _ in ticks], [str(label) for _, label in ticks])
        axes.tick_params(axis="y", length=0, labelsize=8 * 72 / SCALE * 1.42, labelcolor=QUIET, pad=4)
        axes.grid(axis="y", color=LINE, linewidth=0.7)
        ends = []
        for at, (each, series) in enumerate(zip(values, chart["series"], strict=True)):
            tone = series.get("tone", "quiet" if at else "main")
            shown = np.clip(each, low, top)
            axes.plot(shown, color=STROKES[tone], linewidth=1.6 if tone == "main" else 1.1, clip_on=False)
            if np.isfinite(shown).any():
                last = shown[np.isfinite(shown)][-1]
                ends.append((axes.transData.transform((0, last))[1], series["name"], STROKES[tone]))
        gap = 13 / self.high * self.figure.bbox.height
        placed = 1e9
        for level, name, colour in sorted(ends, reverse=True):
            placed = min(level, placed - gap)
            self.text(x + wide + 6, self.high * (1 - placed / self.figure.bbox.height) + 4, name, 8.5, colour)
        self.around(chart, (x, y, wide, high), count)

    def plot(self, box: Box, across: tuple[float, float], up: tuple[float, float]) -> Any:
        """Return axes for a chart over the box, with only a base line."""
        x, y, wide, high = box
        place = (x / self.wide, 1 - (y + high) / self.high, wide / self.wide, high / self.high)
        axes = self.figure.add_axes(place, facecolor="none")
        axes.set_xlim(*across)
        axes.set_ylim(*up)
        axes.set_xticks([])
        axes.set_yticks([])
        for side, spine in axes.spines.items():
            spine.set(visible=side == "bottom", color=LINE)
        return axes

    def around(self, chart: dict[str, Any], box: Box, count: int) -> None:
        """Draw the marks and the ticks of a chart."""
        x, y, wide, high = box
        for mark in chart.get("marks") or []:
            at = x + wide * mark["at"] / max(1, count)
            self.page.plot([at, at], [y - 12, y + high], color=INK, linewidth=0.8, linestyle=(0, (1.5, 2)))
            self.text(at + 4, y - 4, mark["label"], 8)
        ticks = chart.get("ticks") or []
        for at, tick in enumerate(ticks):
            share = at / (len(ticks) - 1) if len(ticks) > 1 else 0
            side = "left" if share == 0 else "right" if share == 1 else "center"
            self.text(x + wide * share, y + high + 15, tick, 8, QUIET, ha=side)

    def facts(self, facts: list[dict[str, Any]]) -> None:
        """Write the figures below the charts."""
        words = "     ".join(f"{fact['label']} {fact['value']}" for fact in facts)
        self.text(self.left, self.high - 14, words, 8.5, QUIET)


def options_across(spec: dict[str, Any]) -> int:
    """Return how many options of a choice stand side by side."""
    return min(3, len(spec["options"]))


def roomy(values: Any, top: float, label: float, wide: float, from_right: bool) -> float | None:
    """Return where, in columns, a label of ``label`` pixels has room inside a band of bars; None if nowhere."""
    columns = math.ceil(label / wide * max(1, len(values)))
    thin = [min(values[start : start + columns]) for start in range(len(values) - columns + 1)]
    if not thin or max(thin) < 0.17 * top:
        return None
    enough = [start for start, thickness in enumerate(thin) if thickness >= 0.85 * max(thin)]
    return (enough[-1] if from_right else enough[0]) + columns / 2


@cache
def installed_fonts() -> list[str]:
    """Return those of our fonts that this machine has: matplotlib complains about every one it has not."""
    from matplotlib import font_manager

    there = set(font_manager.get_font_names())
    return [name for name in FONTS if name in there][:1] or ["DejaVu Sans"]


def even_columns(count: int, fewest: int, comfortable: int) -> int:
    """Return as many columns as are comfortable, or a few less when the last row is then full."""
    most = max(fewest, min(count, comfortable), 1)
    even = (columns for columns in range(most, max(fewest, math.ceil(most * 0.6)) - 1, -1) if count % columns == 0)
    return next(even, most)


def fit_slots(count: int, wide: float, high: float) -> tuple[float, float, int, float, float]:
    """Return height, gap, columns, width and label size of the largest slots of which ``count`` fit in a box."""
    for each, gap, narrowest, size in SLOT_SIZES:
        rows = max(1, int((high + gap) // (each + gap)))
        columns = even_columns(count, math.ceil(count / rows), int((wide + gap) // (max(narrowest, 76) + gap)))
        across = min(each * 2.2 + 36, (wide - gap * (columns - 1)) / columns)
        if across >= narrowest:
            return each, gap, columns, across, size
    return 6, 2, max(1, int(wide // 8)), 6, 0

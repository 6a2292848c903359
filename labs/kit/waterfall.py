"""The waterfall of a trace: time from left to right, a line a span, equal spans folded into one line.

A folded line says how many there are, how long they took in all, at the median and at the 99th percentile; its strip is
dark where they lie close together. The connection that the request held is a thin line of its own.
"""

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from labs.kit.clock import Clock
from labs.kit.folding import MOST_LINES, Line, fold
from labs.kit.style import LIGHT, VERMILION
from labs.kit.table import TABLE, TABLE_STYLE, count, seconds
from labs.kit.traces import Trace

_WIDTH, _HEIGHT = 350, 20  # px, of the timeline and of one bar's row
_BINS = _WIDTH // 2
# The database is a little lighter than BLUE so that it shows on a dark page too.
_GREY = "#8A929B"
_COLOURS = {"root": _GREY, "held": VERMILION, "wait": VERMILION, "database": "#1F83C2", "http": LIGHT, "": _GREY}
_BLOCKS = " ▁▂▃▄▅▆▇█"
_STEPS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)

# "&" is this table, named so that it weighs more than the rules for tables.
_STYLE = """<style>
&{table-layout:fixed;width:100%;min-width:720px;max-width:900px}
& th,& td{padding:2px 10px 2px 0;line-height:1.3;vertical-align:middle;overflow:hidden}
& td:nth-child(6),& th:nth-child(6){padding:0;text-align:left}
& .w{white-space:nowrap;text-overflow:ellipsis;overflow:hidden;display:block}
& .u td{border-bottom:0}
& .u td:nth-child(6){border-bottom:1px solid rgba(128,128,128,.22)}
& .d td{padding-top:0}
& .d span{opacity:.72;font-size:11px;font-family:var(--jp-code-font-family,ui-monospace,monospace)}
& .e{color:#D55E00;font-weight:600}
& .plain{display:none}
& svg{display:block;max-width:none;font:11px system-ui,sans-serif}
</style>""".replace("&", f"{TABLE}.labs-waterfall")


@dataclass(frozen=True)
class Waterfall:
    """A trace drawn as lines over time. Shown as HTML in a notebook and as text elsewhere.

    ``lines``: see Line; ``start`` and ``end``: what the timeline spans, incident seconds since the run's start.
    """

    title: str
    lines: tuple[Line, ...]
    start: float
    end: float
    clock: Clock
    left_out: int = 0

    @classmethod
    def of(cls, trace: Trace, title: str | None = None) -> Self:
        """Fold ``trace`` into lines; of more than MOST_LINES, those that took longest are kept."""
        lines = fold(trace)
        kept = _longest(lines)
        start = min(line.starts[0] for line in lines)
        end = max(start + 1e-6, *(line.ends.max() for line in lines))
        return cls(title or _said(trace), tuple(kept), start, end, trace.clock, len(lines) - len(kept))

    def __repr__(self) -> str:
        rows = [("", "spans", "in all", "p50", "p99", self._scale_in_words())]
        rows += [(_cut("  " * line.depth + _label(line), 52), *_figures(line), self._blocks(line, 40))
                 for line in self.lines]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        texts = [self._text_row(row, widths) for row in rows]
        return "\n".join([self.title, *texts, *self._footnotes()])

    def _text_row(self, row: Sequence[str], widths: Sequence[int]) -> str:
        figures = "  ".join(text.rjust(width) for text, width in zip(row[1:5], widths[1:], strict=True))
        return f"{row[0].ljust(widths[0])}  {figures}  {row[5]}".rstrip()

    def _repr_html_(self) -> str:
        columns = '<colgroup><col><col style="width:50px"><col style="width:66px">' \
                  '<col style="width:62px"><col style="width:62px"><col style="width:300px"></colgroup>'
        head = f'<tr><th></th>{_cells(("spans", "in all", "p50", "p99"), "th")}<th>{self._axis()}</th></tr>'
        body = "".join(self._html_row(line) for line in self.lines)
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self._footnotes())
        return (f'{TABLE_STYLE}{_STYLE}<div style="overflow-x:auto"><table class="labs-table labs-waterfall">'
                f"<caption>{html.escape(self.title)}</caption>{columns}<thead>{head}</thead><tbody>{body}</tbody></table>"
                f"{notes}</div>")

    def _html_row(self, line: Line) -> str:
        label, detail = html.escape(_label(line)), html.escape(line.detail)
        failed = f'<span class="w e">{count(line.errors)} ended in an error</span>' if line.errors else ""
        indent = f'style="padding-left:{14 * line.depth}px"'
        words = f'<span class="w">{"<b>" + label + "</b>" if line.kind == "root" else label}</span>{failed}'
        drawn = f'{self._bar(line)}<span class="plain">{self._blocks(line, 40)}</span>'
        whole = detail if line.kind == "database" else ""
        second = f'<tr class="d"><td colspan="5" {indent}><span class="w">{whole}</span></td></tr>' if whole else ""
        return (f'<tr title="{detail or label}"{" class=u" if whole else ""}><td {indent}>{words}</td>'
                f'{_cells(_figures(line), "td")}<td{" rowspan=2" if whole else ""}>{drawn}</td></tr>{second}')

    # Time

    def _x(self, at: float) -> float:
        return (at - self.start) / (self.end - self.start) * _WIDTH

    def _ticks(self) -> list[tuple[float, str]]:
        """Times and their words: the incident's clock for what takes seconds, time since the start for less."""
        length = self.end - self.start
        if length >= 4:
            step = next((step for step in _STEPS if length / step <= 5), _STEPS[-1])
            zero = _seconds_of_day(self.clock.of_day)
            first = math.ceil((zero + self.start) / step) * step - zero
            return [(float(at), self.clock.label(at)) for at in np.arange(first, self.end, step)]
        step = 10.0 ** math.floor(math.log10(length / 2))
        step *= next(factor for factor in (1, 2, 5, 10) if length / (step * factor) <= 4)
        return [(self.start + each * step, "0" if not each else f"+{seconds_exactly(each * step)}")
                for each in range(int(length / step + 1e-9) + 1)]

    def _scale_in_words(self) -> str:
        return f"{self.clock.label(self.start)} to {self.clock.label(self.end)}"

    def _footnotes(self) -> list[str]:
        return [f"{self.left_out} shorter lines are left out."] if self.left_out else []

    # Drawing

    def _axis(self) -> str:
        parts = []
        for at, words in self._ticks():
            x = self._x(at)
            anchor = "start" if x < 28 else "end" if x > _WIDTH - 28 else "middle"
            parts.append(f'<text x="{x:.1f}" y="13" text-anchor="{anchor}" fill="currentColor">{words}</text>')
        return _svg("".join(parts), 18, "time")

    def _grid(self) -> str:
        style = f'y1="0" y2="{_HEIGHT}" stroke="currentColor" stroke-opacity=".16"'
        places = [f"{self._x(at):.1f}" for at, _ in self._ticks()]
        return "".join(f'<line x1="{x}" x2="{x}" {style}/>' for x in places)

    def _bar(self, line: Line) -> str:
        colour = _COLOURS[line.kind]
        top, thick = (8.5, 3) if line.kind == "held" else (4, 12)
        draw = self._single if line.count == 1 else self._strip
        shapes = draw(line, colour, top, thick)
        said = f"{_label(line)}: {count(line.count)} spans, {seconds(line.total)} in all"
        return _svg(self._grid() + shapes, _HEIGHT, said)

    def _single(self, line: Line, colour: str, top: float, thick: float) -> str:
        x, end = self._x(line.starts[0]), self._x(line.ends[0])
        width = max(end - x, 1.5)
        if line.kind == "wait":
            box = f'x="{x + 0.5:.1f}" y="{top + 0.5}" width="{max(width - 1, 1):.1f}" height="{thick - 1}"'
            return f'<rect {box} fill="none" stroke="{colour}" stroke-dasharray="3 2"/>'
        if not line.cut_off:
            return f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="{thick}" rx="1.5" fill="{colour}"/>'
        # A torn end: nobody saw this span finish.
        steps = 2 if thick < 6 else 4
        torn = [(end - (4 if each % 2 else 0), top + thick * each / steps) for each in range(steps + 1)]
        teeth = " ".join(f"{across:.1f},{down:.1f}" for across, down in torn)
        shape = f'<polygon points="{x:.1f},{top} {teeth} {x:.1f},{top + thick}" fill="{colour}"/>'
        words = "" if width < 70 or thick < 6 else (
            f'<text x="{end - 9:.1f}" y="{top + 9.5}" text-anchor="end" fill="#111" font-size="10">cut off here</text>')
        return shape + words

    def _strip(self, line: Line, colour: str, top: float, thick: float) -> str:
        """A strip as dark as the share of each moment that lies within a span; equal neighbours are one shape."""
        edges = np.linspace(self.start, self.end, _BINS + 1)
        covered = line.covered(edges)
        level = np.where(covered > 0, np.ceil(covered * 8), 0).astype(int)
        shapes = []
        first = 0
        for index in range(1, len(level) + 1):
            if index < len(level) and level[index] == level[first]:
                continue
            if level[first]:
                width = (index - first) * 2
                shapes.append(f'<rect x="{first * 2}" y="{top}" width="{width}" height="{thick}" fill="{colour}" '
                              f'fill-opacity="{0.36 + 0.08 * level[first]:.2f}"/>')
            first = index
        return "".join(shapes)

    def _blocks(self, line: Line, width: int) -> str:
        covered = line.covered(np.linspace(self.start, self.end, width + 1))
        strip = "".join(_BLOCKS[math.ceil(share * 8)] if share > 1e-9 else " " for share in covered)
        return f"{strip.rstrip()}⌁" if line.cut_off else strip.rstrip()


def seconds_exactly(duration: float) -> str:
    """Return a round duration as words, without rounding it further: "2.5 ms", "1.5 s"."""
    return f"{duration:.3g} s" if duration >= 1 else f"{duration * 1000:.3g} ms"


def _longest(lines: list[Line]) -> list[Line]:
    if len(lines) <= MOST_LINES:
        return lines
    order = sorted(range(len(lines)), key=lambda index: (lines[index].depth > 1, -lines[index].total))
    kept = set(order[:MOST_LINES])
    return [line for index, line in enumerate(lines) if index in kept]


def _said(trace: Trace) -> str:
    began = trace.clock.label(trace.root.start)
    took = f"cut off after {seconds(trace.duration)}" if trace.cut_off else seconds(trace.duration)
    return f"{trace.endpoint}: {took}, {count(len(trace))} spans, began at {began}"


def _figures(line: Line) -> tuple[str, str, str, str]:
    total = seconds(line.total)
    if line.count == 1:
        return "1", f"> {total}" if line.cut_off else total, "", ""
    return count(line.count), total, seconds(line.percentile(50)), seconds(line.percentile(99))


def _label(line: Line) -> str:
    return short_statement(line.label) if line.kind == "database" else line.label


def short_statement(statement: str) -> str:
    """Return what a statement does and to which table: "SELECT from device_tokens"; its beginning where unclear."""
    for verb, pattern in (("SELECT from", r"^(?:WITH|SELECT)\b.*?\bFROM\s+([\w.\"]+)"),
                          ("INSERT into", r"^INSERT\s+INTO\s+([\w.\"]+)"), ("UPDATE", r"^UPDATE\s+([\w.\"]+)"),
                          ("DELETE from", r"^DELETE\s+FROM\s+([\w.\"]+)")):
        found = re.match(pattern, statement, re.IGNORECASE | re.DOTALL)
        if found:
            return f"{verb} {found[1]}"
    return _cut(statement, 40)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _cells(texts: Sequence[str], tag: str) -> str:
    return "".join(f'<{tag} class="n">{html.escape(text)}</{tag}>' for text in texts)


def _svg(shapes: str, height: int, said: str) -> str:
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" role="img" '
            f'aria-label="{html.escape(said)}">{shapes}</svg>')


def _seconds_of_day(of_day: str) -> int:
    hours, minutes, second = map(int, of_day.split(":"))
    return hours * 3600 + minutes * 60 + second

"""Small tables: the same rows as HTML in a notebook and as aligned text in a terminal.

Also the workbook's one way to write a figure: ``seconds(14.2)`` is "14 s", ``count(45312)`` is "45,312".
"""

import html
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

_NUMERIC = re.compile(r"^[-−+]?[\d,]*\.?\d+(\s?(µs|ms|s|min|h|%|x|×|kB|MB|GB|/s|of [\d,]+))?$")

TABLE = "table.labs-table.labs-table"
"""The selector of our tables. The class is doubled to weigh more than JupyterLab's rules, whichever comes last."""

NO_FORMULAS = "mathjax_ignore tex2jax_ignore"
"""Classes that keep a dollar sign from being read as the start of a formula."""

TABLE_CLASSES = f"labs-table {NO_FORMULAS}"

TABLE_STYLE = """<style>
&{color:var(--jp-content-font-color1,inherit);font:var(--jp-content-font-size1,14px)/1.4 \
var(--jp-content-font-family,system-ui,sans-serif);border-collapse:collapse;margin:4px 0 8px;table-layout:auto}
& caption{caption-side:top;text-align:left;font-weight:600;padding:0 0 6px;color:inherit}
& th,& td{text-align:left;padding:3px 16px 3px 0;border:0;background:none;\
vertical-align:top;color:inherit}
& td{border-bottom:1px solid rgba(128,128,128,.22)}
& .n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
& th,& th.n{font-weight:600;border-bottom:1px solid rgba(128,128,128,.55);white-space:normal;vertical-align:bottom}
& tbody tr{background:none!important}
</style>""".replace("&", TABLE)


@dataclass(frozen=True)
class Table:
    """Rows under named columns, shown as HTML or as aligned text.

    ``columns``: the names. ``rows``: sequences of the same length; cells are numbers (whole ones get thousands
    separators), True or False (shown as yes or no), None (shown as a dash) or words. A column of figures is aligned
    to the right. Raises ValueError when a row has another length than the columns.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    caption: str | None = None

    def __init__(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], caption: str | None = None) -> None:
        names, cells = tuple(map(str, columns)), tuple(tuple(row) for row in rows)
        for index, row in enumerate(cells):
            if len(row) != len(names):
                raise ValueError(f"row {index} must have {len(names)} cells ({', '.join(names)}), not {len(row)}.")
        object.__setattr__(self, "columns", names)
        object.__setattr__(self, "rows", cells)
        object.__setattr__(self, "caption", caption)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def column(self, name: str) -> list[Any]:
        """Return the cells under ``name``, top to bottom; raises KeyError naming the columns there are."""
        if name not in self.columns:
            raise KeyError(f"{name} is not a column; columns: {', '.join(self.columns)}")
        index = self.columns.index(name)
        return [row[index] for row in self.rows]

    def __repr__(self) -> str:
        texts = self._texts()
        widths = [max(map(_width, column)) for column in zip(self.columns, *texts, strict=True)]
        figures = self._figures()
        lines = [_text_row(row, widths, figures) for row in (self.columns, *texts)]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([self.caption, *lines] if self.caption else lines)

    def _repr_html_(self) -> str:
        figures = self._figures()
        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        head = _html_row(self.columns, figures, "th")
        body = "".join(_html_row(row, figures, "td") for row in self._texts())
        inner = f"{caption}<thead>{head}</thead><tbody>{body}</tbody>"
        return f'{TABLE_STYLE}<table class="{TABLE_CLASSES}">{inner}</table>'

    def _texts(self) -> list[tuple[str, ...]]:
        return [tuple(map(cell_text, row)) for row in self.rows]

    def _figures(self) -> list[bool]:
        """Which columns hold figures only: those are aligned to the right."""
        return [_all_figures(column) for column in zip(*self._texts(), strict=True)] or [False] * len(self.columns)


def cell_text(value: Any) -> str:
    """Return how a table shows ``value``."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, Integral):
        return f"{int(value):,}"
    return _three_figures(float(value)) if isinstance(value, Real) else str(value)


def seconds(duration: float | None) -> str:
    """Return a duration (seconds) as words: "0.3 ms", "45 ms", "1.2 s", "312 s", "2,310 s"; a dash for None or NaN."""
    if duration is None or math.isnan(duration):
        return "–"
    if duration == 0:
        return "0 s"
    milliseconds = duration * 1000
    if abs(milliseconds) < 9.95:
        return f"{milliseconds:.1f} ms"
    if abs(milliseconds) < 999.5:
        return f"{milliseconds:.0f} ms"
    return f"{duration:.1f} s" if abs(duration) < 9.95 else f"{duration:,.0f} s"


def count(number: float | None) -> str:
    """Return a whole number with thousands separators: "45,312"; a dash for None or NaN."""
    return "–" if number is None or math.isnan(number) else f"{round(number):,}"


def percent(share: float | None) -> str:
    """Return a share (0..1) as "62%"; small ones keep a digit ("0.4%"), a dash for None or NaN."""
    if share is None or math.isnan(share):
        return "–"
    points = share * 100
    return f"{points:.1f}%" if 0 < abs(points) < 0.95 else f"{points:.0f}%"


def _three_figures(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == int(value):
        return f"{int(value):,}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def _all_figures(column: Sequence[str]) -> bool:
    figures = [text for text in column if text not in {"–", ""}]
    return bool(figures) and all(_NUMERIC.match(text) for text in figures)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _text_row(cells: Sequence[str], widths: Sequence[int], figures: Sequence[bool]) -> str:
    padded = []
    for text, width, right in zip(cells, widths, figures, strict=True):
        gap = " " * (width - _width(text))
        padded.append(gap + text if right else text + gap)
    return "  ".join(padded).rstrip()


def _html_row(cells: Sequence[str], figures: Sequence[bool], tag: str) -> str:
    written = []
    for text, right in zip(cells, figures, strict=True):
        kind = ' class="n"' if right else ""
        written.append(f"<{tag}{kind}>{html.escape(text)}</{tag}>")
    return f"<tr>{''.join(written)}</tr>"

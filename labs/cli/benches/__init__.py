"""The benchmarks behind `labs bench`, and the row each returns.

A benchmark takes nothing and returns a list of rows. It runs in a workbook of its own (``labs.home()`` is an empty
folder) and stops what it started.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One figure, the peer it is compared with, and the budget it should keep.

    ``unit``: "s" for seconds, "/s" for a rate, "share" for 0..1, "" for a plain number. ``ratio`` is the figure
    over the peer's unless ``inverse`` (the peer's over the figure: "so many times faster"). ``most`` and ``least``
    bound the ratio where there is a peer, else the figure.
    """

    measured: str
    figure: float
    unit: str = "s"
    against: str | None = None
    peer: float | None = None
    inverse: bool = False
    most: float | None = None
    least: float | None = None

    @property
    def ratio(self) -> float | None:
        """The figure and its peer as a ratio; None without a peer."""
        if not self.peer or not self.figure:
            return None
        return self.peer / self.figure if self.inverse else self.figure / self.peer

    @property
    def kept(self) -> bool | None:
        """Whether the budget is kept; None without one."""
        judged = self.figure if self.peer is None else self.ratio
        if judged is None or (self.most is None and self.least is None):
            return None
        return (self.most is None or judged <= self.most) and (self.least is None or judged >= self.least)

    def cells(self) -> tuple[Any, ...]:
        """Return what the table shows for this row."""
        return (
            self.measured,
            _shown(self.figure, self.unit),
            self.against or "",
            _shown(self.peer, self.unit),
            "" if self.ratio is None else f"{self.ratio:.2f}",
            self._budget(),
            self.kept,
        )

    def _budget(self) -> str:
        bound, word = (self.most, "at most") if self.most is not None else (self.least, "at least")
        if bound is None:
            return ""
        return f"{word} {bound:g} times" if self.peer is not None else f"{word} {_shown(bound, self.unit)}"


def _shown(figure: float | None, unit: str) -> str:
    from labs.kit import table

    if figure is None:
        return ""
    if unit == "s":
        return table.seconds(figure)
    if unit == "share":
        return table.percent(figure)
    return f"{figure:,.0f}{unit}"

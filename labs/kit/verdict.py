"""Verdicts: the few facts of a run that are the same on every machine.

    Verdict("One post, clients that retry", [Fact("pool exhausted", True), Fact("notifications lost", 0)])

Tests compare these lines word by word, so a fact is yes or no, a whole number or words; never a measured figure.
"""

import html
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral

from labs.kit.table import TABLE_CLASSES, TABLE_STYLE


@dataclass(frozen=True)
class Fact:
    """One line of a verdict. ``value``: True or False (yes, no), a whole number, or words.

    Raises ValueError for a figure with a fraction, which would differ from machine to machine.
    """

    name: str
    value: bool | int | str

    def __post_init__(self) -> None:
        kind = type(self.value).__name__
        if kind in {"bool", "bool_"}:
            object.__setattr__(self, "value", bool(self.value))
        elif isinstance(self.value, Integral):
            object.__setattr__(self, "value", int(self.value))
        elif not isinstance(self.value, str):
            raise ValueError(f"{self.name} must be yes or no, a whole number or words, not {self.value!r}: "
                             "a measured figure differs from machine to machine.")

    @property
    def words(self) -> str:
        """The value as it is read: "yes", "no", "45,312", "more than half"."""
        if isinstance(self.value, bool):
            return "yes" if self.value else "no"
        return f"{self.value:,}" if isinstance(self.value, int) else self.value

    def __str__(self) -> str:
        return f"{self.name}: {self.words}"


class Verdict:
    """A short table of facts. ``verdict["pool exhausted"]`` is a fact's value; two verdicts compare by their facts."""

    def __init__(self, title: str, facts: Iterable[Fact]) -> None:
        self.title = title
        self.facts = tuple(facts)
        names = [fact.name for fact in self.facts]
        doubled = {name for name in names if names.count(name) > 1}
        if doubled:
            raise ValueError(f"each fact must have a name of its own, not {sorted(doubled)[0]!r} twice.")

    def __getitem__(self, name: str) -> bool | int | str:
        for fact in self.facts:
            if fact.name == name:
                return fact.value
        raise KeyError(f"{name} is not in this verdict; facts: {', '.join(fact.name for fact in self.facts)}")

    def __iter__(self) -> Iterator[Fact]:
        return iter(self.facts)

    def __len__(self) -> int:
        return len(self.facts)

    def __contains__(self, name: str) -> bool:
        return any(fact.name == name for fact in self.facts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Verdict) and self.facts == other.facts

    def __hash__(self) -> int:
        return hash(self.facts)

    def __repr__(self) -> str:
        return "\n".join([self.title, *map(str, self.facts)])

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{html.escape(fact.name)}</td><td><b>{html.escape(fact.words)}</b></td></tr>"
                       for fact in self.facts)
        caption = f"<caption>{html.escape(self.title)}</caption>"
        return f'{TABLE_STYLE}<table class="{TABLE_CLASSES}">{caption}<tbody>{rows}</tbody></table>'


def share_in_words(share: float) -> str:
    """Return a share (0..1) in words that survive another machine.

    "none", "under a tenth", "less than half", "half", "more than half", "all"; NaN, of
    nothing, is "nothing to share". Raises ValueError outside 0..1.
    """
    if math.isnan(share):
        return "nothing to share"
    if not 0 <= share <= 1:
        raise ValueError(f"share must be a number from 0 to 1, not {share}.")
    if share in (0, 0.5, 1):
        return {0: "none", 0.5: "half", 1: "all"}[share]
    return "under a tenth" if share < 0.1 else "less than half" if share < 0.5 else "more than half"

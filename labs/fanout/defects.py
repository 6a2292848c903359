"""The published code's own defects, each shown failing on the real system and put right.

Each defect has a function that measures it and returns a ``Defect``: a table, a verdict, and the figures by name.

    dollar = literal_dollar()
    dollar.verdict()
    dollar.published.reached
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from labs.kit.table import Table
from labs.kit.verdict import Fact, Verdict


class Defect(ABC):
    """What one defect did, and what became of it when it was put right; a notebook shows the table.

    ``title`` says what is wrong. ``before`` and ``after`` are the finding in a few words, as published and put right.
    """

    title: ClassVar[str]

    @property
    @abstractmethod
    def before(self) -> str:
        """The finding in the published code, in a few words."""

    @property
    @abstractmethod
    def after(self) -> str:
        """The finding once it is put right, in a few words."""

    @abstractmethod
    def table(self) -> Table:
        """Return the programs side by side."""

    @abstractmethod
    def facts(self) -> Iterable[Fact]:
        """Return what is the same on every machine."""

    def verdict(self) -> Verdict:
        """Return the facts that are the same on every machine."""
        return Verdict(self.title, self.facts())

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def defect_list(*defects: Defect) -> Table:
    """Return a line for each of ``defects``: what it did as published, and what happens now that it is put right."""
    rows = [(defect.title, defect.before, defect.after) for defect in defects]
    return Table(("defect", "as published", "put right"), rows)


def side_by_side(names: Sequence[str], rows: Iterable[tuple[str, Sequence[Any]]], caption: str) -> Table:
    """Return a table with a column for each of ``names``; each row is (what, one value for each of them)."""
    return Table(("", *names), [(what, *values) for what, values in rows], caption=caption)


def defect_facts(*defects: Defect) -> Verdict:
    """Return what is the same on every machine of all ``defects`` together, each fact with its defect's title."""
    facts = [Fact(f"{defect.title}: {fact.name}", fact.value) for defect in defects for fact in defect.facts()]
    return Verdict("The published code's defects", facts)

"""What a grader says: findings, each a measured thing beside its target, and the grade that they make.

    [exactly("followers reached", 45_312, 45_312, "An inner join drops followers without a device."),
     at_most("statements for one post", 3, 5, "Count the statements inside your loop.")]

The text of a grade is the same on every machine, as a verdict's is: a figure with a fraction is shown in the notebook,
while the text says only whether it met its target.
"""

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from labs.kit.table import NO_FORMULAS, TABLE_STYLE, Table, cell_text

NOT_ANSWERED, NOT_PASSED, PASSED = "not answered yet", "not passed yet", "passed"


@dataclass(frozen=True)
class Finding:
    """One measured thing beside its target.

    ``what`` was measured, as a noun: "followers reached". ``measured``: yes or no, a number or words. ``target``: what
    it has to be, in words: "at most 5". ``look_at``: one sentence on what to look at when the target is missed.
    ``varies``: the figure differs from run to run, so the text leaves it out; by default that is a number with a
    fraction.
    """

    what: str
    measured: Any
    target: str
    met: bool
    look_at: str = ""
    unit: str = ""
    varies: bool | None = None

    def __post_init__(self) -> None:
        fraction = isinstance(self.measured, float) or type(self.measured).__name__.startswith("float")
        object.__setattr__(self, "met", bool(self.met))
        object.__setattr__(self, "varies", fraction if self.varies is None else self.varies)

    @property
    def measured_words(self) -> str:
        """What was measured, as it is read: "yes", "45,312", "0.31 s"."""
        return _figure(self.measured, self.unit)

    def __str__(self) -> str:
        met = "met" if self.met else "missed"
        found = "" if self.varies else f"{self.measured_words}, "
        return f"{self.what}: {found}target {self.target}, {met}"


def exactly(what: str, measured: Any, target: Any, look_at: str, unit: str = "", varies: bool | None = None) -> Finding:
    """Return the finding that ``measured`` equals ``target``."""
    return Finding(what, measured, _bound(target, unit), measured == target, look_at, unit, varies)


def at_most(what: str, measured: float, target: float, look_at: str, unit: str = "",
            varies: bool | None = None) -> Finding:
    """Return the finding that ``measured`` is ``target`` or less; NaN, of nothing measured, misses."""
    return Finding(what, measured, f"at most {_bound(target, unit)}", measured <= target, look_at, unit, varies)


def at_least(what: str, measured: float, target: float, look_at: str, unit: str = "",
             varies: bool | None = None) -> Finding:
    """Return the finding that ``measured`` is ``target`` or more; NaN, of nothing measured, misses."""
    return Finding(what, measured, f"at least {_bound(target, unit)}", measured >= target, look_at, unit, varies)


def between(what: str, measured: float, low: float, high: float, look_at: str, unit: str = "",
            varies: bool | None = None) -> Finding:
    """Return the finding that ``measured`` lies from ``low`` to ``high``, both included."""
    target = f"from {_bound(low)} to {_bound(high, unit)}"
    return Finding(what, measured, target, low <= measured <= high, look_at, unit, varies)


def holds(what: str, is_so: bool, look_at: str) -> Finding:
    """Return the finding that something has to be so: ``what`` is a claim, "every device is reached once"."""
    return Finding(what, bool(is_so), "yes", bool(is_so), look_at)


@dataclass(frozen=True)
class Grade:
    """What a grader said of one answer.

    ``exercise``: its name. ``findings``: all that was measured, in order. ``trouble``: the sentence that stands in for
    findings where there could be none: the answer is missing, or the learner's function stopped. ``error``: the
    exception behind the trouble, for tests; never shown. Grades compare by what they say.
    """

    exercise: str
    findings: tuple[Finding, ...] = ()
    trouble: str = ""
    answered: bool = True
    error: BaseException | None = None

    def __init__(self, exercise: str, findings: Iterable[Finding] = (), trouble: str = "", answered: bool = True,
                 error: BaseException | None = None) -> None:
        for name, value in (("exercise", exercise), ("findings", tuple(findings)), ("trouble", trouble),
                            ("answered", answered), ("error", error)):
            object.__setattr__(self, name, value)

    @property
    def passed(self) -> bool:
        """Whether every target was met, and at least one was set."""
        return self.answered and not self.trouble and bool(self.findings) and not self.missed

    @property
    def missed(self) -> tuple[Finding, ...]:
        """The findings whose target was missed."""
        return tuple(finding for finding in self.findings if not finding.met)

    @property
    def state(self) -> str:
        """ "passed", "not passed yet" or "not answered yet"."""
        if not self.answered:
            return NOT_ANSWERED
        return PASSED if self.passed else NOT_PASSED

    @property
    def look_at(self) -> str:
        """What to look at next, from the first target that was missed; empty where the trouble says it already."""
        return next((finding.look_at for finding in self.missed if finding.look_at), "")

    @property
    def reason(self) -> str:
        """Why it is not passed: the trouble, or the targets missed and what to look at next; empty once passed."""
        if self.passed:
            return ""
        return "\n".join([part for part in (self.trouble, *map(str, self.missed), self.look_at) if part])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grade) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        if not self.answered:
            return f"{self._headline}: {self.trouble}"
        following = [f"Look at next: {self.look_at}"] if self.look_at else []
        trouble = [self.trouble] if self.trouble else []
        return "\n".join([self._headline, *map(str, self.findings), *trouble, *following])

    @property
    def _headline(self) -> str:
        return f"{self.exercise}: {self.state}"

    def _repr_html_(self) -> str:
        bar = {PASSED: "#0072B2", NOT_PASSED: "#D55E00", NOT_ANSWERED: "rgba(128,128,128,.6)"}[self.state]
        missing = "" if self.answered else f": {html.escape(self.trouble)}"
        parts = [f"<p><b>{html.escape(self._headline)}</b>{missing}</p>"]
        if self.findings:
            parts.append(self._table()._repr_html_())
        if self.trouble and self.answered:
            parts.append(f"<p>{html.escape(self.trouble)}</p>")
        if self.look_at:
            parts.append(f"<p><b>Look at next:</b> {html.escape(self.look_at)}</p>")
        return (f'{TABLE_STYLE}<div class="labs-grade {NO_FORMULAS}" '
                f'style="border-left:3px solid {bar};padding:1px 0 1px 12px;'
                f'margin:4px 0 8px;max-width:900px">{"".join(parts)}</div>')

    def _table(self) -> Table:
        rows = [(finding.what, finding.measured_words, finding.target, "met" if finding.met else "missed")
                for finding in self.findings]
        return Table(("measured", "it was", "target", "result"), rows)


def _figure(value: Any, unit: str = "") -> str:
    if isinstance(value, float) and math.isnan(value):
        return "nothing measured"
    if isinstance(value, Integral) or not isinstance(value, (list, tuple, set, dict)):
        return f"{cell_text(value)} {unit}".strip()
    return repr(value)


def _bound(target: Any, unit: str = "") -> str:
    """A target as its author wrote it: 0.2, not the 0.200 of a measured figure."""
    return f"{target:,.10g} {unit}".strip() if isinstance(target, float) else _figure(target, unit)

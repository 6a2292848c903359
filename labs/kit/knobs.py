"""The knobs of an experiment: its inputs, declared once with their range, unit and meaning.

    class Minute(Knobs):
        pool_size: int = whole(20, 1, 200, unit="connections", meaning="connections a pod may hold")
        client_retries: bool = switch(True, meaning="phones send again after a time-out")

    Minute(pool_size=0)   # KnobError: pool_size must be a whole number from 1 to 200 connections, not 0.

A value outside its range never reaches the system: it is refused in one sentence that names the knob, what it got and
what it allows.
"""

import dataclasses
import difflib
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar, Self, dataclass_transform

from labs.kit.table import Table


class KnobError(ValueError):
    """A knob was given a value that it does not allow, or does not exist. The message is one sentence."""

    def _render_traceback_(self) -> list[str]:
        """Show the sentence alone in a notebook: the fault is in the call above it, not in the library."""
        return [f"{type(self).__name__}: {self}"]


@dataclass(frozen=True)
class Range:
    """What one knob allows.

    ``kind``: "whole", "number", "switch" or "choice". ``low`` and ``high`` are inclusive (numbers only), ``options``
    are the values of a choice. A knob whose default is None also allows None.
    """

    kind: str
    default: Any
    low: float | None = None
    high: float | None = None
    options: tuple[Any, ...] = ()
    unit: str = ""
    meaning: str = ""

    @property
    def allows(self) -> str:
        """What is allowed, in words: "a whole number from 1 to 200 connections"."""
        words = {
            "whole": f"a whole number {self.span}",
            "number": f"a number {self.span}",
            "switch": "True or False",
            "choice": "one of " + ", ".join(map(repr, self.options)),
        }[self.kind]
        return f"{words}, or None" if self.default is None else words

    @property
    def span(self) -> str:
        """The range in numbers with its unit: "from 1 to 200 connections"; empty where there are no numbers."""
        return "" if self.low is None else f"from {_plain(self.low)} to {_plain(self.high)} {self.unit}".strip()

    def check(self, name: str, value: Any) -> Any:
        """Return ``value`` as a plain Python value of this knob's kind; raises KnobError where it is not allowed."""
        if value is None and self.default is None:
            return None
        clean = getattr(self, f"_{self.kind}")(value)
        if clean is None:
            raise KnobError(f"{name} must be {self.allows}, not {_shown(value)}.")
        return clean

    def _whole(self, value: Any) -> int | None:
        inside = _is_number(value) and self.low <= value <= self.high
        return int(value) if inside and value == int(value) else None

    def _number(self, value: Any) -> float | int | None:
        # NaN compares false with every bound, so it never passes.
        if not _is_number(value) or not self.low <= value <= self.high:
            return None
        return int(value) if isinstance(value, Integral) else float(value)

    def _switch(self, value: Any) -> bool | None:
        is_switch = isinstance(value, bool) or type(value).__name__ in {"bool", "bool_"}
        return bool(value) if is_switch else None

    def _choice(self, value: Any) -> Any:
        for option in self.options:
            same_kind = isinstance(value, bool) == isinstance(option, bool)
            if same_kind and isinstance(value, (str, Real)) and value == option:
                return option
        return None


def whole(default: int | None, low: int, high: int, unit: str = "", meaning: str = "") -> Any:
    """Declare a knob that takes a whole number from ``low`` to ``high``, both included."""
    return _declare(Range("whole", default, low, high, unit=unit, meaning=meaning))


def number(default: float | None, low: float, high: float, unit: str = "", meaning: str = "") -> Any:
    """Declare a knob that takes any number from ``low`` to ``high``, both included."""
    return _declare(Range("number", default, low, high, unit=unit, meaning=meaning))


def switch(default: bool | None, meaning: str = "") -> Any:
    """Declare a knob that is on (True) or off (False)."""
    return _declare(Range("switch", default, meaning=meaning))


def choice(default: Any, options: Sequence[Any], meaning: str = "") -> Any:
    """Declare a knob that takes one of ``options``."""
    return _declare(Range("choice", default, options=tuple(options), meaning=meaning))


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(whole, number, switch, choice))
class Knobs:
    """Base of an experiment's knobs: each subclass is a frozen dataclass, checked when it is made.

    Subclasses need no decorator. Fields are given by name; an unknown name is refused with the nearest known one.
    """

    _ranges: ClassVar[dict[str, Range]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        dataclass(frozen=True, kw_only=True)(cls)
        cls._ranges = {each.name: each.metadata["knob"] for each in dataclasses.fields(cls)}
        for name, allowed in cls._ranges.items():
            allowed.check(name, allowed.default)

    def __new__(cls, **values: Any) -> Self:
        for name in values:
            if name not in cls._ranges:
                raise KnobError(_unknown(name, list(cls._ranges)))
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, allowed in self._ranges.items():
            object.__setattr__(self, name, allowed.check(name, getattr(self, name)))

    def replace(self, **changes: Any) -> Self:
        """Return a copy with ``changes``; raises KnobError as the constructor does."""
        return type(self)(**{**self.as_dict(), **changes})

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name, in the order in which they were declared; plain values, fit for JSON."""
        return {name: getattr(self, name) for name in self._ranges}

    def table(self, caption: str | None = None) -> Table:
        """Return a table of name, value, range, unit and meaning, one row a knob."""
        rows = [
            (name, _value_cell(getattr(self, name)), _range_cell(allowed), allowed.unit, allowed.meaning)
            for name, allowed in self._ranges.items()
        ]
        return Table(("knob", "value", "range", "unit", "meaning"), rows, caption=caption)


def _declare(allowed: Range) -> Any:
    return field(default=allowed.default, metadata={"knob": allowed})


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _plain(value: float) -> str:
    """A number as it is read aloud: 1,000,000, 0.5, nan."""
    if isinstance(value, Integral) or (abs(value) < 1e15 and value == int(value)):
        return f"{int(value):,}"
    return f"{float(value):g}"


def _shown(value: Any) -> str:
    if _is_number(value):
        if isinstance(value, Integral) and int(value).bit_length() > 100:
            return f"a number of {int(int(value).bit_length() * 0.30103) + 1:,} digits"
        return _plain(value)
    return reprlib.repr(value)


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    question = f"; did you mean {near[0]}?" if near else "."
    return f"{name} is not a knob of this lab{question} Knobs: {', '.join(known)}."


def _value_cell(value: Any) -> Any:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "on" if value else "off"
    return _plain(value) if _is_number(value) else str(value)


def _range_cell(allowed: Range) -> str:
    if allowed.kind == "switch":
        return "on or off"
    if allowed.kind == "choice":
        return ", ".join(map(str, allowed.options))
    return f"{_plain(allowed.low)} to {_plain(allowed.high)}"

"""What a reader can move: sliders, choices and buttons.

A control checks its own values, so that a slider in the browser and a call in a test are held to the same range.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

# One decade of a logarithmic slider: steps that look even and that people say aloud.
ROUND_NUMBERS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)


class ControlError(ValueError):
    """A value that a control does not take, or a control that does not exist. The message is one sentence."""

    def _render_traceback_(self) -> list[str]:
        """Show the sentence alone in a notebook."""
        return [f"{type(self).__name__}: {self}"]


@dataclass(frozen=True)
class Slider:
    """A number from ``low`` to ``high``.

    ``log`` spaces the numbers evenly by ratio; both ends must then be above zero. ``stops`` are numbers the slider
    must be able to reach exactly, such as the 45,312 of a post-mortem. ``unit`` follows the number on the screen.
    Where ``low``, ``high`` and ``step`` are whole numbers, so is every value.
    """

    name: str
    label: str
    low: float
    high: float
    value: float
    step: float = 1
    log: bool = False
    unit: str = ""
    stops: Sequence[float] = ()
    help: str = ""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ControlError(f"{self.label} needs a low end below its high end; got {self.low} and {self.high}.")
        if self.log and self.low <= 0:
            raise ControlError(f"{self.label} is logarithmic, so its low end must be above 0; got {self.low}.")
        if not self.log and self.step <= 0:
            raise ControlError(f"{self.label} needs a step above 0; got {self.step}.")
        self.check(self.value)

    @property
    def whole(self) -> bool:
        """Whether every value is a whole number."""
        return all(float(number).is_integer() for number in (self.low, self.high, self.step))

    def check(self, value: Any) -> float:
        """Return ``value`` as a number the slider takes.

        Raises ControlError for text, NaN, a number outside the range, and a fraction where whole numbers are meant.
        """
        kind = "a whole number" if self.whole else "a number"
        allowed = f"{self.label} takes {kind} from {number(self.low)} to {number(self.high)}; got {value!r}."
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise ControlError(allowed)
        if not self.low <= value <= self.high or (self.whole and not float(value).is_integer()):
            raise ControlError(allowed)
        return int(value) if self.whole else float(value)

    def say(self, value: float) -> str:
        """Return ``value`` as the screen shows it, "45 ms"."""
        return f"{number(value)} {self.unit}".strip()

    def spec(self) -> dict[str, Any]:
        """Return what the browser needs to draw the slider."""
        return {
            "kind": "slider",
            "name": self.name,
            "label": self.label,
            "help": self.help,
            "unit": self.unit,
            "low": self.low,
            "high": self.high,
            "step": self.step,
            "stops": list(self.stops),
            "values": self.positions() if self.log else None,
        }

    def positions(self) -> list[float]:
        """Return the numbers a logarithmic slider stops at, in rising order, both ends and all stops included."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        round_numbers = (round(mantissa * 10.0**decade, 12) for decade in decades for mantissa in ROUND_NUMBERS)
        inside = {value for value in round_numbers if self.low < value < self.high}
        if self.whole:
            inside = {value for value in inside if value.is_integer()}
        numbers = sorted(inside | {float(value) for value in (self.low, self.high, *self.stops)})
        return [int(value) for value in numbers] if self.whole else numbers


@dataclass(frozen=True)
class Option:
    """One of a choice's options: the ``value`` a driver gets, the ``label`` and the ``help`` a reader sees."""

    value: str
    label: str = ""
    help: str = ""


@dataclass(frozen=True)
class Choice:
    """One of a few named options. ``options`` are Option objects, ``(value, label)`` pairs or plain strings."""

    name: str
    label: str
    options: Sequence[Option | tuple[str, ...] | str]
    value: str
    help: str = ""
    _options: tuple[Option, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_options", tuple(as_options(self.options)))
        self.check(self.value)

    def check(self, value: Any) -> str:
        """Return ``value`` when it is one of the options; raises ControlError otherwise."""
        values = [option.value for option in self._options]
        if value not in values:
            raise ControlError(f"{self.label} takes one of {', '.join(map(repr, values))}; got {value!r}.")
        return value

    def say(self, value: str) -> str:
        """Return the label of the option ``value``."""
        return next(option.label for option in self._options if option.value == value)

    def spec(self) -> dict[str, Any]:
        """Return what the browser needs to draw the choice."""
        options = [{"value": each.value, "label": each.label, "help": each.help} for each in self._options]
        return {"kind": "choice", "name": self.name, "label": self.label, "help": self.help, "options": options}


@dataclass(frozen=True)
class Action:
    """A button. A ``primary`` one is the one that makes the outage happen."""

    name: str
    label: str
    primary: bool = False
    help: str = ""

    def spec(self) -> dict[str, Any]:
        """Return what the browser needs to draw the button."""
        return {
            "kind": "action",
            "name": self.name,
            "label": self.label,
            "help": self.help,
            "primary": self.primary,
        }


Control = Slider | Choice | Action


def as_options(options: Iterable[Option | tuple[str, ...] | str]) -> Iterable[Option]:
    """Yield an Option with a label for each of the ways to write one."""
    for each in options:
        option = each if isinstance(each, Option) else Option(*((each,) if isinstance(each, str) else each))
        yield option if option.label else Option(option.value, option.value, option.help)


def number(value: float) -> str:
    """Return a number as people write it: "45,312", "0.25"."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.10g}"

"""Predictions: the reader commits to a number before anything runs.

    guess = ask("Connections taken by one post", low=0, high=20)
    guess                     # a slider and a button, in a cell of its own
    guess.said(1)             # "You said 20. It was 1, 19 fewer than you said."

A notebook that is run from top to bottom asks nobody: ``value`` stays None and every sentence copes with that.
"""

import math
from numbers import Real
from typing import Any

from labs.kit.table import cell_text


class AskError(ValueError):
    """A question cannot be asked like that. The message is one sentence."""


class Prediction:
    """A question with a whole number as its answer; shown as a slider with a button beside it.

    ``value``: the number committed to, None before. ``name``: what the number is called in sentences, the question by
    default. A committed answer stays; run the cell again to be asked afresh.
    """

    def __init__(self, question: str, low: int, high: int, name: str | None = None, unit: str = "") -> None:
        for field, bound in (("low", low), ("high", high)):
            if not isinstance(bound, Real) or isinstance(bound, bool) or bound != int(bound):
                raise AskError(f"{field} must be a whole number, not {bound!r}.")
        if not low < high:
            raise AskError(f"high must be above low, {low:,}, not {high:,}.")
        self.question, self.name, self.unit = question, name or question, unit
        self.low, self.high = int(low), int(high)
        self.value: int | None = None
        self._widget: Any = None

    def commit(self, value: float) -> None:
        """Answer with ``value``, as the button does; raises AskError outside the range, and once answered."""
        if self.value is not None:
            kept = self._figure(self.value)
            raise AskError(f"you have committed to {kept} already; run the cell again to be asked afresh.")
        good = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        if not good or value != int(value) or not self.low <= value <= self.high:
            raise AskError(f"{self.name} must be a whole number from {self.low:,} to {self.high:,}, not {value!r}.")
        self.value = int(value)

    def said(self, measured: float | None = None, words: str | None = None) -> str:
        """Return a sentence that sets the answer beside what was ``measured``.

        ``words``: the measured figure as it should be read, where a plain number is not enough ("0.9 s").
        """
        mine = "You did not commit to a number." if self.value is None else f"You said {self._figure(self.value)}."
        if measured is None or math.isnan(measured):
            return mine
        found = words or self._figure(measured)
        if self.value is None:
            return f"{mine} It was {found}."
        return f"{mine} It was {found}{self._distance(measured)}."

    def _distance(self, measured: float) -> str:
        apart = measured - self.value
        if apart == 0:
            return ", as you said"
        small, large = sorted((float(measured), float(self.value)))
        if small > 0 and large / small >= 10:
            times = f"{large / small:,.0f} times"
            return f", {times} what you said" if apart > 0 else f": you said {times} as much"
        direction = "more" if apart > 0 else "less" if self.unit else "fewer"
        return f", {cell_text(abs(apart))} {direction} than you said"

    def _figure(self, value: float) -> str:
        return f"{cell_text(value)} {self.unit}".strip()

    def __repr__(self) -> str:
        answer = "not answered" if self.value is None else f"you said {self._figure(self.value)}"
        return f"{self.question} ({self.low:,} to {self._figure(self.high)}): {answer}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        shown = self.widget._repr_mimebundle_(include=include, exclude=exclude) or {}
        return {**shown, "text/plain": repr(self)}

    @property
    def widget(self) -> Any:
        """The ipywidgets box: the question, a slider, a field for the exact number, and the button."""
        if self._widget is None:
            self._widget = _box(self)
        return self._widget


def ask(question: str, low: int, high: int, name: str | None = None, unit: str = "") -> Prediction:
    """Ask the reader for a whole number from ``low`` to ``high`` and return the Prediction that holds the answer.

    ``name``: what the number is called where the question is too long. ``unit``: written after figures. Raises AskError
    when the range is empty.
    """
    return Prediction(question, low, high, name, unit)


def _box(prediction: Prediction) -> Any:
    import ipywidgets as widgets

    middle = (prediction.low + prediction.high) // 2
    heading = widgets.Label(prediction.question, style={"font_weight": "600"})
    slider = widgets.IntSlider(middle, prediction.low, prediction.high, readout=False,
                               layout=widgets.Layout(width="320px"))
    exact = widgets.BoundedIntText(middle, prediction.low, prediction.high, layout=widgets.Layout(width="96px"))
    unit = widgets.Label(prediction.unit)
    button = widgets.Button(description="Commit", button_style="primary", layout=widgets.Layout(width="112px"))
    # ipywidgets' own link in Python, so that tests drive it without a browser.
    widgets.link((slider, "value"), (exact, "value"))
    answer = widgets.Label("Move the slider to what you expect, then commit.")

    def commit(_: Any) -> None:
        prediction.commit(exact.value)
        for control in (slider, exact, button):
            control.disabled = True
        button.description = "Committed"
        answer.value = prediction.said()

    button.on_click(commit)
    row = widgets.HBox([slider, exact, unit, button], layout=widgets.Layout(align_items="center"))
    return widgets.VBox([heading, row, answer])

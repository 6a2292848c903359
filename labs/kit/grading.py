"""Exercises: a task, hints in steps, a folded solution, and a grader that measures what the learner wrote.

    exercises = Exercises("Incident 1")

    @exercises.exercise("Bulk query", task="Fetch every follower's tokens in one statement.",
                        hints=["How many statements does the loop send?"], solution=reference, answer="function")
    def bulk_query(answer):
        found = measure(answer)
        yield exactly("statements sent", found.statements, 1, "Join the tables instead of looping over followers.")

    bulk_query.show()            # in a cell of its own
    bulk_query.check(tokens_of)  # a Grade: what was measured, against what target, what to look at next
    exercises.progress()

``check`` never raises for anything an answer may do: a notebook with untouched stubs runs from top to bottom.
"""

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from labs.kit.grading_attempt import (
    NotAnswered,
    Stopped,
    YourTurn,
    guarded,
    in_one_line,
    missing_in,
    went_through,
    your_turn,
)
from labs.kit.grading_grade import NOT_ANSWERED, Finding, Grade, at_least, at_most, between, exactly, holds
from labs.kit.source import Source
from labs.kit.table import NO_FORMULAS, Table

__all__ = [
    "KINDS", "Exercise", "ExerciseError", "Exercises", "Finding", "Grade", "Sheet", "at_least", "at_most", "between",
    "exactly", "holds", "your_turn",
]

Grader = Callable[[Any], Finding | Iterable[Finding]]
"""Takes the answer and returns, or yields one by one, what it measured."""

KINDS: dict[str, Callable[[Any], bool]] = {
    "anything": lambda answer: True,
    "whole number": lambda answer: isinstance(answer, Integral) and type(answer).__name__ not in {"bool", "bool_"},
    "number": lambda answer: isinstance(answer, Real) and type(answer).__name__ not in {"bool", "bool_"},
    "text": lambda answer: isinstance(answer, str),
    "function": callable,
    "dictionary": lambda answer: isinstance(answer, Mapping),
    "list": lambda answer: isinstance(answer, (list, tuple)),
}
"""What an exercise may ask for, and how it is recognised."""


class ExerciseError(ValueError):
    """An exercise cannot be set like that. The message is one sentence."""


class Exercise:
    """One task with the grader that measures its answers.

    ``task``: paragraphs of plain text, `code` between backticks. ``hints``: one sentence or two each, from a nudge to
    almost the answer. ``solution``: a function or module, whose source is shown, or text. ``answer``: what is asked
    for, one of KINDS. ``stub``: the text the learner finds, where that is not simply ``...``. ``limit``: seconds that
    one call of the learner's function may take; a grader that starts processes limits those itself. ``latest`` is the
    last grade given by ``check``.
    """

    def __init__(self, name: str, task: str, grader: Grader, *, hints: Sequence[str] = (), solution: Any = None,
                 points: int = 1, answer: str = "anything", stub: Any = None, limit: float = 10.0) -> None:
        if answer not in KINDS:
            raise ExerciseError(f"answer must be one of {', '.join(KINDS)}, not {answer!r}.")
        if isinstance(hints, str):
            raise ExerciseError("hints must be a list of texts, one a step, not a single text.")
        if not isinstance(points, int) or points < 1:
            raise ExerciseError(f"points must be a whole number from 1, not {points!r}.")
        if not 0 < limit < float("inf"):
            raise ExerciseError(f"limit must be a number of seconds above 0, not {limit!r}.")
        self.name, self.task, self.grader = name, task.strip(), grader
        self.hints, self.solution, self.points = tuple(hints), solution, points
        self.answer, self.stub, self.limit = answer, stub, limit
        self.latest: Grade | None = None
        self.passed = False

    def show(self) -> "Sheet":
        """Return the task to be shown as a cell's result: hints folded, each inside the one before, then a solution."""
        return Sheet(self)

    def hint(self, step: int = 1) -> str:
        """Return one hint as text, for a reader without a browser; raises ExerciseError when there is no such step."""
        if not 1 <= step <= len(self.hints):
            raise ExerciseError(f"step must be a whole number from 1 to {len(self.hints)}, not {step!r}.")
        return self.hints[step - 1]

    def check(self, answer: Any = ...) -> Grade:
        """Grade ``answer`` and remember the grade. Once passed, an exercise counts as passed in this kernel."""
        self.latest = self.grade(answer)
        self.passed = self.passed or self.latest.passed
        return self.latest

    def grade(self, answer: Any = ...) -> Grade:
        """Grade ``answer`` without remembering it. Whatever an answer does, a Grade comes back; only an interrupt
        from the keyboard is passed on.
        """
        if missing := missing_in(answer, self.stub):
            return self._unanswered(missing)
        if not KINDS[self.answer](answer):
            got = _kind_of(answer)
            # "A whole number, not a number" would not say what is wrong with it.
            got = f"{answer}" if got == "a number" else got
            return Grade(self.name, trouble=f"The answer must be a {self.answer}, not {got}.")
        return self._measured(answer)

    def _measured(self, answer: Any) -> Grade:
        findings: list[Finding] = []
        try:
            measured = self.grader(guarded(answer, self.limit))
            # One by one: what was measured before a function stopped is worth knowing.
            for finding in [measured] if isinstance(measured, Finding) else measured:
                findings.append(finding)
        except NotAnswered as error:
            return self._unanswered(str(error))
        except (YourTurn, NotImplementedError) as error:
            return self._unanswered(f"a part is missing: {in_one_line(error)}.")
        except Stopped as error:
            return Grade(self.name, findings, _sentence(error.sentence), error=error.error)
        except Exception as error:
            return Grade(self.name, findings, _trouble(error, answer), error=error)
        return Grade(self.name, findings, "" if findings else "Nothing could be measured of this answer.")

    def _unanswered(self, missing: str) -> Grade:
        return Grade(self.name, trouble=missing, answered=False)

    def __repr__(self) -> str:
        return repr(self.show())

    def _repr_html_(self) -> str:
        return self.show()._repr_html_()


@dataclass(frozen=True)
class Sheet:
    """An exercise as it is shown."""

    exercise: Exercise

    def __repr__(self) -> str:
        exercise = self.exercise
        folded = [_counted(len(exercise.hints), "hint")] if exercise.hints else []
        folded += ["a solution"] if exercise.solution is not None else []
        tail = [f"({' and '.join(folded)}, folded)"] if folded else []
        return "\n\n".join([f"{exercise.name} ({_counted(exercise.points, 'point')})", exercise.task, *tail])

    def _repr_html_(self) -> str:
        exercise = self.exercise
        points = f'<span style="opacity:.7">{_counted(exercise.points, "point")}</span>'
        parts = [f"<p><b>{html.escape(exercise.name)}</b> {points}</p>", _paragraphs(exercise.task)]
        if exercise.hints:
            parts.append(self._hints())
        if exercise.solution is not None:
            parts.append(_fold("A solution", _solution(exercise.solution)))
        return (f'<div class="labs-exercise {NO_FORMULAS}" '
                'style="border:1px solid rgba(128,128,128,.35);border-radius:4px;'
                f'padding:2px 14px 8px;margin:4px 0 8px;max-width:900px">{"".join(parts)}</div>')

    def _hints(self) -> str:
        """The hints as folds, each inside the one before: nobody opens the third by accident."""
        inner = ""
        for step in range(len(self.exercise.hints), 0, -1):
            inner = _fold(f"Hint {step} of {len(self.exercise.hints)}", _paragraphs(self.exercise.hints[step - 1])
                          + inner)
        return inner


class Exercises:
    """The exercises of one incident, in the order in which they are met. ``exercises["Bulk query"]`` is one of them."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._all: dict[str, Exercise] = {}

    def exercise(self, name: str, task: str, **options: Any) -> Callable[[Grader], Exercise]:
        """Register the decorated grader as an Exercise; ``options`` are those of Exercise."""
        return lambda grader: self.add(Exercise(name, task, grader, **options))

    def add(self, exercise: Exercise) -> Exercise:
        """Register ``exercise`` and return it; raises ExerciseError when its name is taken."""
        if exercise.name in self._all:
            raise ExerciseError(f"each exercise must have a name of its own, not {exercise.name!r} twice.")
        self._all[exercise.name] = exercise
        return exercise

    def __getitem__(self, name: str) -> Exercise:
        if name not in self._all:
            raise KeyError(f"{name} is not an exercise; exercises: {', '.join(self._all)}")
        return self._all[name]

    def __iter__(self) -> Iterator[Exercise]:
        return iter(self._all.values())

    def __len__(self) -> int:
        return len(self._all)

    def progress(self) -> Table:
        """Return a table of every exercise, where it stands in this kernel, and its points."""
        rows = [(exercise.name, _standing(exercise), _earned(exercise), exercise.points) for exercise in self]
        passed, earned = sum(exercise.passed for exercise in self), sum(map(_earned, self))
        possible = _counted(sum(exercise.points for exercise in self), "point")
        caption = f"{self.title}: {passed} of {len(self)} passed, {earned} of {possible}"
        return Table(("exercise", "state", "points", "of"), rows, caption)

    def __repr__(self) -> str:
        return repr(self.progress())

    def _repr_html_(self) -> str:
        return self.progress()._repr_html_()


def _earned(exercise: Exercise) -> int:
    return exercise.points if exercise.passed else 0


def _standing(exercise: Exercise) -> str:
    if exercise.passed:
        return "passed"
    return exercise.latest.state if exercise.latest else NOT_ANSWERED


def _trouble(error: Exception, answer: Any) -> str:
    """An error as a sentence: the learner's own, one that the kit words for its reader, or neither."""
    if went_through(error, answer):
        return f"Your code stopped with {in_one_line(error, answer)}."
    if type(error).__module__.startswith("labs."):
        return _sentence(str(error))
    return f"This answer could not be graded: {in_one_line(error)}."


def _sentence(text: str) -> str:
    # A function's own name keeps its letters; only words of ours take a capital.
    text = f"Y{text[1:]}" if text.startswith("your ") else text
    return text if text.endswith((".", "?")) else f"{text}."


def _kind_of(answer: Any) -> str:
    for kind, fits in KINDS.items():
        if kind != "anything" and fits(answer):
            return f"a {kind}"
    return f"a {type(answer).__name__}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _paragraphs(text: str) -> str:
    """Plain text as HTML: an empty line starts a paragraph, a dash an item of a list, backticks hold code."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
    return "".join(_list(part) if part.startswith("- ") else f"<p>{part}</p>" for part in _parts(marked))


def _parts(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"\n\s*\n", text)]


def _list(part: str) -> str:
    """Lines that begin with a dash as a list; a line that does not goes on from the one before."""
    items = re.split(r"(?:^|\n)- ", part)[1:]
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def _fold(summary: str, inner: str) -> str:
    margin = 'style="margin:4px 0 4px 2px"'
    return (f'<details {margin}><summary style="cursor:pointer;opacity:.85">{html.escape(summary)}</summary>'
            f'<div style="padding-left:14px">{inner}</div></details>')


def _solution(solution: Any) -> str:
    if isinstance(solution, str):
        return f'<pre style="white-space:pre-wrap">{html.escape(solution.strip())}</pre>'
    if callable(solution) or hasattr(solution, "__file__"):
        return Source.of(solution)._repr_html_()
    return f"<pre>{html.escape(repr(solution))}</pre>"

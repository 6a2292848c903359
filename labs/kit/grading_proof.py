"""Tests of graders: the reference passes, and whatever should fail fails for the reason it should.

    assert_graded(bulk_query, reference, wrong={
        "one query a follower": (loops, "statements sent"),
        "inner join": (drops_some, "followers reached"),
        "no answer for nobody": (crashes, "stopped with IndexError"),
    })
"""

import traceback
from collections.abc import Mapping
from typing import Any

from labs.kit.grading import Exercise
from labs.kit.grading_attempt import your_turn
from labs.kit.grading_grade import Grade

FEWEST_WRONG = 3  # a grader that was tried on fewer wrong answers than this has not been tried


def assert_graded(exercise: Exercise, reference: Any, wrong: Mapping[str, tuple[Any, str]], *, stub: Any = None,
                  runs: int = 1) -> None:
    """Prove a grader: the reference passes, stubs are left alone, each wrong answer fails for its stated reason.

    ``wrong``: what is wrong, in words -> (the answer, a part of the reason that the learner must be given). A part that
    stands in the target lines alone does not count: it must be in what was missed or in what to look at next.
    ``stub``: the learner's untouched cell, beside those that every exercise knows. ``runs``: how often the reference is
    graded; its grade must read the same each time. Raises AssertionError, and never changes the learner's progress.
    """
    assert len(wrong) >= FEWEST_WRONG, f"{exercise.name}: {len(wrong)} wrong answers are not {FEWEST_WRONG} or more"
    for untouched in (None, ..., your_turn, _empty, exercise.stub, stub):
        _assert_calm(exercise, untouched)
    grades = [exercise.grade(reference) for _ in range(runs)]
    assert grades[0].passed, f"{exercise.name}: the reference must pass\n{_told(grades[0])}"
    assert len(set(map(repr, grades))) == 1, f"{exercise.name}: the reference reads differently from run to run"
    for name, (answer, reason) in wrong.items():
        _assert_missed(exercise, name, exercise.grade(answer), reason)


def _assert_calm(exercise: Exercise, untouched: Any) -> None:
    grade = exercise.grade(untouched)
    named = f"{exercise.name}, stub {untouched!r}"
    assert not grade.answered, f"{named}: a stub must be left ungraded\n{_told(grade)}"
    assert not grade.passed, f"{named}: a stub passed"
    assert grade.trouble, f"{named}: the grade must say what is missing"


def _assert_missed(exercise: Exercise, name: str, grade: Grade, reason: str) -> None:
    named = f"{exercise.name}, {name}"
    assert reason.strip(), f"{named}: state the reason that it must fail for"
    assert not grade.passed, f"{named}: this answer must not pass\n{_told(grade)}"
    assert grade.answered, f"{named}: this answer was taken for a stub\n{_told(grade)}"
    assert reason in grade.reason, f"{named}: it must fail for {reason!r}, not for\n{_told(grade)}"


def _told(grade: Grade) -> str:
    if grade.error is None:
        return repr(grade)
    return f"{grade!r}\n{''.join(traceback.format_exception(grade.error))}"


def _empty() -> None: ...

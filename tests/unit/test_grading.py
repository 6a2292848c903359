import functools
import re
import signal
import threading
import time

import pytest

from labs.kit.grading import (
    Exercise,
    ExerciseError,
    Exercises,
    Finding,
    Grade,
    at_least,
    at_most,
    between,
    exactly,
    holds,
    your_turn,
)
from labs.kit.grading_attempt import TooLong, time_limit
from labs.kit.grading_proof import assert_graded


def double_grader(answer):
    yield exactly("double of 2", answer(2), 4, "Start with one number on paper.")
    yield exactly("double of -3", answer(-3), -6, "Negative numbers are doubled too.")


def reference(number):
    """Return twice the number."""
    return 2 * number


def make(grader=double_grader, **options):
    settings = {"hints": ("What is `2 + 2`?", "Multiply."), "solution": reference, "answer": "function", **options}
    return Exercise("Doubling", "Write a function.\n\nIt doubles `number` & nothing < else.", grader, **settings)


def number_exercise(**options):
    return Exercise("Size", "How many?", lambda answer: exactly("places", answer, 20, "Count the pool."),
                    answer="whole number", **options)


def test_a_right_answer_passes_and_says_what_was_measured():
    grade = make().check(reference)
    assert grade.passed
    assert repr(grade) == ("Doubling: passed\ndouble of 2: 4, target 4, met\ndouble of -3: -6, target -6, met")
    assert grade.reason == ""


def test_a_wrong_answer_says_what_to_look_at_next():
    grade = make().check(lambda number: 2 * abs(number))
    assert not grade.passed
    assert grade.answered
    assert repr(grade) == ("Doubling: not passed yet\ndouble of 2: 4, target 4, met\n"
                           "double of -3: 6, target -6, missed\nLook at next: Negative numbers are doubled too.")
    assert grade.reason == "double of -3: 6, target -6, missed\nNegative numbers are doubled too."


# -- stubs

def empty(number): ...
def passes(number): pass
def documented(number): "Only words."
def returns_none(number): return None
def raises_mark(number): raise your_turn
def calls_mark(number): return your_turn(number)
def returns_mark(number): return your_turn
def returns_dots(number): return ...
def not_implemented(number): raise NotImplementedError
def not_implemented_in_words(number): raise NotImplementedError("write me")
async def empty_coroutine(number): ...


def half_done(number):
    twice = number + number
    if twice > 3:
        raise NotImplementedError("the other half")
    return twice


def marked_inside(number):
    def inner():
        return your_turn
    return inner() if number > 1e9 else 2 * number


class Unwritten:
    def __call__(self, number):
        return your_turn


STUBS = [None, ..., your_turn, "", "  \n", "...", "-- your query\n...", "-- your query here\n", "# one word", {}, [],
         {"pool": 20, "threads": ...}, [1, your_turn], empty, passes, documented, returns_none, raises_mark, calls_mark,
         returns_mark, returns_dots, not_implemented, not_implemented_in_words, empty_coroutine, half_done,
         marked_inside, Unwritten, functools.partial(empty, 2)]


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: getattr(stub, "__name__", repr(stub)))
def test_a_stub_is_left_ungraded_in_one_calm_line(stub):
    grade = make(answer="anything").check(stub)
    assert not grade.answered
    assert not grade.passed
    assert re.fullmatch(r"Doubling: not answered yet: [^\n]+\.", repr(grade))
    assert "Traceback" not in grade._repr_html_()


def test_the_line_says_which_part_is_missing():
    assert repr(make().check({"pool": 20, "threads": ..., "pods": your_turn})).endswith(
        "nothing stands for threads, pods.")
    assert repr(make().check(empty)).endswith("the body of empty is still empty.")
    assert repr(make().check(raises_mark)).endswith("raises_mark still says your_turn.")


def test_a_stub_that_says_so_itself_never_reaches_the_grader():
    reached = []
    exercise = make(reached.append)
    for stub in (None, ..., your_turn, empty, raises_mark, marked_inside, not_implemented):
        exercise.check(stub)
    assert reached == []


def test_the_text_that_the_learner_finds_counts_as_a_stub():
    exercise = make(lambda answer: holds("it runs", True, ""), answer="text", stub="SELECT 1\nFROM ")
    assert not exercise.check("SELECT 1\nFROM").answered
    assert exercise.check("SELECT 1\nFROM users").passed


def test_the_mark_can_be_raised_again_and_again_without_growing():
    lengths = []
    for _ in range(3):
        try:
            your_turn()
        except type(your_turn) as raised:
            steps, step = 0, raised.__traceback__
            while step:
                steps, step = steps + 1, step.tb_next
            lengths.append(steps)
    assert lengths[0] == lengths[-1]


# -- answers that go wrong

def divides(number):
    return number / 0


def exits(number):
    raise SystemExit(f"leaving at {number}")


def long_winded(number):
    raise KeyError("first line\nsecond line " + "x" * 500)


def generates(number):
    yield number
    raise LookupError("after one")


@pytest.mark.parametrize(("answer", "said"), [
    (divides, "divides stopped with ZeroDivisionError: division by zero (line "),
    (exits, "exits stopped with SystemExit: leaving at 2 (line "),
    (long_winded, "long_winded stopped with KeyError: 'first line"),
    (generates, "generates stopped with LookupError: after one (line "),
    (lambda: 4, "Your function stopped with TypeError: "),
    (lambda number: number.nothing, "Your function stopped with AttributeError: 'int' object"),
])
def test_a_function_that_raises_is_one_line_and_no_traceback(answer, said):
    grade = make().check(answer)
    assert grade.answered
    assert not grade.passed
    assert said in repr(grade)
    assert len(repr(grade).splitlines()) == 2
    assert max(map(len, repr(grade).splitlines())) < 300
    assert "Traceback" not in repr(grade) + grade._repr_html_()
    assert grade.error is not None


def test_what_was_measured_before_a_function_stopped_is_kept():
    grade = make().check(lambda number: 4 if number == 2 else divides(number))
    assert repr(grade).splitlines()[1] == "double of 2: 4, target 4, met"
    assert "ZeroDivisionError" in grade.reason


def test_addresses_are_left_out_so_that_the_line_is_the_same_every_time():
    def complains(number):
        raise ValueError(f"cannot double {object()!r}")

    texts = {repr(make().check(complains)) for _ in range(3)}
    assert len(texts) == 1
    assert "0x…" in texts.pop()


def test_a_grader_that_cannot_use_an_answer_says_so_and_does_not_raise():
    def grader(answer):
        return exactly("places", answer["places"], 20, "")

    grade = make(grader, answer="dictionary").check({"place": 20})
    assert grade.reason == "This answer could not be graded: KeyError: 'places'."
    assert isinstance(grade.error, KeyError)


def test_an_error_that_the_workbook_words_for_its_reader_is_shown_as_it_is():
    def grader(answer):
        raise ExerciseError("pool must be a whole number from 1, not 0.")

    assert make(grader).check(reference).reason == "pool must be a whole number from 1, not 0."


def test_an_error_in_a_coroutine_counts_as_the_learners():
    async def fails(number):
        raise RuntimeError("no loop")

    def grader(answer):
        answer(2).send(None)

    assert make(grader).check(fails).reason.startswith("Your code stopped with RuntimeError: no loop (line ")


def test_a_grader_that_measures_nothing_never_passes():
    assert "Nothing could be measured" in make(lambda answer: []).check(reference).reason


def test_an_interrupt_from_the_keyboard_is_passed_on():
    def interrupted(number):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make().check(interrupted)


@pytest.mark.parametrize(("kind", "answer", "said"), [
    ("whole number", "20", "The answer must be a whole number, not a text."),
    ("whole number", True, "The answer must be a whole number, not a bool."),
    ("whole number", 2.5, "The answer must be a whole number, not 2.5."),
    ("text", 20, "The answer must be a text, not a whole number."),
    ("function", 4, "The answer must be a function, not a whole number."),
    ("dictionary", reference, "The answer must be a dictionary, not a function."),
])
def test_another_kind_of_answer_is_refused_in_a_sentence(kind, answer, said):
    assert make(answer=kind).check(answer).reason == said


# -- endless functions

def spins(number):
    while True:
        number += 1


def swallows(number):
    while True:
        try:
            spins(number)
        except Exception:
            number = 0


def sleeps(number):
    time.sleep(3600)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs SIGALRM")
@pytest.mark.parametrize("answer", [spins, swallows, sleeps])
def test_an_endless_function_is_stopped(answer):
    grade = make(limit=0.1).check(answer)
    assert grade.reason == f"{answer.__name__} was stopped: it had not returned after 0.1 s."


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs SIGALRM")
def test_the_limit_leaves_no_alarm_behind():
    outer = signal.setitimer(signal.ITIMER_REAL, 0)
    before = signal.getsignal(signal.SIGALRM)
    try:
        with pytest.raises(TooLong), time_limit(0.05):
            spins(1)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert signal.getsignal(signal.SIGALRM) == before
    finally:
        signal.setitimer(signal.ITIMER_REAL, *outer)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs SIGALRM")
def test_an_alarm_that_was_set_before_keeps_its_time():
    outer = signal.setitimer(signal.ITIMER_REAL, 1000)
    try:
        with pytest.raises(TooLong), time_limit(0.05):
            spins(1)
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] < 1000
    finally:
        signal.setitimer(signal.ITIMER_REAL, *outer)


def test_outside_the_main_thread_an_answer_is_graded_without_a_limit():
    grades = []
    thread = threading.Thread(target=lambda: grades.append(make().grade(reference)))
    thread.start()
    thread.join()
    assert grades[0].passed


def test_the_grader_gets_a_function_with_its_name_and_source():
    import inspect

    seen = []

    def grader(answer):
        seen.append((answer.__name__, inspect.getsource(answer)))
        return holds("seen", True, "")

    make(grader).check(reference)
    assert seen[0][0] == "reference"
    assert "return 2 * number" in seen[0][1]


# -- findings and grades

@pytest.mark.parametrize(("finding", "met", "text"), [
    (at_most("statements", 3, 5, ""), True, "statements: 3, target at most 5, met"),
    (at_most("statements", 45_313, 5, ""), False, "statements: 45,313, target at most 5, missed"),
    (at_least("reached", 4, 5, ""), False, "reached: 4, target at least 5, missed"),
    (between("pool", 7, 5, 9, "", unit="places"), True, "pool: 7 places, target from 5 to 9 places, met"),
    (at_most("share lost", 0.31, 0.2, ""), False, "share lost: target at most 0.2, missed"),
    (holds("all reached", False, ""), False, "all reached: no, target yes, missed"),
    (exactly("who", "api", "worker", ""), False, "who: api, target worker, missed"),
    (exactly("pids", [1, 2], [1, 2], ""), True, "pids: [1, 2], target [1, 2], met"),
    (at_most("sent twice", 12, 500, "", varies=True), True, "sent twice: target at most 500, met"),
])
def test_a_finding_sets_what_was_measured_beside_its_target(finding, met, text):
    assert finding.met is met
    assert str(finding) == text


def test_a_measured_time_is_shown_in_the_notebook_and_left_out_of_the_text():
    first, second = (Grade("Fast", [at_most("answered after", value, 1, "", unit="s")]) for value in (0.31, 0.35))
    assert repr(first) == repr(second) == "Fast: passed\nanswered after: target at most 1 s, met"
    assert first == second
    assert "0.31" in first._repr_html_()


def test_nothing_measured_misses_every_bound():
    for finding in (at_most("time", float("nan"), 1, ""), at_least("time", float("nan"), 1, "")):
        assert not finding.met
    assert at_most("time", float("nan"), 1, "").measured_words == "nothing measured"


def test_the_page_escapes_what_a_learner_wrote():
    grade = Grade("A <b>", [exactly("<i>what</i>", "<script>", "x", "Look <here>.")], trouble="")
    assert "<script>" not in grade._repr_html_()
    assert "<i>what" not in grade._repr_html_()
    assert "Look &lt;here&gt;." in grade._repr_html_()


# -- what a learner sees first

def test_hints_are_folded_each_inside_the_one_before_and_the_solution_apart():
    page = make().show()._repr_html_()
    first, second, solution = (page.index(words) for words in ("Hint 1 of 2", "Hint 2 of 2", "A solution"))
    assert first < second < solution
    assert "</details>" not in page[first:second]
    assert page[second:solution].count("</details>") == 2
    assert page.count("<details") == page.count("</details>") == 3
    assert "<details open" not in page
    assert "<code>number</code> &amp; nothing &lt; else" in page


def test_the_text_of_a_task_gives_no_hint_away():
    text = repr(make().show())
    assert text.startswith("Doubling (1 point)\n\nWrite a function.")
    assert text.endswith("(2 hints and a solution, folded)")
    assert "Multiply" not in text
    assert "return 2 * number" not in text


def test_the_solution_shown_is_the_source_of_the_reference():
    assert "labs-source" in make().show()._repr_html_()
    assert "SELECT 1 &lt; 2" in make(solution="SELECT 1 < 2").show()._repr_html_()
    assert "A solution" not in make(solution=None, hints=()).show()._repr_html_()


def test_a_hint_can_be_asked_for_as_text():
    exercise = make()
    assert exercise.hint() == "What is `2 + 2`?"
    assert exercise.hint(2) == "Multiply."
    with pytest.raises(ExerciseError, match="from 1 to 2, not 3"):
        exercise.hint(3)


@pytest.mark.parametrize(("options", "field"), [
    ({"answer": "poem"}, "answer"), ({"hints": "one"}, "hints"), ({"points": 0}, "points"), ({"limit": 0}, "limit"),
    ({"limit": float("nan")}, "limit"),
])
def test_an_exercise_that_cannot_be_is_refused_by_field(options, field):
    with pytest.raises(ExerciseError, match=f"^{field} must be"):
        make(**options)


# -- progress

def test_progress_counts_what_was_passed_and_keeps_it():
    exercises = Exercises("Incident 1")
    size = exercises.add(number_exercise(points=2))

    @exercises.exercise("Even", task="Give an even number.", answer="whole number")
    def even(answer):
        return holds("it is even", answer % 2 == 0, "Try 2.")

    assert [row[1] for row in exercises.progress()] == ["not answered yet", "not answered yet"]
    size.check(20)
    size.check(21)
    even.check(3)
    table = exercises.progress()
    assert table.rows == (("Size", "passed", 2, 2), ("Even", "not passed yet", 0, 1))
    assert table.caption == "Incident 1: 1 of 2 passed, 2 of 3 points"
    assert exercises["Even"] is even
    assert [exercise.name for exercise in exercises] == ["Size", "Even"]
    assert "Size" in exercises._repr_html_()


def test_two_exercises_cannot_share_a_name():
    exercises = Exercises("Incident 1")
    exercises.add(number_exercise())
    with pytest.raises(ExerciseError, match="'Size' twice"):
        exercises.add(number_exercise())
    with pytest.raises(KeyError, match="exercises: Size"):
        exercises["size"]


# -- the proof of a grader

WRONG = {"too small": (19, "places: 19"), "too large": (21, "places: 21"), "words": ("20", "must be a whole number")}


def test_a_sound_grader_is_proved_and_progress_is_left_alone():
    exercise = number_exercise()
    assert_graded(exercise, 20, wrong=WRONG, runs=2)
    assert exercise.latest is None
    assert not exercise.passed


def grader_of(finding_of):
    return Exercise("Size", "How many?", finding_of, answer="anything")


@pytest.mark.parametrize(("exercise", "answer", "wrong", "complaint"), [
    (number_exercise(), 19, WRONG, "the reference must pass"),
    (number_exercise(), 20, {**WRONG, "right": (20, "places")}, "right: this answer must not pass"),
    (number_exercise(), 20, {**WRONG, "reason": (19, "threads")}, "reason: it must fail for 'threads'"),
    (number_exercise(), 20, {**WRONG, "nothing": (..., "places")}, "nothing: this answer was taken for a stub"),
    (number_exercise(), 20, {**WRONG, "mute": (19, "")}, "mute: state the reason"),
    (number_exercise(), 20, {"one": (19, "places")}, "1 wrong answers are not 3"),
    (grader_of(lambda answer: Finding("n", next(NUMBERS), "any", True)), 20, WRONG, "reads differently"),
])
def test_an_unsound_grader_is_found_out(exercise, answer, wrong, complaint):
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        assert_graded(exercise, answer, wrong=wrong, runs=2)


NUMBERS = iter(range(1000))


def test_a_stub_of_ones_own_must_be_left_ungraded_too():
    with pytest.raises(AssertionError, match="a stub must be left ungraded"):
        assert_graded(number_exercise(), 20, wrong=WRONG, stub=7)


def test_lines_that_begin_with_a_dash_are_shown_as_a_list():
    task = "Choose one of\n\n- `a`,\n- `b`, which\n  goes on.\n\nThen go."
    shown = Exercise("A choice", task, double_grader).show()._repr_html_()
    assert "<ul><li><code>a</code>,</li><li><code>b</code>, which\n  goes on.</li></ul><p>Then go.</p>" in shown


def test_a_dollar_sign_is_never_the_start_of_a_formula():
    exercise = make()
    for shown in (exercise.show(), exercise.grade(reference), Exercises("All").progress()):
        assert "mathjax_ignore" in shown._repr_html_()

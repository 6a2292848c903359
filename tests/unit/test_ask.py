import math

import pytest

from labs.kit.ask import AskError, ask


@pytest.fixture
def guess():
    return ask("Connections taken by one post", low=0, high=20)


def controls(guess):
    _, row, answer = guess.widget.children
    slider, exact, _, button = row.children
    return slider, exact, button, answer


def test_untouched_it_has_no_value_and_its_sentences_cope(guess):
    assert guess.value is None
    assert guess.said() == "You did not commit to a number."
    assert guess.said(1) == "You did not commit to a number. It was 1."
    assert repr(guess) == "Connections taken by one post (0 to 20): not answered"


def test_the_button_commits_to_what_the_slider_shows(guess):
    slider, exact, button, answer = controls(guess)
    slider.value = 20
    assert exact.value == 20
    assert guess.value is None
    button.click()
    assert guess.value == 20
    assert answer.value == "You said 20."
    assert all(control.disabled for control in (slider, exact, button))


def test_the_exact_number_can_be_typed(guess):
    slider, exact, button, _ = controls(guess)
    exact.value = 7
    assert slider.value == 7
    button.click()
    assert guess.value == 7


@pytest.mark.parametrize(("measured", "sentence"), [
    (20, "You said 20. It was 20, as you said."),
    (18, "You said 20. It was 18, 2 fewer than you said."),
    (23, "You said 20. It was 23, 3 more than you said."),
    (1, "You said 20. It was 1: you said 20 times as much."),
    (0, "You said 20. It was 0, 20 fewer than you said."),
    (45_312, "You said 20. It was 45,312, 2,266 times what you said."),
    (None, "You said 20."),
    (math.nan, "You said 20."),
])
def test_the_answer_is_set_beside_what_was_measured(guess, measured, sentence):
    guess.commit(20)
    assert guess.said(measured) == sentence


def test_units_and_words_are_used_where_given():
    guess = ask("How long does it take?", 0, 600, unit="s")
    guess.commit(30)
    assert guess.said(312.4, "5 min 12 s") == "You said 30 s. It was 5 min 12 s, 10 times what you said."
    assert guess.said(28) == "You said 30 s. It was 28 s, 2 less than you said."


@pytest.mark.parametrize("value", [-1, 21, 2.5, "5", None, True, math.nan, math.inf])
def test_an_answer_outside_the_range_is_refused(guess, value):
    with pytest.raises(AskError, match="must be a whole number from 0 to 20, not"):
        guess.commit(value)
    assert guess.value is None


def test_a_committed_answer_stays(guess):
    guess.commit(3)
    with pytest.raises(AskError, match="committed to 3 already"):
        guess.commit(4)
    assert guess.value == 3


@pytest.mark.parametrize(("low", "high", "words"), [(5, 5, "high must be above low, 5, not 5"), (9, 1, "high"),
                                                    (0.5, 3, "low must be a whole number"), (0, "x", "high must be")])
def test_a_question_without_a_range_is_refused(low, high, words):
    with pytest.raises(AskError, match=words):
        ask("?", low, high)


def test_it_is_shown_as_a_widget_with_words_for_pages_without_one(guess):
    shown = guess._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in shown
    assert shown["text/plain"] == repr(guess)


def test_asking_again_starts_afresh(guess):
    guess.commit(3)
    assert ask("Connections taken by one post", low=0, high=20).value is None

"""Sliders, choices and buttons: what they take and how they say no."""

import math
from itertools import pairwise

import pytest

from labs.kit.panel import Action, Choice, ControlError, Option, Slider

FOLLOWERS = Slider("followers", "Followers", 10, 1_000_000, 45_312, log=True, stops=(45_312,))


@pytest.mark.parametrize("value", ["20", None, True, math.nan, math.inf, -1, 0, 101, 20.5, [20]])
def test_a_slider_refuses_what_is_not_in_its_range_and_says_what_is(value):
    pool_size = Slider("pool_size", "Pool size", 1, 100, 20)
    with pytest.raises(ControlError) as refusal:
        pool_size.check(value)
    assert str(refusal.value) == f"Pool size takes a whole number from 1 to 100; got {value!r}."


def test_a_slider_of_whole_numbers_gives_an_int_also_for_a_whole_float():
    value = Slider("pool_size", "Pool size", 1, 100, 20).check(30.0)
    assert (value, type(value)) == (30, int)


def test_a_slider_with_a_fractional_step_takes_fractions():
    assert Slider("share", "Share", 0, 1, 0.5, step=0.05).check(0.35) == 0.35


@pytest.mark.parametrize(
    ("low", "high", "value", "more", "complaint"),
    [
        (5, 5, 5, {}, "needs a low end below its high end"),
        (0, 10, 1, {"log": True}, "low end must be above 0"),
        (0, 10, 11, {}, "from 0 to 10; got 11"),
        (0, 10, 1, {"step": 0}, "needs a step above 0"),
    ],
)
def test_a_slider_that_makes_no_sense_is_refused_when_it_is_made(low, high, value, more, complaint):
    with pytest.raises(ControlError, match=complaint):
        Slider("x", "X", low, high, value, **more)


def test_a_logarithmic_slider_reaches_both_ends_and_its_stops_exactly():
    positions = FOLLOWERS.positions()
    assert positions == sorted(set(positions))
    assert positions[0] == 10
    assert positions[-1] == 1_000_000
    assert 45_312 in positions


def test_every_position_of_a_logarithmic_slider_is_a_value_it_takes_and_a_small_step_away():
    positions = FOLLOWERS.positions()
    assert [FOLLOWERS.check(value) for value in positions] == positions
    assert max(later / earlier for earlier, later in pairwise(positions)) < 1.4


def test_a_logarithmic_slider_of_fractions_keeps_round_numbers_below_one():
    positions = Slider("delay", "Delay", 0.01, 10, 1, step=0.01, log=True).positions()
    assert {0.01, 0.025, 0.5, 2.5, 10}.issubset(positions)


def test_a_slider_says_its_value_with_separators_and_unit():
    assert FOLLOWERS.say(45_312) == "45,312"
    assert Slider("fcm", "FCM answers in", 1, 2_000, 45, unit="ms").say(1_500) == "1,500 ms"
    assert Slider("share", "Share", 0, 1, 0.5, step=0.05).say(0.35) == "0.35"


def test_a_choice_takes_options_pairs_and_plain_words():
    choice = Choice("step", "Code", ("plain", ("pair", "A pair"), Option("whole", "Whole", "why")), "pair")
    assert [option["label"] for option in choice.spec()["options"]] == ["plain", "A pair", "Whole"]
    assert choice.say("pair") == "A pair"
    assert choice.check("whole") == "whole"


def test_a_choice_refuses_an_option_it_does_not_have():
    with pytest.raises(ControlError, match=r"Clients takes one of 'wait', 'retry'; got 'sleep'\."):
        Choice("clients", "Clients", ("wait", "retry"), "sleep")


def test_the_specs_tell_the_browser_what_kind_each_control_is():
    controls = [FOLLOWERS, Choice("clients", "Clients", ("wait",), "wait"), Action("post", "Post", primary=True)]
    assert [control.spec()["kind"] for control in controls] == ["slider", "choice", "action"]
    assert FOLLOWERS.spec()["values"] == FOLLOWERS.positions()
    assert controls[2].spec()["primary"] is True

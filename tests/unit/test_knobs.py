import dataclasses
import math
import pickle

import numpy as np
import pytest

from labs.kit.knobs import KnobError, Knobs, choice, number, switch, whole


class Minute(Knobs):
    pool_size: int = whole(20, 1, 200, unit="connections", meaning="connections in the pool")
    followers: int = whole(45_312, 10, 1_000_000, meaning="followers of the author")
    fcm_latency_ms: float = number(45, 0, 2_000, unit="ms", meaning="time FCM takes to answer")
    client_retries: bool = switch(True, meaning="phones send again")
    step: int = choice(0, (0, 1, 2), meaning="which code runs")
    code: str = choice("as it failed", ("as it failed", "published fix"))
    seconds: float | None = number(None, 1, 600, unit="s", meaning="length of the run")


def refusal(**values):
    with pytest.raises(KnobError) as caught:
        Minute(**values)
    assert isinstance(caught.value, ValueError)
    return str(caught.value)


def test_defaults_are_taken_and_given_values_kept():
    knobs = Minute(pool_size=40, code="published fix")
    assert (knobs.pool_size, knobs.followers, knobs.code, knobs.seconds) == (40, 45_312, "published fix", None)


def test_a_refusal_names_the_knob_what_it_got_and_what_it_allows():
    assert refusal(followers=2_000_000) == "followers must be a whole number from 10 to 1,000,000, not 2,000,000."
    assert refusal(pool_size=0) == "pool_size must be a whole number from 1 to 200 connections, not 0."
    assert refusal(fcm_latency_ms=-0.5) == "fcm_latency_ms must be a number from 0 to 2,000 ms, not -0.5."
    assert refusal(client_retries="yes") == "client_retries must be True or False, not 'yes'."
    assert refusal(step=7) == "step must be one of 0, 1, 2, not 7."
    assert refusal(seconds=0) == "seconds must be a number from 1 to 600 s, or None, not 0."


BAD_NUMBERS = [-1, "20", "", None, math.nan, math.inf, -math.inf, True, False, [], {}, 10**9, 10**400, 10**5000, 1 + 2j,
               np.float64("nan"), np.array([20]), np.bool_(True), b"20"]


@pytest.mark.parametrize("value", BAD_NUMBERS, ids=lambda value: repr(value)[:12] if not isinstance(value, int) else "")
@pytest.mark.parametrize("name", ["pool_size", "fcm_latency_ms"])
def test_anything_that_is_no_number_in_the_range_is_refused_in_one_sentence(name, value):
    sentence = refusal(**{name: value})
    assert sentence.startswith(f"{name} must be a ")
    assert sentence.endswith(".")
    assert len(sentence) < 150


@pytest.mark.parametrize("value", [1, 0, "True", None, 1.0])
def test_a_switch_takes_only_true_and_false(value):
    assert "True or False" in refusal(client_retries=value)


@pytest.mark.parametrize("value", [True, "0", None, 0.5, [0], math.nan])
def test_a_choice_takes_only_its_options(value):
    assert "one of 0, 1, 2" in refusal(step=value)


@pytest.mark.parametrize("value", [20.0, np.int64(20), np.int32(20), np.float64(20.0)])
def test_whole_numbers_written_otherwise_become_plain_ints(value):
    pool_size = Minute(pool_size=value).pool_size
    assert (pool_size, type(pool_size)) == (20, int)


def test_half_a_connection_is_refused():
    assert refusal(pool_size=20.5) == "pool_size must be a whole number from 1 to 200 connections, not 20.5."


def test_numbers_from_numpy_become_plain_ones():
    assert type(Minute(fcm_latency_ms=np.float32(4.5)).fcm_latency_ms) is float
    assert type(Minute(client_retries=np.bool_(False)).client_retries) is bool


def test_both_ends_of_a_range_are_allowed():
    assert Minute(pool_size=1, followers=10, fcm_latency_ms=0).followers == 10
    assert Minute(pool_size=200, followers=1_000_000).pool_size == 200


def test_an_unknown_knob_is_answered_with_the_nearest_one():
    sentence = refusal(pool_sise=20)
    assert sentence.startswith("pool_sise is not a knob of this lab; did you mean pool_size? Knobs: pool_size, ")
    assert refusal(zzzz=1).startswith("zzzz is not a knob of this lab. Knobs: pool_size, followers")


def test_replace_gives_a_checked_copy_and_leaves_the_first_alone():
    first = Minute()
    assert first.replace(pool_size=5) == Minute(pool_size=5)
    assert first == Minute()
    with pytest.raises(KnobError, match="pool_size must be"):
        first.replace(pool_size=0)
    with pytest.raises(KnobError, match="did you mean pool_size"):
        first.replace(poolsize=3)


def test_knobs_cannot_be_changed_after_they_are_checked():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Minute().pool_size = 0


def test_knobs_survive_a_pickle_and_serve_as_keys():
    assert pickle.loads(pickle.dumps(Minute(pool_size=3))) == Minute(pool_size=3)
    assert len({Minute(), Minute(), Minute(pool_size=3)}) == 2


def test_a_default_outside_its_own_range_is_refused_where_it_is_declared():
    with pytest.raises(KnobError, match="threads must be"):

        class Wrong(Knobs):
            threads: int = whole(0, 1, 64)


def test_the_table_has_a_row_a_knob():
    table = Minute(fcm_latency_ms=4.5).table()
    assert table.columns == ("knob", "value", "range", "unit", "meaning")
    assert table.rows[1] == ("followers", "45,312", "10 to 1,000,000", "", "followers of the author")
    assert table.column("value") == ["20", "45,312", "4.5", "on", "0", "as it failed", "not set"]


def test_the_ranges_are_there_for_a_panel_to_draw_its_sliders():
    allowed = Minute._ranges["pool_size"]
    assert (allowed.kind, allowed.low, allowed.high, allowed.unit) == ("whole", 1, 200, "connections")
    assert Minute._ranges["step"].options == (0, 1, 2)

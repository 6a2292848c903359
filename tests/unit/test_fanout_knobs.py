"""The knobs of incident 1: what they allow, and that every refusal names the knob and its range."""

import math
import subprocess
import sys

import pytest

from labs.fanout.knobs import DEPLOYED, Knobs
from labs.fanout.steps import STEPS, step_of
from labs.kit.knobs import KnobError

BAD = [
    ("pool_size", 0, "pool_size must be a whole number from 1 to 100"),
    ("pool_size", -3, "not -3"),
    ("pool_size", 2.5, "not 2.5"),
    ("followers", 2_000_000, "followers must be a whole number from 10 to 1,000,000 followers, not 2,000,000."),
    ("followers", "many", "not 'many'"),
    ("followers", True, "not True"),
    ("fcm_latency_ms", math.nan, "fcm_latency_ms must be a number from 0 to 5,000 ms, not nan."),
    ("pool_timeout_s", 0, "pool_timeout_s must be a number from 0.5 to 300 s"),
    ("client_timeout_s", -1, "client_timeout_s"),
    ("client_retries", "yes", "client_retries must be True or False"),
    ("request_rate", math.inf, "request_rate"),
    ("threads", 0, "threads"),
    ("pods", 9, "pods must be a whole number from 1 to 4"),
    ("speed", 0, "speed must be a number from 1 to 20"),
    ("seconds", None, "seconds must be a number"),
    ("step", "hand of", "step must be one of"),
    ("restart_at_s", 0, "or None"),
]


@pytest.mark.parametrize(("name", "value", "says"), BAD)
def test_a_bad_value_is_refused_with_the_knob_and_what_it_allows(name, value, says):
    with pytest.raises(KnobError) as refused:
        Knobs(**{name: value})
    assert name in str(refused.value)
    assert says in str(refused.value)


def test_a_misspelt_knob_is_refused_with_the_nearest_one():
    with pytest.raises(KnobError, match="did you mean pool_size"):
        Knobs(pool_sise=20)


def test_the_defaults_are_the_published_system():
    knobs = Knobs()
    assert (knobs.pool_size, knobs.followers, knobs.fcm_latency_ms, knobs.pool_timeout_s) == (20, 45_312, 45, 30)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_may_be_called_by_its_number_or_its_name(step):
    assert Knobs(step=step.name).step == Knobs(step=step.number).step == step.number
    assert step_of(step.name).load().app.name


def test_a_step_that_does_not_exist_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'bulk query'"):
        step_of("bulk queri")


@pytest.mark.parametrize("name", DEPLOYED)
def test_what_a_team_would_deploy_counts_as_a_deployment(name):
    other = {"pool_size": 3, "pool_timeout_s": 5, "threads": 8, "pods": 2, "step": 1, "workers": 3, "trace": False}
    assert Knobs(**{name: other[name]}).deployed_settings() != Knobs().deployed_settings()


def test_what_changes_in_place_needs_no_deployment():
    moved = Knobs(followers=12, fcm_latency_ms=90, db_latency_ms=1, request_rate=2, client_retries=False)
    assert moved.deployed_settings() == Knobs().deployed_settings()


def test_the_package_offers_what_it_lists_and_nothing_else():
    from labs import fanout

    for _ in range(2):
        assert all(getattr(fanout, name) is not None for name in fanout.__all__)
    with pytest.raises(AttributeError):
        fanout.lucky_number  # noqa: B018


def test_a_pod_loads_no_charts_and_no_widgets():
    loaded = "import labs.fanout.step0_as_it_failed, sys; print({'matplotlib', 'ipywidgets'} & {*sys.modules})"
    answer = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"

"""Incident 1 run for real, small: the outage breaks, the fix holds, a moved knob reaches the running system."""

import pytest

from labs import fanout
from labs.fanout.knobs import Knobs
from labs.fanout.system import System
from labs.kit.knobs import KnobError
from tests.running import eventually

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("stack")]


def test_retries_take_every_connection_and_the_api_with_them():
    outcome = fanout.run(pool_size=3, client_timeout_s=1, seconds=40, request_rate=3)
    assert repr(outcome.verdict()).splitlines()[1:] == ["pool exhausted by the post: yes", "API down at the end: yes"]
    assert outcome.connections_by_post == 3
    slow = outcome.traces.longer_than("10 s").where(endpoint="POST /api/v1/posts/create")
    assert len(slow) >= 3
    assert slow.longest().cut_off


def test_a_patient_phone_takes_one_connection():
    outcome = fanout.run(client_retries=False, seconds=30, request_rate=3)
    assert outcome.connections_by_post == 1
    assert not outcome.down


def test_the_published_fix_reaches_every_follower_once():
    outcome = fanout.run(step="published fix", followers=1_200, client_retries=False, seconds=20, request_rate=3)
    assert (outcome.delivered, outcome.duplicated, outcome.lost) == (1_200, 0, 0)
    assert not outcome.pool_exhausted


@pytest.mark.parametrize("step", ["nothing lost", "today"])
def test_the_steps_with_an_outbox_reach_every_follower_once(step):
    outcome = fanout.run(step=step, followers=1_200, client_retries=False, seconds=15, request_rate=3)
    assert (outcome.delivered, outcome.duplicated, outcome.lost, outcome.finished) == (1_200, 0, 0, True)
    assert not outcome.pool_exhausted


def test_a_second_post_within_the_minute_is_merged_or_waits_and_is_never_lost():
    outcome = fanout.run(
        step="nothing lost", followers=12_000, posts=2, client_retries=False, seconds=15, request_rate=3, speed=20
    )
    assert outcome.lost == outcome.duplicated == 0
    assert outcome.fanouts + outcome.merged == 2


def test_a_bad_knob_is_refused_before_anything_starts():
    with pytest.raises(KnobError, match="pool_size must be a whole number from 1 to 100"):
        fanout.run(pool_size=0)


def test_every_follower_lengthens_the_hold():
    line = fanout.sweep(followers=(10, 60), speed=20)
    assert (line.held >= 0.045 * line.followers).all()  # seconds: no loop is faster than the push service's answers


def test_a_moved_knob_reaches_the_running_system(stack):
    with System(stack, Knobs(followers=50, request_rate=0, client_retries=False)) as system:
        system.change(fcm_latency_ms=10)
        assert system.push.state()["settings"]["latency_ms"] == pytest.approx(1.0)
        system.change(pool_size=7)
        eventually(lambda: [pod["size"] for pod in system.recorder.live()["pods"]] == [7])
        with pytest.raises(KnobError):
            system.change(pool_size=0)
        assert system.knobs.pool_size == 7
        system.change(step="published fix", followers=1_000)
        system.post()
        eventually(lambda: system.push.counters()["accepted"] == 1_000)

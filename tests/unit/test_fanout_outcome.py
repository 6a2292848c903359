"""What an outcome says of a run, on made-up recordings whose answers are known."""

import math

import pytest

from labs.fanout.comparisons import hypotheses, ladder
from labs.fanout.knobs import Knobs
from labs.fanout.outcome import Outcome
from labs.kit.recording import Recording
from tests import synthetic

POSTED_AT = 10.0


@pytest.fixture(scope="module")
def down(tmp_path_factory) -> Outcome:
    """One post whose phone retries: the pool of 20 fills, and nobody is served any more."""
    return Outcome(Recording.open(synthetic.outage(tmp_path_factory.mktemp("down"))), Knobs(), POSTED_AT)


@pytest.fixture(scope="module")
def up(tmp_path_factory) -> Outcome:
    """One post whose phone waits."""
    run = synthetic.outage(tmp_path_factory.mktemp("up"), retries=False)
    return Outcome(Recording.open(run), Knobs(client_retries=False), POSTED_AT)


@pytest.fixture
def died(tmp_path) -> Outcome:
    """A run that ended before anything was seen."""
    return Outcome(Recording.open(synthetic.empty(tmp_path)), Knobs(), POSTED_AT)


def test_a_pool_full_of_posts_is_an_outage(down):
    assert down.pool_exhausted
    assert down.connections_by_post == 20
    assert down.down
    assert down.failed_share in ("more than half", "all")
    assert POSTED_AT < down.pool_full_at < down.recording.seconds


def test_one_patient_post_is_none(up):
    assert not up.pool_exhausted
    assert up.connections_by_post == 1
    assert not up.down
    assert math.isnan(up.pool_full_at)
    assert up.full_after == "never"


def test_the_verdict_has_no_figures_that_a_machine_decides(down, up):
    assert repr(down.verdict()).splitlines()[1:] == ["pool exhausted by the post: yes", "API down at the end: yes"]
    assert repr(up.verdict()).splitlines()[1:] == ["pool exhausted by the post: no", "API down at the end: no"]


def test_the_three_stories_are_told_apart(down, up):
    verdict = hypotheses(up, down, up)
    assert verdict["one post and a phone that retries: API down"] is True
    assert verdict["one post and a patient phone: API down"] is False
    assert verdict["one post and a patient phone: connections held by the post"] == 1


def test_the_stories_told_the_wrong_way_round_are_seen(down, up):
    assert hypotheses(down, up, up) != hypotheses(up, down, up)


def test_the_ladder_lists_every_step_once(down, up):
    table = ladder(down, up).table()
    assert len(table) == 2
    assert table.column("step") == ["as it failed", "as it failed"]


def test_a_run_that_died_early_can_still_be_asked(died):
    assert died.sent_requests == 0
    assert not died.pool_exhausted
    assert died.delivered == 0
    assert died.feed_p50 == "no time: it was never answered"
    assert died.last_notification == "never"
    for view in (died.holders, died.database_sessions, died.slow_queries, died.vitals, died.chart):
        assert repr(view())


def test_the_title_states_the_finding(down, up):
    assert down.title == "Down: the post holds all 20 connections"
    assert up.title == "Up: the post holds 1 of 20 connections"


def test_the_database_is_shown_by_application_and_state(down):
    assert {"application", "state", "sessions", "oldest transaction"} == set(down.database_sessions().columns)

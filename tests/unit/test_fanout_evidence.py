"""The claims of incident 1: each is answered by one of its notebooks, honestly, and from results alone."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from labs.cli.ledger import CLAIMS
from labs.fanout.crash_kills import Kills
from labs.fanout.crashes import Crash, CrashTests
from labs.fanout.defects_answers import IgnoredStatus, LiteralDollar, RetiredEndpoint, TwoPosts, UnreadResults
from labs.fanout.defects_counts import BatchCount, Batches, PhonesOfFollowers
from labs.fanout.defects_lock import Crowd, LockPerAuthor
from labs.fanout.defects_trial import Seen
from labs.fanout.hold_times import Sweep
from labs.fanout.knobs import Knobs
from labs.fanout.loss_claims import (
    API_KILLED,
    BATCH_FAILS,
    PUBLISHED,
    TODAY,
    WORKER_KILLED,
    WORKER_RESTARTED,
    evidence_of_losses,
    losses,
)
from labs.fanout.outage_claims import evidence, outage
from labs.fanout.outcome import Outcome
from labs.fanout.small_runs import FixedRoute, OrdinaryPosts, StaleCounts
from labs.kit.ledger import Ledger, LedgerError
from labs.kit.recording import Recording
from tests import synthetic

REPRODUCED, CONTRADICTED, UNTOLD = "reproduced", "contradicted", "cannot be told on one machine"


# -- the outage -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Outcomes of made-up runs: with retries the pool of 20 fills, without them one connection is held."""

    def made(retries, **knobs):
        run = synthetic.outage(tmp_path_factory.mktemp("run"), retries=retries)
        return Outcome(Recording.open(run), Knobs(client_retries=retries, **knobs), 10.0)

    return made


@pytest.fixture(scope="module")
def runs(outcome):
    down, up = outcome(True), outcome(False)
    followers = np.array([12, 50, 400])
    return {
        "alone": up,
        "retried": down,
        "twenty": down,
        "busier": up,
        "life": down,
        "restarted": SimpleNamespace(recovery="25 s", knobs=Knobs(client_timeout_s=1), all_connections=20),
        "line": Sweep(followers, followers * 0.074, followers * 0.075),
        "fixed": up,
        "flat": FixedRoute((12, 45_312), np.full(5, 0.014), np.full(5, 0.0145)),
        "ordinary": OrdinaryPosts(11, np.array([0.01, 0.6]), np.array([0.62])),
    }


def test_each_claim_of_the_incident_is_answered_by_one_notebook():
    answered = [*outage.claims, *losses.claims]
    assert sorted(answered) == [claim for claim in Ledger.read(CLAIMS) if claim.startswith("F")]


def test_the_outage_answers_all_of_its_claims(runs):
    found = evidence(**runs)
    assert len(found) == len(outage.claims)
    assert len(found.table()) == len(found)


def test_a_post_that_takes_one_connection_contradicts_the_claim_that_it_takes_all(runs):
    answer = evidence(**runs)["F17"]
    assert answer.status == CONTRADICTED
    assert answer.figure.startswith("1 of 20 with a patient phone; 20 of 20 with one that retries")


def test_a_post_that_takes_all_would_reproduce_it(runs):
    assert evidence(**runs | {"alone": runs["retried"]})["F17"].status == REPRODUCED


def test_twenty_posts_that_leave_the_api_up_contradict_the_claim(runs):
    assert evidence(**runs)["F18"].status == REPRODUCED
    assert evidence(**runs | {"twenty": runs["alone"]})["F18"].status == CONTRADICTED


def test_what_one_machine_cannot_know_is_said_so(runs):
    found = evidence(**runs)
    assert {found[claim].status for claim in ("F01", "F02", "F05")} == {UNTOLD}


def test_a_restart_that_cures_contradicts_the_claim(runs):
    cured = SimpleNamespace(recovery="no time at all", knobs=Knobs(), all_connections=20)
    assert evidence(**runs)["F09"].status == REPRODUCED
    assert evidence(**runs | {"restarted": cured})["F09"].status == CONTRADICTED


def test_the_published_arithmetic_is_checked(runs):
    found = evidence(**runs)
    assert {found[claim].status for claim in ("F12", "F13", "F14")} == {"arithmetic agrees"}
    assert found["F15"].status == "arithmetic disagrees"
    assert found["F12"].figure == "272 s"


def test_a_slow_machine_changes_no_line_of_the_verdict(runs):
    slow = runs | {"flat": FixedRoute((12, 45_312), np.full(5, 0.01), np.full(5, 0.09))}
    assert evidence(**slow)["F30"].status == UNTOLD
    assert evidence(**slow).verdict() == evidence(**runs).verdict()


def test_speeds_are_left_out_of_the_verdict(runs):
    compared = {fact.name for fact in evidence(**runs).verdict()}
    assert {"F17", "F18", "F22"} <= compared
    assert not {"F03", "F19", "F20", "F21", "F23", "F24", "F30"} & compared


def test_an_ordinary_post_that_holds_a_connection_for_too_long_contradicts_the_claim(runs):
    harmful = OrdinaryPosts(11, np.array([45.0]), np.array([46.0]))
    assert evidence(**runs | {"ordinary": harmful})["F06"].status == CONTRADICTED


def test_a_missing_run_is_named(runs):
    runs = {name: run for name, run in runs.items() if name != "restarted"}
    with pytest.raises(LedgerError, match=r"restarted \(F09\)"):
        evidence(**runs)


# -- the losses -------------------------------------------------------------------------------------------------------


def seen(reached=0, refused=None, complaints=0, told_ok=True):
    return Seen(told_ok, 50, refused or {}, reached, 0, complaints, 0)


def crash(fault, step, delivered=6_000, sent_twice=0):
    return Crash(fault, step, 6_000, "201", 1, delivered, sent_twice)


def crashes(**published):
    """Crashes of the published fix as measured, except what ``published`` says; the last step loses nothing."""
    usual = {
        API_KILLED: crash(API_KILLED, PUBLISHED, delivered=0),
        WORKER_RESTARTED: crash(WORKER_RESTARTED, PUBLISHED),
        WORKER_KILLED: crash(WORKER_KILLED, PUBLISHED, delivered=500),
        BATCH_FAILS: crash(BATCH_FAILS, PUBLISHED, sent_twice=2_500),
    }
    wanted = [replace(each, **published) for each in usual.values()]
    return CrashTests([*wanted, crash(API_KILLED, TODAY), crash(BATCH_FAILS, TODAY)])


LOSSES = {
    "crashes": crashes(),
    "kills": Kills("today", 6_000, (), 1, 0, 6_000, 6_000, {}, np.array([]), np.array([])),
    "stale": StaleCounts(8_585, 10_585, 2, 1, 300),
    "throttled": SimpleNamespace(knobs=Knobs(posts=2), accepted=45_312, lost=45_312),
    "merged": SimpleNamespace(merged=1, lost=0),
    "crowd": LockPerAuthor(Crowd(3, 2, 90.0), Crowd(3, 0, 4.0, 8)),
    "dollar": LiteralDollar(50, seen(50), seen(refused={"UNAUTHENTICATED": 50}), seen(), seen(), seen(50)),
    "ignored": IgnoredStatus(50, seen(refused={"UNAVAILABLE": 50}), seen(), seen(), seen(50)),
    "phones": PhonesOfFollowers(100, 100, 130, 100, 130),
    "counted": BatchCount((Batches(45_312, 91, 91, 91), Batches(45_000, 91, 90, 90))),
    "unread": UnreadResults(1_000, TwoPosts(seen(950, {"UNREGISTERED": 50}), seen(950, {"UNREGISTERED": 50}), 0),
                            TwoPosts(seen(950, {"UNREGISTERED": 50}), seen(950), 50)),
    "retired": RetiredEndpoint(50, seen(), seen(), seen(50)),
    "senders": SimpleNamespace(ratio=6.2),
}  # fmt: skip


def test_the_losses_answer_all_of_their_claims():
    found = evidence_of_losses(**LOSSES)
    assert {answer.claim: answer.status for answer in found} == {
        "F25": CONTRADICTED,
        "F27": REPRODUCED,
        "F28": REPRODUCED,
        "F29": CONTRADICTED,
        "F32": REPRODUCED,
        "F33": REPRODUCED,
        "F34": REPRODUCED,
        "F35": REPRODUCED,
        "F36": REPRODUCED,
        "F37": "arithmetic agrees",
        "F38": REPRODUCED,
        "F39": REPRODUCED,
        "F40": REPRODUCED,
    }


def test_the_verdict_of_the_losses_has_every_claim():
    assert [fact.name for fact in evidence_of_losses(**LOSSES).verdict()] == sorted(losses.claims)


OTHERWISE = [
    ("F25", "crashes", crashes(delivered=6_000), REPRODUCED),
    ("F27", "stale", StaleCounts(8_585, 10_585, 1, 1, 300), CONTRADICTED),
    ("F28", "throttled", SimpleNamespace(knobs=Knobs(posts=2), accepted=90_624, lost=0), CONTRADICTED),
    ("F29", "crowd", LockPerAuthor(Crowd(1, 0, 9.0), Crowd(3, 0, 4.0, 8)), REPRODUCED),
    ("F32", "dollar", replace(LOSSES["dollar"], as_it_failed=seen(50)), CONTRADICTED),
    ("F33", "ignored", replace(LOSSES["ignored"], as_it_failed=seen(complaints=1)), CONTRADICTED),
    ("F34", "crashes", crashes(sent_twice=0), CONTRADICTED),
    ("F35", "crashes", crashes(delivered=6_000), CONTRADICTED),
    ("F36", "phones", PhonesOfFollowers(100, 100, 100, 100, 130), CONTRADICTED),
    ("F37", "counted", BatchCount((Batches(45_000, 90, 90, 90),)), "arithmetic disagrees"),
    ("F37", "counted", BatchCount((Batches(45_312, 91, 91, 91),)), "arithmetic disagrees"),
    ("F38", "unread", replace(LOSSES["unread"], published=LOSSES["unread"].today), CONTRADICTED),
    ("F39", "retired", RetiredEndpoint(50, seen(50), seen(), seen(50)), CONTRADICTED),
    ("F40", "throttled", SimpleNamespace(knobs=Knobs(posts=2), accepted=90_624, lost=0), CONTRADICTED),
]


def test_a_worker_that_is_asked_to_stop_loses_nothing_and_one_that_is_killed_contradicts_the_claim():
    figure = evidence_of_losses(**LOSSES)["F25"].figure
    assert "0 notifications lost when the worker is asked to stop, 5,500 of 6,000 when it is killed" in figure


@pytest.mark.parametrize(("claim", "name", "result", "status"), OTHERWISE)
def test_a_run_that_says_otherwise_changes_the_status(claim, name, result, status):
    assert evidence_of_losses(**LOSSES | {name: result})[claim].status == status


def test_crashes_without_the_one_that_a_claim_needs_are_refused():
    with pytest.raises(LedgerError, match="crashes must hold 'worker restarted in mid fan-out'"):
        evidence_of_losses(**LOSSES | {"crashes": CrashTests([crash(API_KILLED, PUBLISHED)])})

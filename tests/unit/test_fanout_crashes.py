"""What a crash costs: the counting and its words, and each kind of crash once, small, on real processes."""

import numpy as np
import pytest

from labs.fanout.crash_faults import FAULTS, fault_of
from labs.fanout.crash_kills import Kill, Kills, random_kills
from labs.fanout.crash_scene import CHUNK_SIZE
from labs.fanout.crashes import Crash, crash, crash_course, crash_tests

pytestmark = pytest.mark.live

RESTARTED = "worker restarted in mid fan-out"
KILLED, BATCH, EMPTY = "worker killed in mid fan-out", "one batch fails once", "Redis comes back empty"
API = "API killed between commit and enqueue"


def made(fault: str = KILLED, step: str = "published fix", **changes: int) -> Crash:
    counted = {"followers": 1_000, "posts_committed": 1, "delivered": 1_000, "sent_twice": 0} | changes
    return Crash(fault=fault, step=step, answer="201", **counted)


def kill(number: int, *devices: int) -> Kill:
    return Kill(number, at=number, accepted=10 * number, in_flight=devices, api=False)


def killed(kills: list[Kill], twice: dict[int, int], **changes: int) -> Kills:
    counted = {"wanted": 100, "delivered": 100, "posts_committed": 1, "posts_cut_off": 0, "followers": 100} | changes
    curve = {"accepted_at": np.array([0.0, 5.0]), "accepted": np.array([0, 100])}
    return Kills(step="today", kills=tuple(kills), twice=twice, **counted, **curve)


# -- counting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delivered", "lost", "words"), [(1_000, 0, "none"), (500, 500, "some"), (0, 1_000, "every one")]
)
def test_what_a_committed_post_did_not_bring_is_lost(delivered, lost, words):
    crashed = made(delivered=delivered)
    assert (crashed.lost, crashed.lost_some, crashed.lost_in_words) == (lost, lost > 0, words)


def test_a_post_that_was_never_committed_loses_nothing():
    assert made(posts_committed=0, delivered=0).lost_in_words == "none"


def test_one_chunk_sent_twice_is_allowed_and_one_notification_more_is_not():
    assert made(sent_twice=CHUNK_SIZE).beyond_the_chunk_in_flight == 0
    assert made(sent_twice=CHUNK_SIZE + 1).beyond_the_chunk_in_flight == 1


def test_the_table_has_a_row_a_fault_and_a_dash_where_a_step_did_not_have_it():
    table = crash_tests(made(delivered=500), made(BATCH, sent_twice=500), made(step="today", sent_twice=20)).table()
    assert table.columns == ("what goes wrong", "published fix", "today")
    assert list(table) == [(KILLED, "500 lost", "20 sent twice"), (BATCH, "500 sent twice", None)]


def test_the_table_says_what_a_step_without_batches_had_instead():
    assert "has no batches" in crash_tests(made(BATCH, step="today")).table().caption
    assert "has no batches" not in crash_tests(made(BATCH)).table().caption


def test_the_table_says_when_the_middle_of_a_fan_out_is():
    assert f"FCM has the first {CHUNK_SIZE}" in crash_tests(made(KILLED)).table().caption
    assert "first" not in crash_tests(made(BATCH)).table().caption


def test_the_verdict_says_of_the_published_fix_what_every_machine_finds_and_of_an_outbox_the_numbers():
    verdict = crash_tests(
        made(delivered=500), made(BATCH, sent_twice=500), made(step="today", delivered=999, sent_twice=501)
    ).verdict()
    assert repr(verdict).splitlines()[1:] == [
        f"published fix, {KILLED}: notifications lost: some",
        f"published fix, {KILLED}: some sent twice: no",
        f"published fix, {BATCH}: notifications lost: none",
        f"published fix, {BATCH}: some sent twice: yes",
        f"today, {KILLED}: notifications lost: 1",
        "today: sent twice beyond the chunk in flight: 1",
    ]


def test_no_crash_or_the_same_twice_is_refused():
    with pytest.raises(ValueError, match="crashes must be one or more"):
        crash_tests()
    with pytest.raises(ValueError, match="the same fault of the same step twice"):
        crash_tests(made(), made())


def test_a_fault_that_does_not_exist_is_refused_with_the_list():
    with pytest.raises(ValueError, match=r"fault must be one of API killed .*; not 'fire'"):
        crash("fire")


def test_a_misspelt_fault_is_refused_with_the_one_that_was_meant():
    with pytest.raises(ValueError, match=f"Did you mean '{KILLED}'"):
        crash("worker kiled in mid fan-out")


@pytest.mark.parametrize("step", ["as it failed", "bogus", 3])
def test_a_step_that_takes_hours_or_does_not_exist_is_refused_with_those_that_come_to_an_end(step):
    words = r"with a fan-out that comes to an end \(published fix, nothing lost, today\), not " + repr(step)
    with pytest.raises(ValueError, match=words):
        crash_course(step)


def test_every_fault_says_what_it_does():
    assert all(fault.happens.__doc__ for fault in FAULTS)
    assert fault_of(KILLED).name == KILLED


# -- the proof --------------------------------------------------------------------------------------------------------


def test_a_phone_whose_chunk_was_in_flight_at_two_kills_may_be_called_three_times_and_not_four():
    kills = [kill(1, 7, 8), kill(2, 7, 8)]
    assert killed(kills, {7: 2, 8: 1}).beyond_the_chunks_in_flight == 0
    assert killed(kills, {7: 3}).beyond_the_chunks_in_flight == 1


def test_a_phone_called_twice_that_was_in_no_chunk_in_flight_is_found_however_few_were_sent_twice():
    verdict = killed([kill(1, 7, 8)], {9: 1}, delivered=98).verdict()
    assert verdict["sent twice beyond the chunk in flight"] == 1
    assert verdict["notifications lost"] == 2


def test_more_phones_in_flight_than_a_chunk_has_are_not_passed_off_as_one_chunk():
    name = f"at most {CHUNK_SIZE} phones in flight at a kill"
    assert killed([kill(1, *range(CHUNK_SIZE))], {}).verdict()[name] is True
    assert killed([kill(1, *range(CHUNK_SIZE + 1))], {}).verdict()[name] is False


def test_the_table_of_kills_counts_the_phones_that_were_called_again():
    table = killed([kill(1, 7, 8), kill(2)], {7: 1}).table()
    assert table.column("phones in flight") == [2, 0]
    assert table.column("of these called once more") == [1, 0]


def test_the_column_of_phones_called_once_more_adds_up_to_what_was_sent_twice_also_after_two_kills_of_a_chunk():
    kills = [kill(1, 7, 8), kill(2, 5), kill(3, 7, 8), kill(4, 7, 9)]
    once, often = killed(kills, {7: 1, 8: 2}), killed(kills, {7: 3, 8: 1, 9: 1})
    assert once.called_again == (2, 0, 1, 0)
    assert often.called_again == (2, 0, 1, 2)
    assert (sum(once.called_again), sum(often.called_again)) == (once.sent_twice, often.sent_twice)


def test_what_no_kill_explains_is_in_no_row_and_in_the_caption():
    unexplained = killed([kill(1, 7, 8)], {7: 2, 9: 1})
    assert unexplained.called_again == (1,)
    assert "3 sent twice, 2 of these in flight at no kill." in unexplained.table().caption


def test_the_caption_of_kills_says_how_many_posts_there_are_and_how_many_were_cut_off():
    assert killed([kill(1)], {}).table().caption == "0 of 100 notifications lost, 0 sent twice. 1 post was committed."
    caption = killed([kill(1)], {}, posts_committed=4, posts_cut_off=2).table().caption
    assert caption.endswith(" 4 posts were committed, 2 cut off before the commit.")


def test_the_chart_has_a_cross_for_each_kill():
    (axes,) = killed([kill(1, 7), kill(2)], {}).chart().figure.axes
    assert axes.lines[-1].get_xdata().tolist() == [1, 2]


def test_kills_need_books_and_a_number():
    with pytest.raises(ValueError, match="step must be one with an outbox"):
        random_kills("published fix")
    with pytest.raises(ValueError, match=r"which keeps books \(nothing lost, today\), not 'bogus'"):
        random_kills("bogus")
    with pytest.raises(ValueError, match="kills must be a whole number from 1 up, not 0"):
        random_kills(kills=0)


# -- on real processes ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stack")
def test_the_published_fix_loses_posts_and_batches_and_sends_batches_twice():
    faults = [API, RESTARTED, KILLED, BATCH, EMPTY]
    api, restarted, worker, batch, redis = crash_course("published fix", 1_100, faults=faults)
    assert (api.answer, api.posts_committed, api.delivered) == ("none", 1, 0)
    assert (restarted.answer, restarted.lost, restarted.sent_twice) == ("201", 0, 0)
    assert (worker.answer, worker.delivered % CHUNK_SIZE, worker.sent_twice) == ("201", 0, 0)
    assert worker.lost_some
    assert (batch.lost, batch.sent_twice) == (0, CHUNK_SIZE)  # the second of three fails: the first is sent again
    assert redis.lost_all


@pytest.mark.usefixtures("stack")
def test_todays_step_loses_nothing_whatever_dies():
    for crashed in crash_course("today", 1_100, faults=[API, RESTARTED, KILLED, "PostgreSQL restarts in mid fan-out"]):
        assert (crashed.posts_committed, crashed.lost, crashed.beyond_the_chunk_in_flight) == (1, 0, 0), crashed


@pytest.mark.usefixtures("stack")
def test_kills_at_random_moments_lose_nothing_and_the_books_explain_every_phone_called_twice():
    kills = random_kills("nothing lost", kills=4, followers=6_000, fcm_latency_ms=900)
    assert repr(kills.verdict()).splitlines()[1:] == [
        "kills: 4",
        "notifications lost: 0",
        f"at most {CHUNK_SIZE} phones in flight at a kill: yes",
        "sent twice beyond the chunk in flight: 0",
    ]
    assert sum(kills.called_again) == kills.sent_twice
    assert [each.api for each in kills.kills] == [False, False, False, True]

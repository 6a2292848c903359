"""The published code's own defects: each fails on the running system, and is put right on it."""

from types import SimpleNamespace

import pytest

from labs.fanout import defects_trial
from labs.fanout.defects import defect_list
from labs.fanout.defects_answers import ignored_status, literal_dollar, retired_endpoint, unread_results
from labs.fanout.defects_counts import BatchCount, Batches, batch_count, phones_of_followers
from labs.fanout.defects_lock import Crowd, LockPerAuthor, lock_per_author
from labs.fanout.defects_trial import COMPLAINT, COUNTED, GIVEN_UP, Trial
from labs.stack import StackError

on_the_stack = pytest.mark.usefixtures("stack")
live = pytest.mark.live
slow = pytest.mark.slow


@on_the_stack
@slow
def test_a_dollar_before_the_token_reaches_nobody_and_only_the_outbox_keeps_the_post_until_it_is_gone():
    found = literal_dollar(followers=20)
    assert found.right.reached == 20
    as_it_failed = found.as_it_failed
    assert (as_it_failed.told_ok, as_it_failed.reached, as_it_failed.complaints) == (True, 0, 0)
    assert as_it_failed.refused == {"UNAUTHENTICATED": 20}
    assert (found.published.reached, found.published.requests, found.published.waiting) == (0, 4, 0)
    assert found.published.complaints > 0
    assert (found.waiting.reached, found.waiting.waiting) == (0, 20)
    assert (found.sent.reached, found.sent.twice, found.sent.waiting) == (20, 0, 0)


@on_the_stack
@slow
def test_a_push_service_that_refuses_everything_is_noticed_by_the_outbox_alone():
    found = ignored_status(followers=20)
    assert (found.as_it_failed.told_ok, found.as_it_failed.reached, found.as_it_failed.complaints) == (True, 0, 0)
    assert found.as_it_failed.refused == found.published.refused == {"UNAVAILABLE": 20}
    assert (found.published.reached, found.published.counted) == (0, 20)
    assert (found.waiting.reached, found.waiting.waiting) == (0, 20)
    assert (found.sent.reached, found.sent.twice) == (20, 0)


@on_the_stack
@slow
def test_phones_that_are_gone_are_called_again_until_somebody_reads_the_results():
    found = unread_results(followers=60, dead=0.2)
    gone = found.published.gone
    assert 0 < gone < 60
    assert (found.published.counted, found.published.forgotten, found.published.gone_again) == (60, 0, gone)
    assert (found.today.gone, found.today.forgotten, found.today.gone_again) == (gone, gone, 0)
    assert found.today.first.reached == found.today.second.reached == 60 - gone


@on_the_stack
@slow
def test_without_its_batch_endpoint_the_published_fix_gives_up_and_what_waited_goes_out_one_by_one():
    found = retired_endpoint(followers=20)
    assert (found.published.reached, found.published.requests, found.published.waiting) == (0, 4, 0)
    assert (found.waiting.reached, found.waiting.waiting) == (0, 20)
    assert (found.sent.reached, found.sent.twice) == (20, 0)
    assert not [what for what, *_ in found.table() if what.startswith("refused")]  # a page of HTML is no refusal


@on_the_stack
@live
def test_the_fix_calls_every_phone_of_a_follower_and_today_it_is_a_setting():
    found = phones_of_followers(followers=20, second_devices=0.3)
    assert list(found.sent.values()) == [20, 26, 20, 26]


@on_the_stack
@slow
def test_the_worker_logs_a_batch_too_many_only_at_an_exact_multiple_of_500():
    found = batch_count(followers=(1_001, 1_000))
    assert [(post.logged, post.received, post.rounded_up, post.chunks) for post in found.posts] == [
        (3, 3, 3, 3),
        (3, 2, 2, 2),
    ]
    assert found.wrong == found.posts[1:]


@on_the_stack
@slow
def test_the_lock_lets_three_large_authors_through_and_an_everyday_author_waits_for_them_unless_chunks_are_shared():
    found = lock_per_author()
    assert repr(found.verdict()).splitlines()[1:] == [
        "published fix: large fan-outs let through: 3",
        "published fix: the everyday author's followers are reached while all large fan-outs run: no",
        "published fix: at least two of the three are over first: yes",
        "nothing lost: large fan-outs let through: 3",
        "nothing lost: chunks under way at once, at most: 8",
        "nothing lost: the everyday author's followers are reached while all large fan-outs run: yes",
    ]


def test_each_defect_is_a_line_of_the_list_with_its_finding_before_and_after():
    right, wrong = Batches(1_001, 3, 3, 3), Batches(1_000, 3, 2, 2)
    lock = LockPerAuthor(Crowd(3, 2, 25.0), Crowd(3, 0, 6.0, 8))
    table = defect_list(BatchCount((right, wrong)), lock)
    assert table.column("as published") == [
        "the log says 3 for 2 at 1,000 followers",
        "3 large fan-outs at once; the everyday author's followers waited for 2 of them",
    ]
    assert BatchCount((right,)).before == "the log is right"
    assert (lock.waited, lock.waited_less) == ("25 s", "6.0 s")


def test_the_logs_are_read_as_celery_and_the_worker_write_them():
    error = (
        "[2026-11-24 17:15:51,374: ERROR/ForkPoolWorker-2] Task social.notify_followers[7839a2c0-07bc] raised "
        "unexpected: HTTPError('401 Client Error: Unauthorized for url: http://127.0.0.1/batch')"
    )
    info = "[2026-11-24 17:15:51,358: INFO/ForkPoolWorker-2] post 10004: 12124 notifications in 25 batches"
    assert COUNTED.search(info).groups() == ("10004", "12124", "25")
    assert GIVEN_UP.search(error)
    assert COMPLAINT.findall(f"{info}\n{error}") == ["ERROR"]


def test_what_never_comes_is_named_together_with_the_place_of_the_logs(monkeypatch, tmp_path):
    monkeypatch.setattr(defects_trial, "PATIENCE", 0)
    on_trial = Trial(SimpleNamespace(check=lambda: None, run_dir=tmp_path), None)
    with pytest.raises(StackError, match=rf"the worker's last attempt; see {tmp_path}/logs"):
        on_trial.wait_until_given_up()

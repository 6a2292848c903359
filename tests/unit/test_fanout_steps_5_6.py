"""The two steps beyond the published fix: nothing is lost or sent twice, and each message is a request of its own."""

import asyncio
import base64
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from celery import _state
from sqlalchemy import NullPool, create_engine, text

import labs
from labs.fanout import dataset
from tests.unit import test_fanout_app as app_tests

pytestmark = pytest.mark.live

broker, push_server, two_phones = app_tests.broker, app_tests.push_server, app_tests.two_phones
load_step, wait_until = app_tests.load, app_tests.wait_until

BATCHES, V1 = STEPS = ["step5_nothing_lost", "step6_todays_fcm"]
FOLLOWERS = app_tests.FOLLOWERS
# Three chunks a fan-out, no limit but their number in flight, and nobody waits for a back-off to pass.
CHUNKS = {
    "CHUNK_SIZE": 5,
    "FCM_QUOTA_PER_MINUTE": 10**9,
    "FCM_RAMP_UP": 0,
    "PUSH_BACKOFF": 3600,
    "PUSH_BACKOFF_MAX": 3600,
}
UNDER_WAY = "SELECT count(*) FROM deliveries WHERE state IN ('issued', 'sending')"
OPEN = "SELECT count(*) FROM deliveries WHERE state <> 'finished'"


@pytest.fixture
def load(load_step, monkeypatch):
    """Load a step as a process of its own would: Celery offers the tasks of modules loaded before to every new app."""

    def load(step: str, **settings: object) -> app_tests.Program:
        builtin = {offer for offer in _state._on_app_finalizers if offer.__module__ == "celery.app.builtins"}
        monkeypatch.setattr(_state, "_on_app_finalizers", builtin)
        program = load_step(step, **settings)
        couriers.append(sys.modules.get("labs.fanout.social.courier"))
        return program

    couriers = []
    yield load
    for courier in filter(None, couriers):
        courier.close_courier()


@pytest.fixture
def ask(stack):
    """Return a function that runs one SQL statement; it returns the first column of the rows, if any."""
    engine = create_engine(stack.postgres.url, poolclass=NullPool)

    def ask(statement: str) -> list:
        with engine.begin() as connection:
            answer = connection.execute(text(statement))
            return list(answer.scalars()) if answer.returns_rows else []

    return ask


def next_task(broker) -> tuple[str, list] | None:
    """Take the oldest task out of the queue: its name and its arguments."""
    message = broker.rpop("fanout")
    if message is None:
        return None
    envelope = json.loads(message)
    arguments, *_ = json.loads(base64.b64decode(envelope["body"]))
    return envelope["headers"]["task"], arguments


def work_off(program, broker, after_each=lambda: None) -> list[list]:
    """Run what is in the queue, and what that brings along; return the tasks' arguments in the order they ran."""
    done = []
    while task := next_task(broker):
        name, arguments = task
        program.module.celery_app.tasks[name](*arguments)
        done.append(arguments)
        after_each()
    return done


def send_all(program, broker, ask, rounds: int = 100) -> None:
    """Relay and work off until nothing is left to send, without waiting for back-offs to pass."""
    for _ in range(rounds):
        ask("UPDATE deliveries SET due_at = now() WHERE state <> 'finished'")
        broker.delete("push:pause")
        program.module.relay()
        work_off(program, broker)
        if ask("SELECT count(*) FROM outbox") == ask(OPEN) == [0]:
            return
    pytest.fail("there is still something to send")


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# -- from the post to the workers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
def test_publishing_is_two_inserts_and_one_commit_and_calls_neither_broker_nor_push_service(
    load, push_server, broker, ask, step
):
    program = load(step)
    answer = program.post()
    assert (answer.status_code, answer.json) == (201, {"status": "ok", "id": 10_001})
    assert [statement.split()[:3] for statement in program.statements] == [
        ["INSERT", "INTO", "posts"],
        ["INSERT", "INTO", "outbox"],
    ]
    assert (broker.keys(), push_server.counters()["requests"]) == ([], 0)
    assert ask("SELECT post_id FROM outbox") == [10_001]


@pytest.mark.parametrize("step", STEPS)
def test_a_post_made_while_the_broker_is_away_is_sent_when_it_is_back(load, push_server, broker, ask, step):
    assert load(step, CELERY_BROKER_URL=f"redis://127.0.0.1:{closed_port()}/0").post().status_code == 201
    send_all(load(step), broker, ask)
    counters = push_server.counters()
    assert (counters["devices"], counters["duplicates"]) == (FOLLOWERS, 0)


@pytest.mark.parametrize("step", STEPS)
def test_everybody_is_called_once_in_as_many_chunks_as_it_takes(load, push_server, broker, ask, step):
    program = load(step, **CHUNKS)
    program.post()
    program.module.relay()
    assert len(work_off(program, broker)) == 3
    counters = push_server.counters()
    assert (counters["accepted"], counters["devices"], counters["rejected"]) == (FOLLOWERS, FOLLOWERS, 0)
    assert counters["requests"] == (3 if step == BATCHES else FOLLOWERS)
    assert ask(OPEN) == [0]
    assert program.engine.pool.checkedout() == 0


def test_at_an_exact_multiple_there_is_no_empty_chunk(load, broker, ask):
    program = load(**CHUNKS | {"CHUNK_SIZE": 6}, step=BATCHES)
    program.post()
    program.module.relay()
    assert ask("SELECT cardinality(device_ids) FROM deliveries ORDER BY position") == [6, 6]


def test_a_relay_that_dies_while_it_begins_a_fan_out_leaves_the_post_in_the_outbox(load, broker, ask):
    program = load(BATCHES)
    program.post()

    def die(author_id: int):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        program.module.outbox.begin_fanouts(die)
    program.db.session.remove()
    assert ask("SELECT post_id FROM outbox") == [10_001]
    assert ask("SELECT id FROM fanouts") == []


def test_chunks_whose_tasks_never_reached_the_broker_are_issued_again_when_overdue(
    load, push_server, broker, ask, monkeypatch
):
    program = load(BATCHES, **CHUNKS)
    program.post()

    def refuse(*arguments):
        raise ConnectionError

    with monkeypatch.context() as without_broker:
        without_broker.setattr(program.module.send_chunk, "delay", refuse)
        with pytest.raises(ConnectionError):
            program.module.relay()
    program.module.relay()
    assert broker.llen("fanout") == 0  # not overdue yet
    send_all(program, broker, ask)
    counters = push_server.counters()
    assert (counters["devices"], counters["duplicates"]) == (FOLLOWERS, 0)


@pytest.mark.parametrize("step", STEPS)
def test_two_relays_at_once_issue_every_chunk_once(load, push_server, broker, ask, step):
    program = load(step, **CHUNKS)
    for username in [dataset.INFLUENCER, "author-0500", "author-0600"]:
        program.post(username=username)
    start = threading.Barrier(2)
    failed = []

    def relay() -> None:
        try:
            start.wait()
            program.module.relay()
        except BaseException as error:
            failed.append(error)
        finally:
            program.db.session.remove()

    relays = [threading.Thread(target=relay) for _ in range(2)]
    for thread in relays:
        thread.start()
    for thread in relays:
        thread.join()
    assert failed == []
    assert len(ask("SELECT id FROM fanouts")) == 3
    assert broker.llen("fanout") == ask(UNDER_WAY)[0] <= 8
    done = work_off(program, broker)
    send_all(program, broker, ask)
    assert len({delivery for delivery, _ in done}) == len(done)
    counters = push_server.counters()
    assert counters["accepted"] == ask("SELECT count(*) FROM follows WHERE followee_id IN (1, 500, 600)")[0]


# -- several authors with very many followers -------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
def test_three_authors_at_once_have_no_more_chunks_in_flight_than_one(load, push_server, broker, ask, step):
    program = load(step, **CHUNKS, CHUNKS_IN_FLIGHT=4)
    for username in [dataset.INFLUENCER, "author-0500", "author-0600"]:
        program.post(username=username)
    program.module.relay()
    program.module.relay()
    assert broker.llen("fanout") == 4
    assert ask("SELECT position FROM deliveries WHERE state = 'issued' ORDER BY id") == [0, 1, 0, 0]  # nobody waits
    under_way = []
    work_off(program, broker, after_each=lambda: under_way.append(ask(UNDER_WAY)[0]))
    assert max(under_way) <= 4
    assert ask(OPEN) == [0]
    followers = ask("SELECT count(*) FROM follows WHERE followee_id IN (1, 500, 600)")
    assert [push_server.counters()["accepted"]] == followers


def test_what_an_author_with_very_many_followers_posts_within_a_minute_goes_out_as_one_notification(
    load, push_server, broker, ask
):
    program = load(BATCHES, THROTTLE_FOLLOWERS=FOLLOWERS - 1)
    program.post("First.")
    program.module.relay()
    program.post("Second.")
    program.post("Third.")
    program.module.relay()
    assert ask("SELECT post_id FROM outbox ORDER BY 1") == [10_002, 10_003]
    ask("UPDATE fanouts SET started_at = started_at - interval '1 minute'")
    send_all(program, broker, ask)
    assert ask("SELECT title || ': ' || body FROM fanouts ORDER BY id") == ["New post: First.", "2 new posts: Third."]
    assert push_server.counters()["accepted"] == 2 * FOLLOWERS


def test_an_author_with_few_followers_need_not_wait_and_each_post_is_a_notification(load, broker, ask):
    program = load(BATCHES, THROTTLE_FOLLOWERS=FOLLOWERS)
    for content in ["First.", "Second."]:
        program.post(content)
    program.module.relay()
    program.post("Third.")
    program.module.relay()
    assert ask("SELECT body FROM fanouts WHERE title = 'New post' ORDER BY id") == ["First.", "Second.", "Third."]


# -- what became of each message --------------------------------------------------------------------------------------


def test_a_failed_batch_is_tried_again_after_a_while_and_no_other_is_sent_twice(load, push_server, broker, ask):
    program = load(BATCHES, **CHUNKS)
    push_server.set(fail_batches=[2])
    program.post()
    program.module.relay()
    work_off(program, broker)
    assert push_server.counters()["accepted"] == FOLLOWERS - 5
    assert ask("SELECT due_at > now() + interval '20 minutes' FROM deliveries WHERE state = 'waiting'") == [True]
    send_all(program, broker, ask)
    counters = push_server.counters()
    assert (counters["devices"], counters["duplicates"]) == (FOLLOWERS, 0)


@pytest.mark.parametrize("step", STEPS)
def test_messages_refused_for_now_are_sent_later_and_none_of_them_twice(load, push_server, broker, ask, step):
    program = load(step, **CHUNKS, CHUNKS_IN_FLIGHT=2)
    push_server.set(error_rates={"UNAVAILABLE": 0.3, "INTERNAL": 0.1, "QUOTA_EXCEEDED": 0.1, "RESOURCE_EXHAUSTED": 0.1})
    program.post()
    send_all(program, broker, ask)
    counters = push_server.counters()
    assert (counters["devices"], counters["duplicates"]) == (FOLLOWERS, 0)
    assert counters["rejected_by"].keys() & {"UNAVAILABLE", "RESOURCE_EXHAUSTED"}


@pytest.mark.parametrize("step", STEPS)
def test_tokens_of_removed_apps_are_forgotten_and_not_called_again(load, stack, push_server, broker, ask, step):
    program = load(step, **CHUNKS)
    dead = ask("SELECT token FROM devices JOIN follows ON follower_id = user_id WHERE followee_id = 1 LIMIT 4")
    push_server.set(dead_tokens=dead)
    for _ in range(2):
        program.post()
        send_all(program, broker, ask)
    counters = push_server.counters()
    assert counters["rejected_by"] == {"UNREGISTERED": 4}
    assert counters["accepted"] == 2 * (FOLLOWERS - 4)
    assert len(ask("SELECT id FROM devices WHERE token IS NULL")) == 4
    dataset.restore(stack)
    assert ask("SELECT id FROM devices WHERE token IS NULL") == []
    listed = ", ".join(f"'{token}'" for token in dead)
    assert len(ask(f"SELECT id FROM devices WHERE token IN ({listed})")) == 4


@pytest.mark.parametrize("step", STEPS)
def test_a_message_that_is_refused_for_good_is_logged_and_not_tried_again(load, push_server, broker, ask, caplog, step):
    program = load(step, **CHUNKS)
    push_server.set(error_rates={"SENDER_ID_MISMATCH": 1})
    program.post()
    program.module.relay()
    work_off(program, broker)
    assert ask(OPEN) == [0]
    assert push_server.counters()["rejected"] == FOLLOWERS
    assert caplog.text.count("SENDER_ID_MISMATCH, not tried again") == FOLLOWERS


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("refusal", [{"auth": "another-token"}, {"error_rates": {"THIRD_PARTY_AUTH_ERROR": 1}}])
def test_with_wrong_credentials_everything_waits_until_they_are_right(load, push_server, broker, ask, step, refusal):
    program = load(step, **CHUNKS)
    push_server.set(**refusal)
    program.post()
    program.module.relay()
    work_off(program, broker)
    assert ask("SELECT state FROM deliveries") == ["waiting"] * 3
    push_server.set(auth="bearer", error_rates={})
    send_all(program, broker, ask)
    assert push_server.counters()["devices"] == FOLLOWERS


def test_what_the_retired_batch_endpoint_refused_goes_out_with_the_next_release(load, push_server, broker, ask):
    old = load(BATCHES, **CHUNKS)
    push_server.set(retired=True)
    old.post()
    old.module.relay()
    work_off(old, broker)
    assert push_server.counters()["accepted"] == 0
    send_all(load(V1, **CHUNKS), broker, ask)
    counters = push_server.counters()
    assert (counters["devices"], counters["duplicates"]) == (FOLLOWERS, 0)


@pytest.mark.parametrize("step", STEPS)
def test_news_that_are_too_old_are_given_up_and_the_log_says_so(load, push_server, broker, ask, caplog, step):
    program = load(step, **CHUNKS)
    push_server.set(error_rates={"UNAVAILABLE": 1})
    program.post()
    program.module.relay()
    ask("UPDATE fanouts SET started_at = started_at - interval '25 hours'")
    with caplog.at_level(logging.ERROR):
        work_off(program, broker)
    assert ask(OPEN) == [0]
    assert caplog.text.count("given up on 5 phones: UNAVAILABLE") == 2


@pytest.mark.parametrize("step", STEPS)
def test_a_push_service_that_does_not_answer_is_asked_again(load, push_server, broker, ask, step):
    away = load(step, **CHUNKS, FCM_URL=f"http://127.0.0.1:{closed_port()}")
    away.post()
    away.module.relay()
    work_off(away, broker)
    assert ask("SELECT state FROM deliveries") == ["waiting"] * 3
    send_all(load(step, **CHUNKS), broker, ask)
    assert push_server.counters()["devices"] == FOLLOWERS


def test_each_further_attempt_waits_twice_as_long_give_or_take_up_to_a_limit(load):
    backoff = load(BATCHES, PUSH_BACKOFF=10, PUSH_BACKOFF_MAX=600).module.outbox.backoff
    for attempts, longest in [(0, 10), (1, 20), (5, 320), (6, 600), (1_000, 600)]:
        waits = {backoff(attempts) for _ in range(50)}
        assert longest / 2 <= min(waits) < max(waits) <= longest


# -- tasks that come twice, workers that die --------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
def test_a_task_that_the_broker_delivers_twice_or_too_late_sends_nothing(load, push_server, broker, ask, step):
    program = load(step, **CHUNKS)
    program.post()
    program.module.relay()
    tasks = [next_task(broker)[1] for _ in range(3)]
    ask(f"UPDATE deliveries SET due_at = now() WHERE id = {tasks[0][0]}")
    program.module.relay()  # issues the first again, as it is overdue
    for arguments in [*tasks, *tasks]:
        program.module.send_chunk(*arguments)
    assert push_server.counters()["accepted"] == FOLLOWERS - 5
    work_off(program, broker)
    counters = push_server.counters()
    assert (counters["devices"], counters["duplicates"]) == (FOLLOWERS, 0)


@pytest.mark.parametrize("step", STEPS)
def test_no_connection_is_held_while_the_push_service_is_called(load, broker, monkeypatch, step):
    program = load(step, **CHUNKS)
    held = []
    module = program.module

    def send(chunk):
        held.append(program.engine.pool.checkedout())
        return [sys.modules["labs.fanout.social.results"].Result("OK")] * len(chunk.phones)

    monkeypatch.setattr(module, "send", send)
    program.post()
    module.relay()
    work_off(program, broker)
    assert held == [0] * 3


@pytest.mark.parametrize("step", STEPS)
def test_what_was_sent_is_not_forgotten_when_the_database_restarts_meanwhile(
    load, push_server, broker, ask, monkeypatch, step
):
    program = load(step, **CHUNKS)
    send = program.module.send

    def send_while_the_database_restarts(chunk):
        results = send(chunk)
        ask("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'social-api'")
        return results

    monkeypatch.setattr(program.module, "send", send_while_the_database_restarts)
    program.post()
    program.module.relay()
    work_off(program, broker)
    assert ask(OPEN) == [0]
    counters = push_server.counters()
    assert (counters["devices"], counters["duplicates"]) == (FOLLOWERS, 0)


@pytest.fixture
def worker(tmp_path):
    """Return a function that runs a step's Celery worker and beat as a process group."""
    processes: list[subprocess.Popen] = []

    def worker(step: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "celery", "-A", f"labs.fanout.{step}:celery_app", "worker"]
        command += ["--concurrency", "1", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        command += ["--beat", "--schedule", str(tmp_path / f"beat-{len(processes)}")]
        with (tmp_path / "worker.log").open("ab") as log:
            started = subprocess.Popen(command, stdout=log, stderr=log, cwd=labs.PROJECT, start_new_session=True)
        processes.append(started)
        return started

    yield worker
    for process in processes:
        kill(process)


def kill(process: subprocess.Popen) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("step", STEPS)
def test_the_chunk_of_a_killed_worker_comes_back_by_itself_and_at_most_it_is_sent_twice(
    load, worker, push_server, broker, ask, step
):
    program = load(step, **CHUNKS, CHUNK_TIMEOUT=4, VISIBILITY_TIMEOUT=8, RELAY_INTERVAL=0.2)
    push_server.set(latency_ms=600_000)  # accepted at once, answered never
    program.post()
    killed = worker(step)
    wait_until(lambda: push_server.counters()["accepted"] > 0)
    kill(killed)
    push_server.set(latency_ms=0)
    worker(step)
    wait_until(lambda: ask(OPEN) == [0])
    counters = push_server.counters()
    assert counters["devices"] == FOLLOWERS
    assert 1 <= counters["duplicates"] <= 5


@pytest.mark.parametrize("step", STEPS)
def test_a_task_leaves_the_queue_only_when_done_and_the_time_outs_fit_together(load, step):
    settings = load(step).module.config
    assert settings.VISIBILITY_TIMEOUT > settings.CHUNK_TIMEOUT > settings.FCM_TIMEOUT
    module = load(step, CHUNK_TIMEOUT=7, VISIBILITY_TIMEOUT=21).module
    conf = module.celery_app.conf
    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1
    assert conf.broker_transport_options == {"visibility_timeout": 21}
    assert module.send_chunk.time_limit == 7


@pytest.mark.parametrize("step", STEPS)
def test_the_relay_runs_every_second_unless_set_otherwise(load, step):
    entry = load(step).module.celery_app.conf.beat_schedule["relay"]
    assert entry == {"task": "social.relay", "schedule": 1.0, "options": {"expires": 1.0}}
    assert load(step, RELAY_INTERVAL=0.1).module.celery_app.conf.beat_schedule["relay"]["schedule"] == 0.1


# -- phones -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("every", "each"), [("no", 1), ("yes", 2)])
def test_a_follower_with_two_phones_is_called_on_the_newest_or_on_both_as_the_setting_says(
    load, push_server, broker, ask, two_phones, step, every, each
):
    program = load(step, NOTIFY_EVERY_PHONE=every, FCM_RAMP_UP=0)
    program.post()
    send_all(program, broker, ask)
    called = {entry["token"] for entry in push_server.tokens()}
    assert len(called) == each * FOLLOWERS
    assert len([token for token in called if token.startswith("second-")]) == FOLLOWERS


# -- one request for each message -------------------------------------------------------------------------------------


def test_a_worker_has_as_many_requests_in_flight_as_set_and_no_more(load, broker, monkeypatch):
    program = load(V1, FCM_CONCURRENCY=4)
    courier = sys.modules["labs.fanout.social.courier"]
    in_flight, seen = [], []

    async def send(self, message):
        in_flight.append(message)
        seen.append(len(in_flight))
        await asyncio.sleep(0)
        in_flight.pop()
        return courier.Result("OK")

    monkeypatch.setattr(courier.Courier, "_send", send)
    program.post()
    program.module.relay()
    work_off(program, broker)
    assert (len(seen), max(seen)) == (FOLLOWERS, 4)


def test_when_the_quota_is_spent_no_further_message_is_begun_and_everybody_waits_as_told(
    load, push_server, broker, ask, monkeypatch
):
    program = load(V1, **CHUNKS | {"PUSH_BACKOFF": 0}, FCM_CONCURRENCY=1)
    results = sys.modules["labs.fanout.social.results"]
    monkeypatch.setattr(results, "of_message", lambda *answer: results.Result("RESOURCE_EXHAUSTED", 1800))
    program.post()
    program.module.relay()
    program.module.send_chunk(*next_task(broker)[1])
    assert push_server.counters()["requests"] == 1
    assert ask("SELECT due_at > now() + interval '20 minutes' FROM deliveries WHERE attempts = 1") == [True]
    assert 1_200_000 < broker.pttl("push:pause") <= 1_800_000
    assert not program.module.quota.may_send(1)


def test_an_answer_is_read_as_fcm_means_it(load):
    load(BATCHES, FCM_QUOTA_WAIT=60)
    results = sys.modules["labs.fanout.social.results"]

    def error(status: str, *codes: str) -> bytes:
        return json.dumps({"error": {"status": status, "details": [{"errorCode": code} for code in codes]}}).encode()

    read = results.of_message
    assert read(200, b'{"name": "x"}') == ("OK", 0)
    assert read(404, error("NOT_FOUND", "UNREGISTERED")).gone
    assert read(400, error("INVALID_ARGUMENT", "INVALID_ARGUMENT")).refused
    assert read(429, error("RESOURCE_EXHAUSTED"), "7") == ("RESOURCE_EXHAUSTED", 7)
    assert read(429, error("RESOURCE_EXHAUSTED")) == ("RESOURCE_EXHAUSTED", 60)
    assert read(503, error("UNAVAILABLE", "UNAVAILABLE"), "9") == ("UNAVAILABLE", 9)
    page = read(404, b"<!DOCTYPE html>")  # the address is wrong, not the token
    assert page.code == "HTTP_404"
    assert page.retriable


def test_a_chunk_that_takes_too_long_is_put_down_before_it_is_issued_to_another(load, push_server, broker, ask):
    program = load(V1, **CHUNKS, FCM_CONCURRENCY=1, CHUNK_TIMEOUT=0.001)
    program.post()
    program.module.relay()
    (issued,) = ask("SELECT min(id) FROM deliveries WHERE state = 'issued'")
    program.module.outbox.issue_chunks = lambda *arguments: None
    program.module.send_chunk(issued, 1)
    assert push_server.counters()["accepted"] == 1
    assert ask(f"SELECT cardinality(device_ids) FROM deliveries WHERE id = {issued}") == [4]


def test_one_chunk_may_go_at_once_and_the_next_when_the_quota_has_room_for_it(load, broker):
    slow = load(V1, **CHUNKS | {"FCM_QUOTA_PER_MINUTE": 6}).module.quota
    assert slow.may_send(5)
    assert not slow.may_send(5)  # in fifty seconds
    broker.delete(slow.BUCKET)
    fast = load(V1, **CHUNKS | {"FCM_QUOTA_PER_MINUTE": 6_000}).module.quota
    assert fast.may_send(5)
    wait_until(lambda: fast.may_send(5))


def test_from_rest_the_rate_rises_slowly_to_the_full_quota(load, broker):
    quota = load(V1, **CHUNKS | {"FCM_RAMP_UP": 36_000, "FCM_QUOTA_PER_MINUTE": 60_000}).module.quota
    assert quota.may_send(5)
    assert not quota.may_send(5)  # the full rate would have it after five milliseconds, the ramp after 19 seconds


def test_after_a_pause_the_ramp_begins_anew(load, broker):
    quota = load(V1, **CHUNKS).module.quota
    assert quota.may_send(5)
    quota.pause(3600)
    assert not quota.may_send(1)
    assert not broker.exists(quota.BUCKET)

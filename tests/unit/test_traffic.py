"""Traffic: due when due, abandoned when nobody answers, tried again as the users are told to."""

import asyncio
import time
from itertools import pairwise

import pytest

from labs.kit import control
from labs.kit.arrivals import Alarm, Arrivals
from labs.kit.fleet import free_port
from labs.kit.traffic import Traffic
from tests.running import eventually, get, running


@pytest.fixture
def run(tmp_path):
    with running(tmp_path) as run:
        yield run


class Users:
    """Traffic against a run, changed by keyword."""

    def __init__(self, run, *targets, **plan):
        self.run, self.path = run, run.folder / "traffic.json"
        self.plan = {"targets": list(targets), "seed": 1, "streams": {}, "shots": [], **plan}
        control.write(self.path, self.plan)
        run.fleet.start("traffic", "labs.kit.traffic", [self.path])

    def change(self, **plan):
        self.plan |= plan
        control.write(self.path, self.plan)

    def requests(self, **where):
        return self.run.events("request", **where)

    def stop(self):
        self.run.fleet.stop("traffic", grace=60)


def stream(rate, path="/health", timeout=30, **more):
    return {"rate": rate, "timeout": timeout, "requests": [{"paths": [path]}], **more}


def shot(number, path, timeout=30, **more):
    return {"id": number, "who": "author", "path": path, "timeout": timeout, **more}


# Arrivals


def test_arrivals_come_at_the_asked_rate():
    arrivals = Arrivals("seed", now=100.0)
    arrivals.change(50.0, 100.0)
    times = arrivals.take(300.0)
    assert len(times) == pytest.approx(10_000, rel=0.05)
    assert times == sorted(times)
    assert times[0] > 100.0


def test_the_same_seed_gives_the_same_arrivals_however_often_one_looks():
    often, once = Arrivals("seed", 0.0), Arrivals("seed", 0.0)
    for arrivals in (often, once):
        arrivals.change(20.0, 0.0)
    seen = [at for step in range(1, 1001) for at in often.take(step / 100)]
    assert seen == once.take(10.0)
    assert seen != Arrivals("other", 0.0, 20.0).take(10.0)


def test_a_change_of_rate_keeps_the_arrival_that_is_under_way():
    arrivals = Arrivals("seed", 0.0, rate=1.0)
    first = arrivals.next
    arrivals.change(2.0, first / 2)
    assert arrivals.next == pytest.approx(first * 0.75)


def test_rate_zero_pauses_and_the_pause_does_not_count():
    arrivals = Arrivals("seed", 0.0, rate=1.0)
    first = arrivals.next
    arrivals.change(0.0, first / 2)
    assert arrivals.take(1e6) == []
    arrivals.change(1.0, 1000.0)
    assert arrivals.next == pytest.approx(1000.0 + first / 2)


def test_the_alarm_rings_after_its_time_and_can_be_woken():
    async def naps():
        alarm, started = Alarm(), time.perf_counter()
        await alarm.sleep(0.02)
        slept = time.perf_counter() - started
        asyncio.get_running_loop().call_later(0.01, alarm.wake)
        await asyncio.wait_for(alarm.sleep(3600), 60)
        alarm.close()
        return slept

    assert asyncio.run(naps()) >= 0.02


# Streams


def test_every_request_that_is_due_is_sent_and_told(run):
    users = Users(run, run.tiny(), streams={"reader": stream(100)})
    eventually(lambda: len(users.requests(outcome="ok")) > 50)
    users.stop()
    for request in users.requests(outcome="ok"):
        assert request["due"] <= request["sent"] <= request["done"]
        assert (request["status"], request["attempt"], request["who"]) == (200, 1, "reader")
        assert request["endpoint"] == "GET /health"


def test_requests_are_sent_when_due_although_none_is_answered(run):
    users = Users(run, run.tiny(threads=1), streams={"reader": stream(100, "/never")})
    eventually(lambda: run.recorder.live()["buckets"] and sum(b["due"] for b in run.recorder.live()["buckets"]) > 100)
    users.stop()
    eventually(lambda: len(users.requests(outcome="pending")) > 100)
    assert {request["done"] for request in users.requests()} == {None}


def test_latency_counts_from_the_due_time(run):
    users = Users(run, run.tiny(), shots=[shot("late", "/health", at=time.time() - 5)])
    (request,) = eventually(users.requests)
    assert request["done"] - request["due"] >= 5


def test_who_waits_too_long_gives_up_and_the_server_is_not_told(run):
    address = run.tiny(DB_POOL_SIZE=1)
    users = Users(run, address, shots=[shot("impatient", "/hold", timeout=2)])
    (request,) = eventually(users.requests)
    assert (request["outcome"], request["status"]) == ("no_answer", None)
    assert request["done"] - request["sent"] >= 2
    eventually(lambda: [slot for pod in run.recorder.live()["pods"] for slot in pod["slots"] if slot])
    get(f"{address}/release")


@pytest.mark.parametrize(("path", "outcome"), [("/status/503", "unavailable"), ("/status/404", "error")])
def test_what_the_server_answers_is_told(run, path, outcome):
    users = Users(run, run.tiny(), shots=[shot("one", path)])
    (request,) = eventually(users.requests)
    assert (request["outcome"], request["status"]) == (outcome, int(path[-3:]))


def test_a_pod_that_is_not_there_refuses(run):
    users = Users(run, f"http://127.0.0.1:{free_port()}", shots=[shot("one", "/")])
    (request,) = eventually(users.requests)
    assert (request["outcome"], request["status"]) == ("refused", None)


def test_users_of_a_system_without_pods_are_refused_and_come_back_when_there_is_one(run):
    users = Users(run, shots=[shot("patient", "/health", retries=-1)])
    eventually(lambda: len(users.requests(outcome="refused")) >= 2)
    users.change(targets=[run.tiny()])
    eventually(lambda: users.requests(outcome="ok"))


def test_a_pod_killed_in_mid_request_counts_as_refused(run):
    users = Users(run, run.tiny(), shots=[shot("one", "/hold")])
    eventually(lambda: [slot for pod in run.recorder.live()["pods"] for slot in pod["slots"] if slot])
    run.fleet.kill("api")
    (request,) = eventually(users.requests)
    assert request["outcome"] == "refused"


def test_requests_go_round_the_targets_by_name(run):
    targets = [run.tiny("a"), run.tiny("b")]
    users = Users(run, *targets, names=["a", "b"], streams={"reader": stream(100)})
    eventually(lambda: len(users.requests(outcome="ok")) >= 20)
    users.stop()
    pods = [request["pod"] for request in users.requests()]
    assert abs(pods.count("a") - pods.count("b")) <= 1


def test_a_changed_rate_is_followed_and_zero_stops_the_stream(run):
    users = Users(run, run.tiny(), streams={"reader": stream(0)})
    users.change(shots=[shot("sign of life", "/health")])
    eventually(users.requests)
    assert users.requests(who="reader") == []
    users.change(streams={"reader": stream(200)})
    eventually(lambda: len(users.requests(who="reader")) > 20)
    users.change(streams={"reader": stream(0)}, shots=[shot("change seen", "/health")])
    (seen,) = eventually(lambda: users.requests(who="author")[1:])
    users.stop()
    # Both changes were in one file: no reader was due after the shot was.
    assert max(request["due"] for request in users.requests(who="reader")) <= seen["due"]


def test_a_stream_draws_its_requests_and_headers(run):
    requests = [
        {"paths": ["/status/201", "/status/202"], "endpoint": "GET /created", "weight": 3},
        {"method": "POST", "paths": ["/echo"], "json": {"x": 1}, "endpoint": "POST /echo"},
    ]
    headers = [{"X-User": "1"}, {"X-User": "2"}]
    plan = {"rate": 200, "timeout": 30, "requests": requests, "headers": headers}
    users = Users(run, run.tiny(), streams={"reader": plan})
    eventually(lambda: len(users.requests()) > 100)
    users.stop()
    found = {(request["endpoint"], request["status"]) for request in users.requests(outcome="ok")}
    assert found == {("GET /created", 201), ("GET /created", 202), ("POST /echo", 201)}


# Retries


def test_users_try_again_until_their_retries_are_used(run):
    users = Users(run, run.tiny(), shots=[shot("stubborn", "/status/503", retries=3, backoff=0.05)])
    eventually(lambda: len(users.requests()) == 4)
    # Another shot, fired later, is done: had there been a fifth attempt, it would have been sent before.
    users.change(shots=[*users.plan["shots"], shot("later", "/health", at=time.time() + 0.3)])
    eventually(lambda: users.requests(outcome="ok"))
    tries = users.requests(outcome="unavailable")
    assert [request["attempt"] for request in tries] == [1, 2, 3, 4]
    for before, after in pairwise(tries):
        assert after["due"] == pytest.approx(before["done"] + 0.05, abs=1e-3)


def test_each_timed_out_attempt_starts_another_and_all_of_them_are_served(run):
    address = run.tiny(DB_POOL_SIZE=3, threads=16)
    users = Users(run, address, shots=[shot("impatient", "/hold", timeout=0.2, retries=-1)])
    # One user, three connections: every retry takes another one.
    eventually(lambda: [len([s for s in pod["slots"] if s]) for pod in run.recorder.live()["pods"]] == [3])
    users.change(shots=[shot("impatient", "/hold", timeout=0.2, retries=0)])
    eventually(lambda: not users_in_flight(users))
    get(f"{address}/release")


def users_in_flight(users):
    """Whether another attempt began within the last second."""
    return any(request["sent"] > time.time() - 1.0 for request in users.requests())


def test_an_error_that_a_retry_cannot_mend_is_not_retried(run):
    shots = [shot("one", "/status/404", retries=5), shot("later", "/health", at=time.time() + 1)]
    users = Users(run, run.tiny(), shots=shots)
    eventually(lambda: users.requests(outcome="ok"))
    assert len(users.requests(outcome="error")) == 1


def test_a_shot_is_fired_once_however_often_the_file_is_written(run):
    users = Users(run, run.tiny(), shots=[shot("one", "/health")])
    eventually(users.requests)
    for number in range(3):
        users.change(seed=number, shots=[shot("one", "/health"), shot(f"sign {number}", "/status/404")])
        eventually(lambda number=number: len(users.requests(outcome="error")) == number + 1)
    assert len(users.requests(outcome="ok")) == 1


def test_stopping_tells_what_is_still_in_flight_and_is_prompt(run):
    address = run.tiny()
    users = Users(run, address, shots=[shot("one", "/hold")])
    eventually(lambda: [slot for pod in run.recorder.live()["pods"] for slot in pod["slots"] if slot])
    users.stop()
    assert run.fleet["traffic"].status == 0
    (request,) = eventually(users.requests)
    assert (request["outcome"], request["done"]) == ("pending", None)
    get(f"{address}/release")


# Openers


@pytest.fixture
def opening(tmp_path):
    async def make():
        return Traffic(str(tmp_path / "none.json"), None)

    return asyncio.run(make())


def test_followers_open_the_app_for_an_exact_share_of_the_pushes(opening):
    assert opening._to_open(1000, 0.1) == 0  # what was accepted before does not count
    fired = [opening._to_open(1000 + accepted, 0.1) for accepted in range(1, 101)]
    assert sum(fired) == 10
    assert opening._to_open(1_001_100, 0.1) == 100_000


def test_counters_that_were_reset_start_again_from_zero(opening):
    opening._to_open(500, 1.0)
    assert opening._to_open(30, 1.0) == 30


def test_accepted_pushes_bring_followers_back(run):
    server = run.tiny("push", probe=False)
    users = Users(run, run.tiny("api"))
    users.change(
        openers={"fcm": server, "project": "p", "rate": 0.5, "request": {"paths": ["/health"]}, "timeout": 30},
        shots=[shot("sign of life", "/status/404")],
    )
    eventually(lambda: users.requests(outcome="error"))
    eventually(lambda: get(f"{server}/looked")[1]["looks"] >= 2)
    get(f"{server}/accept/41")
    eventually(lambda: len(users.requests(who="opener", outcome="ok")) == 20)
    get(f"{server}/accept/1")
    eventually(lambda: len(users.requests(who="opener", outcome="ok")) == 21)

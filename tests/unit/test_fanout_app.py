"""The API of incident 1 and each step of its fix, on the real database, broker and push server."""

import importlib
import logging
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import redis
from sqlalchemy import NullPool, create_engine, event

import labs
from labs.fanout import dataset
from labs.fcm import Admin

FANOUT = Path(dataset.__file__).parent
IN_REQUEST = ["step0_as_it_failed", "step1_bulk_tokens", "step2_release_early"]
IN_WORKER = ["step3_hand_off", "step4_published_fix"]
FOLLOWERS = 12


class Program:
    """One step, imported afresh with the given environment, and clients that are signed in to it."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.db = sys.modules["labs.fanout.social.db"]
        self.engine = self.db.engine
        self.statements: list[str] = []
        event.listen(self.engine, "before_cursor_execute", self._note)
        self.client = module.app.test_client()

    def _note(self, connection, cursor, statement, *rest) -> None:
        self.statements.append(statement)

    def login(self, username: str = dataset.INFLUENCER, password: str = dataset.PASSWORD):
        return self.client.post("/api/v1/auth/login", json={"username": username, "password": password})

    def headers(self, username: str = dataset.INFLUENCER) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.login(username).json['access_token']}"}

    def post(self, content: str = "Our new dashboard is live.", username: str = dataset.INFLUENCER):
        headers = self.headers(username)
        self.statements.clear()
        return self.client.post("/api/v1/posts/create", json={"content": content}, headers=headers)


@pytest.fixture
def push_server(stack):
    with Admin(stack.fcm.url, stack.project) as admin:
        admin.reset()
        admin.set(latency_ms=0)
        yield admin
        admin.reset()


@pytest.fixture
def broker(stack):
    with redis.Redis.from_url(stack.redis.url) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def load(stack, monkeypatch, push_server):
    """Return a function that runs a step with settings of its own, as a process of its own would."""
    dataset.prepare(stack, followers=FOLLOWERS)
    dataset.restore(stack)
    loaded: list[Program] = []

    def load(step: str = "step0_as_it_failed", **settings: object) -> Program:
        environment = {
            "DATABASE_URL": stack.postgres.url,
            "CELERY_BROKER_URL": stack.redis.url,
            "FCM_URL": stack.fcm.url,
            "FCM_PROJECT": stack.project,
            "FCM_ACCESS_TOKEN": "ya29.token",
            "JWT_SECRET": "a-secret-of-thirty-two-bytes-or-more",
            "FANOUT_RETRY_DELAY": "0.1",
        }
        for name, value in (environment | settings).items():
            monkeypatch.setenv(name, str(value))
        for name in list(sys.modules):
            if re.match(r"labs\.fanout\.(social|step\d)", name):
                monkeypatch.delitem(sys.modules, name)
        loaded.append(Program(importlib.import_module(f"labs.fanout.{step}")))
        return loaded[-1]

    yield load
    for program in loaded:
        program.db.session.remove()
        program.engine.dispose()
    dataset.restore(stack)


@pytest.fixture
def two_phones(load, stack):
    """Give every follower a second phone."""
    engine = create_engine(stack.postgres.url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO devices (id, user_id, platform, token) "
            "SELECT 20000000 + follower_id, follower_id, 'ios', 'second-' || follower_id "
            "FROM follows WHERE followee_id = 1"
        )
    yield
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM devices WHERE id >= 20000000")


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)


# -- the room ---------------------------------------------------------------------------------------------------------


def test_the_application_has_no_word_of_the_laboratory():
    words = re.compile(r"\b(labs?|speed|knobs?|mock|incident|outage|notebook|learner|workbook)\b", re.IGNORECASE)
    files = [*sorted((FANOUT / "social").glob("*.py")), *sorted(FANOUT.glob("step[0-9]_*.py"))]
    assert len(files) >= 13
    for file in files:
        assert not words.search(file.read_text(encoding="utf-8")), file.name


# -- signing in, feed, comments ---------------------------------------------------------------------------------------


def test_a_wrong_password_an_unknown_user_and_a_missing_field_are_told_apart_by_status(load):
    program = load()
    assert program.login(password="wrong").status_code == 401
    assert program.login(username="nobody").status_code == 401
    assert program.client.post("/api/v1/auth/login", json={"username": "nobody"}).json == {
        "error": "password is required."
    }


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer not-a-token", "Basic dXNlcjpwYXNz"])
def test_a_request_without_a_good_token_is_answered_401(load, header):
    headers = {"Authorization": header} if header else {}
    answer = load().client.get("/api/v1/feed", headers=headers)
    assert (answer.status_code, answer.json) == (401, {"error": "Sign in first."})


def test_an_expired_token_is_answered_401(load):
    program = load(JWT_LIFETIME=-1)
    assert program.client.get("/api/v1/feed", headers=program.headers()).status_code == 401


def test_the_feed_is_one_query_newest_first_of_people_i_follow_only(load, broker):
    program = load("step3_hand_off")
    follower, other = program.headers("reader-00001"), program.headers("reader-00500")
    assert program.post("Brand new.").status_code == 201
    program.statements.clear()
    posts = program.client.get("/api/v1/feed", headers=follower).json["posts"]
    assert len(program.statements) == 1
    assert (posts[0]["author"], posts[0]["content"]) == ("techinfluencer", "Brand new.")
    assert [post["id"] for post in posts] == sorted((post["id"] for post in posts), reverse=True)
    assert len(posts) <= 20
    unfollowed = program.client.get("/api/v1/feed", headers=other).json["posts"]
    assert "techinfluencer" not in {post["author"] for post in unfollowed}


def test_a_comment_is_stored_under_its_post(load):
    program = load()
    headers = program.headers("reader-00001")
    path = f"/api/v1/posts/{dataset.some_posts(None)[0]}/comments"
    before = program.client.get(path, headers=headers).json["comments"]
    answer = program.client.post(path, json={"content": "Well done."}, headers=headers)
    assert answer.status_code == 201
    after = program.client.get(path, headers=headers).json["comments"]
    assert [comment["content"] for comment in after[len(before) :]] == ["Well done."]
    assert after[-1]["author"] == "reader-00001"


def test_a_comment_on_no_post_is_answered_404_and_an_empty_one_400(load):
    program = load()
    headers = program.headers()
    assert (
        program.client.post("/api/v1/posts/99999999/comments", json={"content": "x"}, headers=headers).status_code
        == 404
    )
    assert program.client.post("/api/v1/posts/1/comments", json={"content": " "}, headers=headers).status_code == 400
    assert program.client.post("/api/v1/posts/1/comments", json=["x"], headers=headers).status_code == 400


def test_with_every_connection_taken_requests_get_503_and_health_stays_ok(load):
    program = load(DB_POOL_SIZE=1, DB_POOL_TIMEOUT=0.05)
    headers = program.headers()
    with program.engine.connect():
        answer = program.client.get("/api/v1/feed", headers=headers)
        assert (answer.status_code, answer.json) == (503, {"error": "Try again later."})
        assert program.client.get("/healthz").status_code == 200
    assert program.client.get("/api/v1/feed", headers=headers).status_code == 200


def test_postgres_shows_the_connections_under_the_applications_name(load):
    program = load()
    with program.engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW application_name").scalar() == "social-api"


# -- the steps --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", IN_REQUEST)
def test_before_the_hand_off_every_follower_has_been_called_when_the_author_gets_an_answer(load, push_server, step):
    answer = load(step).post()
    assert answer.status_code == 201
    assert answer.json == {"status": "ok", "id": 10_001}
    counters = push_server.counters()
    assert (counters["accepted"], counters["devices"], counters["batches"]) == (FOLLOWERS, FOLLOWERS, 0)


@pytest.mark.parametrize("followers", [12, 40])
def test_as_it_failed_one_post_takes_a_query_for_every_follower(load, stack, followers):
    program = load("step0_as_it_failed")
    dataset.set_followers(stack, followers)
    program.post()
    assert len(program.statements) == 2 + followers


@pytest.mark.parametrize("step", ["step1_bulk_tokens", "step2_release_early"])
@pytest.mark.parametrize("followers", [12, 40])
def test_with_the_bulk_query_one_post_takes_two_statements_however_many_follow(load, stack, step, followers):
    program = load(step)
    dataset.set_followers(stack, followers)
    program.post()
    assert len(program.statements) == 2


@pytest.mark.parametrize(
    ("step", "held"), [("step0_as_it_failed", 1), ("step1_bulk_tokens", 1), ("step2_release_early", 0)]
)
def test_the_connection_is_held_while_calling_out_until_it_is_released_early(load, monkeypatch, step, held):
    program = load(step)
    seen = []
    monkeypatch.setattr(program.module.push, "send", lambda *args: seen.append(program.engine.pool.checkedout()))
    program.post()
    assert seen == [held] * FOLLOWERS
    assert program.engine.pool.checkedout() == 0


@pytest.mark.parametrize("step", [*IN_REQUEST, "step3_hand_off"])
def test_a_follower_with_two_phones_is_called_on_one_of_them(load, push_server, broker, two_phones, step):
    program = load(step)
    post = program.post().json["id"]
    if step in IN_WORKER:
        program.module.notify_followers(post)
    assert push_server.counters()["accepted"] == FOLLOWERS


def test_as_it_failed_nobody_notices_that_the_push_service_refuses_everything(load, push_server):
    program = load("step0_as_it_failed")
    push_server.set(auth="another-token")
    assert program.post().status_code == 201
    assert push_server.counters()["accepted"] == 0
    assert push_server.counters()["rejected_by"] == {"UNAUTHENTICATED": FOLLOWERS}


def test_the_push_carries_the_title_and_the_first_hundred_characters(load, monkeypatch):
    program = load()
    sent = []
    monkeypatch.setattr(program.module.push, "send", lambda *args: sent.append(args))
    program.post("x" * 150)
    assert {(title, body) for _, title, body in sent} == {("New post", "x" * 100)}


@pytest.mark.parametrize("step", IN_WORKER)
def test_after_the_hand_off_the_route_enqueues_one_task_and_calls_nobody(load, push_server, broker, step):
    program = load(step)
    answer = program.post()
    assert answer.status_code == 201
    assert broker.llen("fanout") == 1
    assert push_server.counters()["requests"] == 0
    assert program.engine.pool.checkedout() == 0


@pytest.mark.parametrize("step", IN_WORKER)
def test_the_queues_name_comes_from_the_environment(load, broker, step):
    load(step, FANOUT_QUEUE="elsewhere").post()
    assert (broker.llen("elsewhere"), broker.llen("fanout")) == (1, 0)


@pytest.mark.parametrize("step", IN_WORKER)
def test_the_task_holds_no_connection_while_calling_out(load, monkeypatch, broker, step):
    program = load(step)
    seen = []
    answer = SimpleNamespace(raise_for_status=lambda: seen.append(program.engine.pool.checkedout()))
    monkeypatch.setattr(program.module.push, "send", lambda *args: answer.raise_for_status())
    monkeypatch.setattr(program.module.push, "send_batch", lambda *args: answer)
    program.module.notify_followers(program.post().json["id"])
    assert set(seen) == {0}


@pytest.fixture
def worker(tmp_path):
    """Return a function that runs a step's Celery worker as a process."""
    processes: list[subprocess.Popen] = []

    def worker(step: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "celery", "-A", f"labs.fanout.{step}:celery_app", "worker"]
        command += ["--concurrency", "1", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        with (tmp_path / "worker.log").open("wb") as log:
            processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=labs.PROJECT))
        return processes[-1]

    yield worker
    for process in processes:
        process.send_signal(signal.SIGQUIT)  # at once, without finishing what it has
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.parametrize("step", IN_WORKER)
def test_a_worker_reaches_every_follower_through_a_pool_of_its_own(load, worker, push_server, broker, step):
    program = load(step)
    program.post()
    process = worker(step)
    wait_until(lambda: process.poll() is not None or push_server.counters()["accepted"] >= FOLLOWERS)
    assert process.poll() is None
    assert push_server.counters()["devices"] == FOLLOWERS
    assert broker.llen("fanout") == 0
    with program.engine.connect() as connection:
        names = connection.exec_driver_sql("SELECT application_name FROM pg_stat_activity")
        assert "social-worker" in set(names.scalars())


# -- the published fix ------------------------------------------------------------------------------------------------


def test_the_published_fix_sends_batches_of_five_hundred(load, stack, push_server, broker):
    program = load("step4_published_fix")
    dataset.set_followers(stack, 1_050)
    program.module.notify_followers(program.post().json["id"])
    counters = push_server.counters()
    assert (counters["accepted"], counters["batches"], counters["duplicates"]) == (1_050, 3, 0)


def test_the_published_fix_counts_one_batch_too_many_at_exact_multiples(load, stack, push_server, broker, caplog):
    program = load("step4_published_fix")
    dataset.set_followers(stack, 1_000)
    with caplog.at_level(logging.INFO):
        program.module.notify_followers(program.post().json["id"])
    assert push_server.counters()["batches"] == 2
    assert "1000 notifications in 3 batches" in caplog.text


def test_the_published_fix_reaches_every_phone_of_a_follower(load, push_server, broker, two_phones):
    program = load("step4_published_fix")
    program.module.notify_followers(program.post().json["id"])
    assert push_server.counters()["devices"] == 2 * FOLLOWERS


def test_the_published_fix_tries_the_whole_task_again_and_sends_delivered_batches_twice(
    load, stack, push_server, broker
):
    program = load("step4_published_fix")
    dataset.set_followers(stack, 1_050)
    push_server.set(fail_batches=[2])
    program.module.notify_followers.apply([program.post().json["id"]])
    counters = push_server.counters()
    assert (counters["devices"], counters["duplicates"]) == (1_050, 500)


def test_the_published_fix_gives_up_after_three_retries(load, push_server, broker):
    program = load("step4_published_fix")
    push_server.set(retired=True)
    result = program.module.notify_followers.apply([program.post().json["id"]])
    assert result.state == "FAILURE"
    assert push_server.counters()["requests"] == 1 + 3


def test_an_author_with_very_many_followers_gets_one_fan_out_until_the_lock_expires(load, broker):
    program = load("step4_published_fix", THROTTLE_FOLLOWERS=FOLLOWERS - 1, THROTTLE_SECONDS=3600)
    answers = [program.post().status_code for _ in range(3)]
    assert answers == [201] * 3
    assert broker.llen("fanout") == 1
    (lock,) = broker.keys("fanout:*")
    assert 0 < broker.ttl(lock) <= 3600
    broker.delete(lock)
    program.post()
    assert broker.llen("fanout") == 2


def test_the_lock_is_each_authors_own_and_spares_ordinary_authors(load, broker):
    program = load("step4_published_fix", THROTTLE_FOLLOWERS=10_000, THROTTLE_SECONDS=3600)
    for username in ["author-0002", "author-0003"] * 2:  # 19,723 and 12,125 followers
        program.post(username=username)
    assert broker.llen("fanout") == 2
    program.post(username="author-0500")
    program.post(username="author-0500")
    assert broker.llen("fanout") == 4


def test_follower_counts_are_as_of_the_last_refresh(load, stack, broker):
    program = load("step4_published_fix", THROTTLE_FOLLOWERS=FOLLOWERS, THROTTLE_SECONDS=3600)
    with program.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO follows VALUES (1, 20000)")
    try:
        assert program.module.may_fan_out(1)
        assert program.module.may_fan_out(1)
        program.module.refresh_follower_counts()
        assert program.module.may_fan_out(1)
        assert not program.module.may_fan_out(1)
    finally:
        with program.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM follows WHERE followee_id = 1 AND follower_id = 20000")
            connection.exec_driver_sql("REFRESH MATERIALIZED VIEW follower_counts")


def test_the_refresh_is_scheduled_every_five_minutes_unless_set_otherwise(load, monkeypatch):
    (entry,) = load("step4_published_fix").module.celery_app.conf.beat_schedule.values()
    assert entry == {"task": "social.refresh_follower_counts", "schedule": 300.0}
    (entry,) = load("step4_published_fix", FOLLOWER_COUNTS_REFRESH=30).module.celery_app.conf.beat_schedule.values()
    assert entry["schedule"] == 30.0

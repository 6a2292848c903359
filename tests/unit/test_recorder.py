"""The recorder: what arrives is in the files, and the live view says what is now."""

import gzip
import json
import socket
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import psycopg
import pytest
import redis
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from labs.fcm import Admin
from labs.kit.fleet import free_port
from labs.kit.live import BUCKETS, SAMPLE, Bucket, Live, percentile
from labs.kit.recorder import Recorder, RecorderError
from labs.kit.samplers import APPLICATION_NAME, ProcessSampler, libpq_url
from tests.running import eventually, read_spans


@pytest.fixture
def recorder(tmp_path):
    with Recorder(tmp_path) as recorder:
        yield recorder


def say(recorder, *lines, end=b"\n"):
    """Send lines as a probe would, and hang up."""
    host, port = recorder.lines.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as wire:
        wire.sendall(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines) + end)


def written(recorder, kind=None):
    if recorder.process.alive:
        recorder.flush()
    lines = [json.loads(line) for line in (recorder.run_dir / "events.jsonl").read_text().splitlines()]
    return [line for line in lines if kind is None or line["kind"] == kind]


def request(done, outcome="ok", who="reader", due=None):
    return {
        "kind": "request", "due": done - 0.25 if due is None else due, "sent": done, "done": done, "who": who,
        "endpoint": "GET /", "attempt": 1, "status": 200, "outcome": outcome, "pod": "a",
    }  # fmt: skip


def export(name="a span"):
    body = ExportTraceServiceRequest()
    body.resource_spans.add().scope_spans.add().spans.add(name=name)
    return body.SerializeToString()


def post(address, body, **headers):
    asked = urllib.request.Request(address, body, {"Content-Type": "application/x-protobuf", **headers})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return answer.status


def test_lines_are_written_as_they_came(recorder):
    lines = [request(time.time()), {"kind": "hold", "pod": "a", "at": 1.0}, {"kind": "something new", "x": 1}]
    say(recorder, *lines)
    eventually(lambda: len(written(recorder)) == 3)
    assert written(recorder) == lines


def test_a_line_that_is_no_event_is_noted_and_does_no_harm(recorder):
    say(recorder, b"nonsense", b'{"kind":"pool"}', {"kind": "mark", "at": 1.0, "label": "after"})
    eventually(lambda: written(recorder, "mark"))
    assert len(written(recorder, "sampler_error")) == 1


def test_half_a_line_is_left_out(recorder):
    say(recorder, {"kind": "hold", "at": 1.0}, b'{"kind":"hold","at":2', end=b"")
    say(recorder, {"kind": "mark", "at": 1.0, "label": "after"})
    eventually(lambda: written(recorder, "mark") and written(recorder, "hold"))
    assert [line["at"] for line in written(recorder, "hold")] == [1.0]


def test_closing_loses_nothing_that_was_sent(tmp_path):
    with Recorder(tmp_path) as recorder:
        say(recorder, *[request(time.time()) for _ in range(5000)])
        post(recorder.otlp, export())
    assert len(written(recorder, "request")) == 5000
    assert len(read_spans(tmp_path)) == 1


def test_many_peers_at_once_each_get_their_lines_in(recorder):
    peers = [threading.Thread(target=say, args=(recorder, *[{"kind": "hold", "n": n}] * 100)) for n in range(20)]
    for peer in peers:
        peer.start()
    for peer in peers:
        peer.join()
    eventually(lambda: len(written(recorder, "hold")) == 2000)


def test_spans_are_kept_as_they_came_compressed_or_not(recorder):
    assert post(recorder.otlp, export("plain")) == 200
    assert post(recorder.otlp, gzip.compress(export("packed")), **{"Content-Encoding": "gzip"}) == 200
    recorder.flush()
    assert [span.name for span in read_spans(recorder.run_dir)] == ["plain", "packed"]


def test_spans_go_on_to_another_collector(tmp_path):
    seen = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with Recorder(tmp_path, forward=f"http://127.0.0.1:{server.server_port}/") as recorder:
            post(recorder.otlp, export())
            eventually(lambda: seen)
    finally:
        server.shutdown()
        server.server_close()
    assert seen == [("/v1/traces", export())]


def test_a_collector_that_is_not_there_does_no_harm(tmp_path):
    with Recorder(tmp_path, forward=f"http://127.0.0.1:{free_port()}") as recorder:
        for _ in range(300):
            assert post(recorder.otlp, export()) == 200
    assert len(read_spans(tmp_path)) == 300


def test_dead_servers_are_noted_once_a_second_and_the_rest_goes_on(tmp_path):
    dead = free_port()
    with Recorder(
        tmp_path, f"postgresql+psycopg://nobody@127.0.0.1:{dead}/none", f"redis://127.0.0.1:{dead}/0", ["q"],
        (f"http://127.0.0.1:{dead}", "p"),
    ) as recorder:  # fmt: skip
        wanted = {"postgres", "redis", "fcm"}
        eventually(lambda: {line["sampler"] for line in written(recorder, "sampler_error")} >= wanted)
        recorder.mark("still here")
        assert recorder.live()["marks"][-1]["label"] == "still here"
        eventually(lambda: len([line for line in written(recorder, "sampler_error") if line["sampler"] == "fcm"]) >= 3)
    times = [line["at"] for line in written(recorder, "sampler_error") if line["sampler"] == "fcm"]
    assert all(after - before >= 1.0 for before, after in pairwise(times))


def test_a_mark_is_recorded_and_shown(recorder):
    recorder.mark("post")
    recorder.mark("earlier", at=12.5)
    assert [(mark["label"], mark["at"] == 12.5) for mark in recorder.live()["marks"]] == [
        ("post", False),
        ("earlier", True),
    ]
    assert [line["label"] for line in written(recorder, "mark")] == ["post", "earlier"]


def test_the_run_is_described_with_its_start_and_its_end(tmp_path):
    with Recorder(tmp_path, speed=10) as recorder:
        recorder.describe("fan-out", {"pool_size": 20}, "15:20:50", started=5.0)
        running = json.loads((tmp_path / "run.json").read_text())
    ended = json.loads((tmp_path / "run.json").read_text())
    assert running == {
        "incident": "fan-out", "knobs": {"pool_size": 20}, "speed": 10, "clock": "15:20:50", "started": 5.0,
        "ended": None,
    }  # fmt: skip
    assert {**ended, "ended": None} == running
    assert ended["ended"] == pytest.approx(time.time(), abs=120)


def test_no_password_stays_in_the_run_folder(tmp_path):
    url = f"postgresql+psycopg://me:a-secret@127.0.0.1:{free_port()}/db"
    with Recorder(tmp_path, url) as recorder:
        eventually(lambda: written(recorder, "sampler_error"))
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"a-secret" not in path.read_bytes(), path


def test_a_recorder_that_is_gone_is_named_with_its_log(recorder):
    recorder.close()
    recorder.close()
    with pytest.raises(RecorderError, match=r"does not answer.*recorder\.log"):
        recorder.live()


def test_waiting_for_last_spans_names_who_is_late(recorder):
    host, port = recorder.lines.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as wire:
        wire.sendall(b'{"kind":"hello","pod":"api-1.2"}\n{"kind":"mark","at":1.0,"label":"heard"}\n')
        eventually(lambda: recorder.live()["marks"])
        assert recorder.wait_finished("t", ["other"], timeout=1) == []
        with pytest.raises(RecorderError, match=r"No last span from api-1\.2 within"):
            recorder.wait_finished("t", ["api-1"], timeout=0.1)
        wire.sendall(b'{"kind":"finished","pod":"api-1.2","token":"t","at":2.0}\n')
        assert recorder.wait_finished("t", ["api-1"], timeout=60) == ["api-1.2"]


def test_the_live_view_counts_due_when_due_and_outcomes_when_they_happen():
    live, now = Live(bucket=0.25), (time.time() // 0.25) * 0.25
    live.take({"kind": "due", "at": now - 1.0, "who": "reader", "count": 3})
    live.take(request(now, due=now - 1.0))
    live.take(request(now, "unavailable", due=now - 0.5))
    live.take(request(now, "ok", who="author"))
    buckets = {bucket["at"] - now: bucket for bucket in live.now()["buckets"]}
    assert (buckets[-1.0]["due"], buckets[-1.0]["ok"], buckets[-1.0]["failed"]) == (3, 0, 0)
    assert (buckets[0.0]["due"], buckets[0.0]["ok"], buckets[0.0]["failed"]) == (0, 1, 1)
    assert (buckets[0.0]["p50"], buckets[0.0]["p99"]) == (0.5, 1.0)
    assert live.now()["counts"] == {"ok": 2, "unavailable": 1}
    assert live.now()["counts_by_who"]["author"] == {"ok": 1}


def test_the_live_view_stays_small_whatever_happens():
    live, now = Live(bucket=0.25), time.time()
    for second in range(200):
        live.take(request(now - 200 + second))
    for _ in range(5 * SAMPLE):
        live.take(request(now))
    live.take(request(now - 10_000))
    state = live.now()
    assert len(state["buckets"]) == BUCKETS
    assert sum(bucket["ok"] for bucket in state["buckets"]) > 5 * SAMPLE
    assert max(len(bucket._latencies) for bucket in live._buckets) == SAMPLE


def test_a_pod_that_is_gone_leaves_the_live_view_with_its_workers():
    live = Live()
    for pod in ("api-1", "api-1.2", "api-10"):
        live.take({"kind": "pool", "pod": pod, "at": 1.0})
    live.take({"kind": "fleet", "name": "api-1", "event": "killed", "at": 1.0, "pid": 1})
    assert [pod["pod"] for pod in live.now()["pods"]] == ["api-10"]


def test_the_servers_are_looked_at_without_the_recorder_itself(stack, tmp_path):
    url = stack.postgres.url
    with Admin(stack.fcm.url, stack.project) as push:
        push.reset()
    with (
        redis.Redis.from_url(stack.redis.url) as queue,
        psycopg.connect(libpq_url(url), application_name="the app") as connection,
        Recorder(tmp_path, url, stack.redis.url, ["chores"], (stack.fcm.url, stack.project)) as recorder,
    ):
        queue.rpush("chores", "one", "two")
        connection.execute("SELECT 42")
        eventually(lambda: (recorder.live()["redis"] or {"queues": {}})["queues"].get("chores") == 2)
        seen = eventually(lambda: recorder.live()["postgres"])
        fcm = eventually(lambda: recorder.live()["fcm"])
        queue.delete("chores")
    apps = {row["application_name"]: row for row in seen["rows"]}
    assert apps["the app"]["state"] == "idle in transaction"
    assert apps["the app"]["query"] == "SELECT 42"
    assert 0 <= apps["the app"]["state_age"] <= apps["the app"]["transaction_age"]
    assert APPLICATION_NAME not in apps
    assert seen["total"] == len(seen["rows"]) == sum(seen["by_state"].values())
    assert seen["max_connections"] >= 20
    assert fcm["accepted"] == 0
    assert written(recorder, "sampler_error") == []


def test_a_lost_connection_to_postgres_is_noted_and_made_again(stack, tmp_path):
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
    with (
        psycopg.connect(libpq_url(stack.postgres.url), autocommit=True) as connection,
        Recorder(tmp_path, stack.postgres.url) as recorder,
    ):
        eventually(lambda: recorder.live()["postgres"])
        assert connection.execute(cut, [APPLICATION_NAME]).fetchall()
        (error,) = eventually(lambda: written(recorder, "sampler_error"))
        eventually(lambda: recorder.live()["postgres"]["at"] > error["at"])
    assert error["sampler"] == "postgres"


def test_percentiles_are_values_that_occurred():
    assert percentile([], 0.5) is None
    assert percentile([1.0], 0.99) == 1.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert percentile(list(range(1, 101)), 0.99) == 99


def test_an_empty_bucket_has_no_latency():
    assert Bucket(0.0).as_json() == {"at": 0.0, "due": 0, "ok": 0, "failed": 0, "p50": None, "p99": None}


def test_a_process_is_measured_together_with_its_children(tmp_path):
    from tests.running import running

    with running(tmp_path) as run:
        run.tiny("api")
        plain = run.fleet.start("plain", "tests.apps.plain", ["stay"])
        eventually(plain.tail)
        sampler = ProcessSampler()
        sampler.names = {run.fleet["api"].pid: "api", plain.pid: "plain"}
        lines = {line["name"]: line for line in sampler.look()}
        assert lines["api"]["rss"] > 1.5 * lines["plain"]["rss"]
        assert all(line["cpu"] >= 0 for line in lines.values())
        run.fleet.kill("plain")
        assert [line["name"] for line in sampler.look()] == ["api"]


def test_a_sqlalchemy_address_becomes_one_for_the_driver():
    assert libpq_url("postgresql+psycopg://me:pw@127.0.0.1:5432/db") == "postgresql://me:pw@127.0.0.1:5432/db"
    assert libpq_url("postgresql://127.0.0.1/db") == "postgresql://127.0.0.1/db"

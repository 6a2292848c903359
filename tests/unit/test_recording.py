import json
import math

import numpy as np
import pytest

from labs.kit.history import step_sum
from labs.kit.recording import Recording, RecordingError
from tests import synthetic


@pytest.fixture(scope="module")
def outage(tmp_path_factory):
    return Recording.open(synthetic.outage(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return Recording.open(synthetic.outage(tmp_path_factory.mktemp("runs"), "alone", retries=False))


def written(folder, *lines, **run):
    """A recording of exactly these event lines; wall times count from 1000 s."""
    (folder / "run.json").write_text(json.dumps({"speed": 10, "started": 1000.0, "clock": "15:20:50", **run}))
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Recording.open(folder)


def request(due, done, outcome="ok", **more):
    return {
        "kind": "request",
        "due": due,
        "sent": due,
        "done": done,
        "endpoint": "GET /feed",
        "who": "reader",
        "attempt": 1,
        "status": 200,
        "outcome": outcome,
        "pod": "pod-1",
        **more,
    }


def pool(at, pod="pod-1", slots=(), waiting=()):
    return {
        "kind": "pool",
        "at": at,
        "pod": pod,
        "size": 3,
        "max_overflow": 0,
        "slots": list(slots),
        "waiting": list(waiting),
        "serving": 1,
    }


def test_times_and_durations_are_the_incidents(tmp_path):
    seen = written(
        tmp_path,
        request(1001.0, 1001.5),
        {"kind": "mark", "at": 1003.0, "label": "post"},
        {"kind": "hold", "at": 1001.0, "pod": "pod-1", "slot": 0, "by": "x", "waited": 0.1, "held": 0.4},
    )
    assert seen.requests.due.tolist() == [10.0]
    assert seen.requests.latency.tolist() == pytest.approx([5.0])
    assert (seen.holds.at[0], seen.holds.waited[0], seen.holds.held[0]) == pytest.approx((10.0, 1.0, 4.0))
    assert seen.marks == [(30.0, "post")]
    assert seen.clock_at(seen.mark("post")) == "15:21:20"


def test_the_whole_run_is_read(outage):
    assert outage.seconds == 150
    assert len(outage.requests) > 2000
    assert outage.knobs["pool_size"] == 20
    assert (outage.speed, outage.cores) == (10.0, 2)
    assert len(outage.traces) == 60


def test_failed_share_counts_what_was_due_in_the_window_and_has_an_outcome(tmp_path):
    seen = written(
        tmp_path,
        request(1000.5, 1000.6),
        request(1001.0, 1001.1, "unavailable"),
        request(1002.0, 1003.0, "no_answer", who="author"),
        request(1003.0, None, "pending"),
    )
    assert seen.failed_share() == pytest.approx(2 / 3)
    assert seen.failed_share(after=10) == 1.0
    assert seen.failed_share(before=10) == 0.0
    assert seen.failed_share(who="reader") == 0.5
    assert math.isnan(seen.failed_share(after=25))


@pytest.mark.parametrize(
    ("outcome", "failed"), [("ok", 0), ("unavailable", 1), ("error", 1), ("no_answer", 1), ("refused", 1)]
)
def test_every_outcome_but_success_is_a_failure(tmp_path, outcome, failed):
    assert written(tmp_path, request(1001, 1002, outcome)).failed_share() == failed


def test_an_outage_fails_and_a_patient_post_does_not(outage, alone):
    assert outage.failed_share(after=125) == 1.0
    assert alone.failed_share(who="reader") == 0.0


def test_answered_gives_one_endpoints_successes(outage):
    assert set(outage.answered("GET /api/v1/feed").outcome) == {"ok"}
    assert len(outage.answered(who="author")) == 0


def test_connections_in_use_add_up_over_pods_and_end_with_a_pod(tmp_path):
    held = {"since": 1000.0, "by": "POST /x"}
    seen = written(
        tmp_path,
        pool(1001, slots=[held, None, None]),
        pool(1002, "pod-2", [held, held, None]),
        {"kind": "fleet", "at": 1003, "name": "pod-1", "event": "killed", "pid": 1},
        pool(1004, slots=[held, held, held]),
    )
    times, in_use = seen.pool_in_use()
    assert times.tolist() == [10, 20, 30, 40]
    assert in_use.tolist() == [1, 3, 2, 5]


def test_pools_of_background_workers_are_not_the_pool_that_requests_wait_for(tmp_path):
    held = {"since": 1000.0, "by": "task"}
    seen = written(tmp_path, request(1000.5, 1000.6, pod="api-1"), pool(1001, "api-1", [held, None, None]),
                   pool(1001, "api-1.2", [held, held, None]), pool(1001, "worker-1", [held, held, held]))
    assert seen.pool_in_use()[1].tolist() == [3]
    assert seen.pool_series("size")[1].tolist() == [6]
    assert seen.pool_held_by("task")[1].tolist() == [3]
    assert len(seen.pool) == 3


def test_a_process_that_is_killed_takes_its_workers_with_it(tmp_path):
    held = {"since": 1000.0, "by": "x"}
    seen = written(tmp_path, pool(1001, "api-1.2", [held]), pool(1001, "api-10", [held]),
                   {"kind": "fleet", "at": 1002, "name": "api-1", "event": "killed", "pid": 1})
    assert seen.pool_in_use()[1].tolist() == [2, 1]


def test_the_pool_fills_to_its_size_and_not_beyond(outage):
    _, in_use = outage.pool_in_use()
    assert in_use.max() == 20
    assert outage.pool_series("waiting")[1].max() == 44
    assert outage.pool_series("size")[1].tolist()[0] == 20


def test_who_holds_the_connections_is_named(outage):
    first = outage.pool.holders(140).rows[0]
    assert first[:2] == ("POST /api/v1/posts/create", 20)
    assert outage.pool.longest_holder == "POST /api/v1/posts/create"


def test_connections_held_for_moments_name_no_culprit(tmp_path):
    seen = written(tmp_path, pool(1001, slots=[{"since": 1000.9, "by": "GET /feed"}]))
    assert seen.pool.longest_holder is None


def test_statements_survive_the_restart_of_a_pod(tmp_path):
    def line(at, calls, total, longest):
        return {
            "kind": "statements",
            "at": at,
            "pod": "pod-1",
            "rows": [{"text": "SELECT 1", "calls": calls, "total": total, "max": longest, "rows": calls}],
        }

    statement = written(tmp_path, line(1001, 5, 0.5, 0.2), line(1002, 9, 0.9, 0.3), line(1003, 2, 0.1, 0.1)).statements[
        0
    ]
    assert (statement.calls, statement.rows) == (11, 11)
    assert (statement.total, statement.longest) == pytest.approx((10.0, 3.0))


def test_statements_are_listed_most_expensive_first(outage):
    assert "device_tokens" in outage.statements[0].text
    assert outage.statements.longest == pytest.approx(0.031)
    assert "\n" not in outage.statements.table().rows[0][0]


def test_what_postgres_and_the_others_saw_is_in_columns(outage):
    assert outage.postgres.max_connections[0] == 200
    assert outage.postgres.rows[-1][0]["state_age"] == pytest.approx(0.04)
    assert outage.redis.queues[0] == {"fanout": 0}
    assert set(outage.processes.name) == {"api-1", "traffic"}
    assert outage.fcm.accepted[-1] > 0
    assert np.isnan(outage.fcm.first_accepted_at[0])
    assert outage.fcm.first_accepted_at[-1] == pytest.approx(30.5)


def test_a_run_that_died_at_once_is_empty_and_not_an_error(tmp_path):
    seen = Recording.open(synthetic.empty(tmp_path))
    assert (seen.seconds, len(seen.requests), len(seen.pool), len(seen.traces)) == (0, 0, 0, 0)
    assert math.isnan(seen.failed_share())
    assert len(seen.pool_in_use()[0]) == 0
    assert "nothing was asked of it" in repr(seen)
    for table in (
        seen.requests.by_outcome(),
        seen.holds.by_endpoint(),
        seen.statements.table(),
        seen.pool.holders(3),
        seen.traces.by_endpoint(),
    ):
        assert len(table) == 0


def test_a_run_that_was_killed_is_read_up_to_its_last_whole_line(tmp_path):
    seen = Recording.open(synthetic.outage(tmp_path, ended=False, seconds=60))
    assert 55 < seen.seconds <= 70
    assert len(seen.requests) > 500


def test_a_folder_without_a_run_is_refused_with_its_name(tmp_path):
    with pytest.raises(RecordingError, match=r"run_dir must be a folder with a run\.json in it, not .*nowhere"):
        Recording.open(tmp_path / "nowhere")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RecordingError, match="must be JSON"):
        Recording.open(tmp_path)


def test_an_unknown_mark_or_column_is_answered_with_those_there_are(outage):
    with pytest.raises(KeyError, match="marks: post"):
        outage.mark("restart")
    with pytest.raises(AttributeError, match="columns: due, sent"):
        _ = outage.requests.colour


def test_steps_of_several_parts_add_up():
    times, totals = step_sum(np.array([1.0, 2, 3]), np.array(["a", "b", "a"]), np.array([5.0, 2, 1]), [(4.0, "b")])
    assert times.tolist() == [1, 2, 3, 4]
    assert totals.tolist() == [5, 7, 3, 1]

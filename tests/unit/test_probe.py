"""The probe: what it tells of a system that does not know it."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from labs.kit.probe_spans import OUTSIDE
from tests.running import attributes, eventually, get, running

HOLD = "GET /hold"
READ = "GET /read"


@pytest.fixture
def run(tmp_path):
    with running(tmp_path) as run:
        yield run


@pytest.fixture
def users():
    """Threads that ask while the test looks."""
    with ThreadPoolExecutor(32) as pool:
        yield pool


def pods(run):
    return {pod["pod"]: pod for pod in run.recorder.live()["pods"]}


def pool_of(run, name="api"):
    return pods(run).get(name, {"slots": [], "waiting": [], "serving": 0})


def holders(run, name="api"):
    return [slot["by"] for slot in pool_of(run, name)["slots"] if slot]


def test_the_pool_is_told_slot_by_slot_with_who_holds_and_who_waits(run, users):
    address = run.tiny(DB_POOL_SIZE=2, DB_POOL_TIMEOUT=30)
    asked = [users.submit(get, f"{address}/hold") for _ in range(2)]
    eventually(lambda: holders(run) == [HOLD, HOLD])
    asked.append(users.submit(get, f"{address}/read"))
    pool = eventually(lambda: (found := pool_of(run)) and found["waiting"] and found)
    assert pool["size"] == 2
    assert pool["max_overflow"] == 0
    assert [waiter["by"] for waiter in pool["waiting"]] == [READ]
    assert pool["serving"] == 3
    assert all(time.time() - 60 < slot["since"] < time.time() for slot in pool["slots"])
    get(f"{address}/release")
    assert [each.result()[0] for each in asked] == [200] * 3
    eventually(lambda: pool_of(run)["slots"] == [None, None] and pool_of(run)["serving"] == 0)


def test_every_finished_checkout_is_told_with_its_wait_and_its_hold(run, users):
    address = run.tiny(DB_POOL_SIZE=1, DB_POOL_TIMEOUT=30)
    users.submit(get, f"{address}/hold")
    eventually(lambda: holders(run) == [HOLD])
    reader = users.submit(get, f"{address}/read")
    eventually(lambda: pool_of(run)["waiting"])
    get(f"{address}/release")
    assert reader.result()[0] == 200
    eventually(lambda: len(run.events("hold")) == 2)
    held, read = run.events("hold", by=HOLD)[0], run.events("hold", by=READ)[0]
    assert held["held"] > read["waited"]
    assert read["slot"] == held["slot"] == 0
    assert read["waited"] > 0.002
    assert read["at"] >= held["at"] + held["held"]


def test_a_freed_slot_is_the_next_to_be_taken(run, users):
    address = run.tiny(DB_POOL_SIZE=3)
    long = users.submit(get, f"{address}/hold")
    eventually(lambda: holders(run) == [HOLD])
    for _ in range(5):
        get(f"{address}/read")
    get(f"{address}/release")
    long.result()
    eventually(lambda: len(run.events("hold")) == 6)
    assert {line["slot"] for line in run.events("hold", by=READ)} == {1}


def test_a_wait_in_vain_is_told(run, users):
    address = run.tiny(DB_POOL_SIZE=1, DB_POOL_TIMEOUT=0.2)
    long = users.submit(get, f"{address}/hold")
    eventually(lambda: holders(run) == [HOLD])
    assert get(f"{address}/read")[0] == 503
    told = eventually(lambda: run.events("wait_timeout"))
    assert [line["by"] for line in told] == [READ]
    assert told[0]["waited"] >= 0.2
    get(f"{address}/release")
    long.result()


def test_a_recreated_pool_takes_over_and_the_old_one_counts_while_it_is_in_use(run, users):
    address = run.tiny(DB_POOL_SIZE=2)
    long = users.submit(get, f"{address}/hold")
    eventually(lambda: holders(run) == [HOLD])
    get(f"{address}/recreate")
    get(f"{address}/read")
    eventually(lambda: len(run.events("hold", by=READ)) == 1)
    assert holders(run) == [HOLD]
    assert pool_of(run)["size"] == 2
    get(f"{address}/release")
    long.result()
    eventually(lambda: pool_of(run)["slots"] == [None, None])


def test_statements_are_counted_with_their_time(run):
    address = run.tiny()
    get(f"{address}/many/40")
    rows = eventually(lambda: (told := run.events("statements")) and told[-1]["rows"])
    assert [(row["text"], row["calls"]) for row in rows] == [("SELECT 1", 40)]
    assert 0 < rows[0]["max"] <= rows[0]["total"]


def test_added_latency_is_inside_the_statement_and_its_span_and_can_be_taken_back(run):
    address = run.tiny()
    get(f"{address}/read")
    run.fleet.tell_probes(db_latency=0.05)
    eventually(lambda: get(f"{address}/many/1")[1]["each"] >= 0.05)
    run.fleet.tell_probes(db_latency=0.0)
    eventually(lambda: get(f"{address}/many/1")[1]["each"] < 0.05)
    run.fleet.finish()
    lasted = [(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9 for span in run.spans("SELECT")]
    assert max(lasted) >= 0.05
    assert min(lasted) < 0.05


def test_a_trace_shows_request_wait_hold_and_statement(run, users):
    address = run.tiny(DB_POOL_SIZE=1, DB_POOL_TIMEOUT=30)
    users.submit(get, f"{address}/hold")
    eventually(lambda: holders(run) == [HOLD])
    reader = users.submit(get, f"{address}/read")
    eventually(lambda: pool_of(run)["waiting"])
    get(f"{address}/release")
    reader.result()
    run.fleet.finish()
    (root,) = run.spans(READ)
    children = {span.name: span for span in run.spans() if span.parent_span_id == root.span_id}
    assert set(children) == {"connection wait", "connection held", "SELECT"}
    assert attributes(children["SELECT"])["db.statement"] == "SELECT 1"
    assert children["connection wait"].end_time_unix_nano <= children["connection held"].start_time_unix_nano + 1000


def test_finishing_ends_open_spans_as_cut_off_and_loses_none(run, users):
    address = run.tiny(DB_POOL_SIZE=2)
    get(f"{address}/many/500")
    open_request = users.submit(get, f"{address}/hold")
    eventually(lambda: holders(run) == [HOLD])
    assert run.fleet.finish() == ["api"]
    cut = {span.name: attributes(span).get("labs.cut_off") for span in run.spans()}
    assert cut[HOLD] is True
    assert cut["connection held"] is True
    assert cut["GET /many/<int:count>"] is None
    assert len(run.spans("SELECT")) == 501
    # The system itself is not disturbed by the end of the recording.
    get(f"{address}/release")
    assert open_request.result() == (200, {"status": "held"})


def test_finishing_waits_for_no_process_that_is_gone_or_never_served(run):
    get(run.tiny("one") + "/read")
    run.tiny("two")
    get(run.tiny("three") + "/read")
    run.fleet.kill("three")
    eventually(lambda: "three" not in pods(run))
    assert run.fleet.finish() == ["one"]


def test_without_tracing_pool_and_names_are_still_told(run, users):
    address = run.tiny(DB_POOL_SIZE=2, LABS_TRACE="off")
    long = users.submit(get, f"{address}/hold")
    eventually(lambda: holders(run) == [HOLD] and pool_of(run)["serving"] == 1)
    get(f"{address}/release")
    long.result()
    eventually(lambda: run.events("hold", by=HOLD))
    run.fleet.finish()
    assert run.spans() == []


def test_the_probe_changes_no_answer(run):
    bare, probed = run.tiny("bare", probe=False), run.tiny("probed")
    for path in ("/health", "/read", "/status/404"):
        assert get(bare + path) == get(probed + path)
    assert run.events("hold", pod="bare") == []


def test_a_program_without_framework_or_database_runs_with_the_probe_as_without(run):
    process = run.fleet.start("plain", "tests.apps.plain", ["exit", 4], probe=True)
    assert process.wait(60)
    assert process.status == 4
    assert "labs probe" not in process.tail()


def test_a_dead_recorder_does_not_disturb_the_system(run):
    address = run.tiny(DB_POOL_SIZE=1)
    get(f"{address}/read")
    os.kill(run.recorder.process.pid, signal.SIGKILL)
    eventually(lambda: not run.recorder.process.alive)
    assert [get(f"{address}/read")[0] for _ in range(20)] == [200] * 20


def test_work_outside_any_request_says_so(run):
    run.fleet.start("job", "tests.apps.job", probe=True).wait(60)
    eventually(lambda: run.events("hold", pod="job"))
    assert [line["by"] for line in run.events("hold", pod="job")] == [OUTSIDE]


def test_task_workers_report_each_under_a_name_of_its_own_and_by_the_task(run):
    folder = run.folder
    run.fleet.celery("worker", "tests.apps.chores", concurrency=2, env={"CHORES_FOLDER": folder})
    run.fleet.start("sender", "tests.apps.send_chores", [6, 2], env={"CHORES_FOLDER": folder}, probe=True)
    eventually(lambda: len(run.events("hold", by="run/chores.sweep")) == 6)
    assert {line["pod"] for line in run.events("hold")} == {"worker", "worker.2"}
    run.fleet.finish()
    sent, ran = run.spans("apply_async/chores.sweep"), run.spans("run/chores.sweep")
    assert len(ran) == 6
    assert {span.trace_id for span in sent} == {span.trace_id for span in ran}

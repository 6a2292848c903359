"""The fleet: start, stop, kill, restart, and what is told of it."""

import http.client
import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import psutil
import pytest

from labs.kit.fleet import Fleet, FleetError, free_port
from labs.kit.launcher import launcher
from tests.running import eventually, get, running


@pytest.fixture
def fleet(tmp_path):
    with Fleet(tmp_path) as fleet:
        yield fleet


def told(process):
    """What tests.apps.plain wrote about itself."""
    return json.loads(eventually(lambda: process.tail().strip()).splitlines()[0])


def test_a_process_runs_as_python_dash_m_would_run_it(fleet):
    process = fleet.start("a", "tests.apps.plain", ["stay", 7], env={"MODE": "quiet"})
    assert told(process) == {
        "name": "__main__", "argv": ["stay", "7"], "mode": "quiet", "pid": process.pid, "group": process.pid,
        "handles_child_signals": False,
    }  # fmt: skip


def test_the_environment_of_one_process_is_not_that_of_the_next(fleet):
    fleet.start("a", "tests.apps.plain", ["stay"], env={"MODE": "quiet"})
    assert told(fleet.start("b", "tests.apps.plain", ["stay"]))["mode"] is None


def test_a_process_that_ends_is_known_to_have_ended_with_its_exit_code(fleet):
    process = fleet.start("a", "tests.apps.plain", ["exit", 3])
    assert process.wait(60)
    assert process.status == 3
    assert not fleet.alive("a")


def test_a_module_that_cannot_be_imported_leaves_its_reason_in_the_log(fleet):
    process = fleet.start("a", "tests.apps.there_is_none")
    assert process.wait(60)
    assert process.status != 0
    assert "there_is_none" in process.tail()


def test_stop_ends_a_process_that_ignores_the_polite_signal(fleet):
    process = fleet.start("a", "tests.apps.plain", ["stubborn"])
    eventually(lambda: "ignoring" in process.tail())
    fleet.stop("a", grace=0.2)
    assert not fleet.alive("a")
    assert process.status == -signal.SIGKILL


def test_stop_without_a_name_stops_all(fleet):
    for name in ("a", "b"):
        told(fleet.start(name, "tests.apps.plain", ["stay"]))
    fleet.stop()
    assert fleet.names == []


def test_a_name_is_used_by_one_process_at_a_time(fleet):
    fleet.start("a", "tests.apps.plain", ["stay"])
    with pytest.raises(FleetError, match="a is running already"):
        fleet.start("a", "tests.apps.plain", ["stay"])


def test_an_unknown_name_is_refused_with_the_known_ones(fleet):
    fleet.start("api-1", "tests.apps.plain", ["stay"])
    with pytest.raises(FleetError, match=r"no process 'api-2' in this fleet; there is api-1"):
        fleet.kill("api-2")


def test_restart_starts_the_same_again(fleet):
    first = fleet.start("a", "tests.apps.plain", ["stay", "x"], env={"MODE": "quiet"})
    told(first)
    second = fleet.restart("a")
    assert second.pid != first.pid
    assert not first.alive
    first.log.write_text("")
    assert told(fleet.restart("a"))["argv"] == ["stay", "x"]


def test_a_crash_loop_kills_and_starts_again(fleet):
    first = fleet.start("a", "tests.apps.plain", ["stay"])
    loop = fleet.crash_loop("a", up=0.05, down=0.05, times=3)
    assert loop.wait(60)
    assert loop.crashes == 3
    assert fleet.alive("a")
    assert fleet["a"].pid != first.pid
    assert first.status == -signal.SIGKILL


def test_a_crash_loop_ends_with_its_fleet(tmp_path):
    with Fleet(tmp_path) as fleet:
        fleet.start("a", "tests.apps.plain", ["stay"])
        fleet.crash_loop("a", up=0.01, down=0.01)
    assert fleet.names == []
    assert not [thread for thread in threading.enumerate() if "crash loop" in thread.name]


def test_waiting_for_a_port_tells_at_once_why_the_process_ended(fleet):
    fleet.start("a", "tests.apps.there_is_none")
    with pytest.raises(FleetError, match="a ended before it listened"):
        fleet.wait_for_port("127.0.0.1", free_port(), timeout=60, process="a")


def test_waiting_for_a_port_gives_up(fleet):
    with pytest.raises(FleetError, match="Nothing listens on"):
        fleet.wait_for_port("127.0.0.1", free_port(), timeout=0.05)


def test_one_warmed_parent_serves_every_fleet_of_the_process(tmp_path):
    parents = []
    for number in range(2):
        with Fleet(tmp_path / str(number)) as fleet:
            pid = fleet.start("a", "tests.apps.plain", ["stay"]).pid
            parents.append(psutil.Process(pid).ppid())
    assert parents == [launcher().pid] * 2


def test_a_pod_serves_as_many_requests_at_once_as_it_has_threads(tmp_path):
    with running(tmp_path) as run, ThreadPoolExecutor(64) as pool:
        address = run.tiny(threads=64, MEETING=64)
        answers = list(pool.map(get, [f"{address}/meet"] * 64))
    assert [status for status, _ in answers] == [200] * 64


def test_a_pod_keeps_connections_alive(tmp_path):
    with running(tmp_path) as run:
        connection = http.client.HTTPConnection(urlsplit(run.tiny()).netloc, timeout=60)
        sockets = []
        for _ in range(3):
            connection.request("GET", "/health")
            connection.getresponse().read()
            sockets.append(connection.sock)
    assert sockets[0] is not None
    assert sockets == sockets[:1] * 3


def test_the_recorder_hears_of_every_start_and_end(tmp_path):
    with running(tmp_path) as run:
        pids = {}
        for name in ("a", "b", "c"):
            pids[name] = run.fleet.start(name, "tests.apps.plain", ["stay"]).pid
        pids["d"] = run.fleet.start("d", "tests.apps.plain", ["exit", 0]).pid
        run.fleet.stop("a")
        run.fleet.kill("b")
        eventually(lambda: len(run.events("fleet")) == 7)
        seen = [(line["name"], line["event"], line["pid"]) for line in run.events("fleet")]
    assert seen[:3] == [(name, "started", pids[name]) for name in "abc"]
    assert sorted(seen[3:]) == sorted(
        [
            ("d", "started", pids["d"]),
            ("d", "exited", pids["d"]),
            ("a", "stopped", pids["a"]),
            ("b", "killed", pids["b"]),
        ]
    )

"""Nothing outlives its owner, however the owner ends."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from labs import PROJECT
from labs.kit.fleet import Fleet
from labs.kit.launcher import LaunchError, launcher
from tests.running import eventually, family, get, gone, running

pytestmark = pytest.mark.live

OWNER = """
import json, os, sys
from pathlib import Path
from labs.kit.launcher import launcher
from tests.running import eventually, family, running

folder = Path(sys.argv[1])
with running(folder) as run:
    run.tiny("api-1")
    run.fleet.celery("worker", "tests.apps.chores", concurrency=2, env={"CHORES_FOLDER": str(folder)})
    run.fleet.start("alone", "tests.apps.plain", ["stubborn"])
    eventually(lambda: len(family(run.fleet["worker"].pid)) >= 3)
    print(json.dumps({"zygote": launcher().pid, "pids": family(launcher().pid)}), flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def owner(tmp_path):
    """Another process that owns a fleet: two servers with workers, the recorder, one that ignores SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    pids = []
    try:
        told = json.loads(process.stdout.readline())
        pids = told["pids"]
        assert len(pids) >= 8  # zygote, recorder, gunicorn and its worker, celery and two children, the stubborn one
        yield process, told["zygote"], pids
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
        for pid in [pid for pid in pids if not gone([pid])]:
            os.kill(pid, signal.SIGKILL)


def test_an_owner_killed_by_sigkill_leaves_no_process(owner):
    process, _, pids = owner
    process.kill()
    eventually(lambda: gone(pids))


def test_an_owner_whose_warmed_parent_is_killed_leaves_no_process(owner):
    process, zygote, pids = owner
    os.kill(zygote, signal.SIGKILL)
    eventually(lambda: gone(pids))
    assert process.poll() is None


def test_an_owner_that_ends_as_usual_leaves_no_process(owner):
    process, _, pids = owner
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.wait(60) == 0
    eventually(lambda: gone(pids))


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux does a process end with its parent")
def test_owner_and_warmed_parent_killed_at_once_leave_no_process(owner):
    process, zygote, pids = owner
    os.kill(zygote, signal.SIGSTOP)
    process.kill()
    os.kill(zygote, signal.SIGKILL)
    eventually(lambda: gone(pids))


def test_a_pod_killed_from_outside_leaves_no_worker(tmp_path):
    with running(tmp_path) as run:
        get(run.tiny() + "/health")
        pids = family(run.fleet["api"].pid)
        assert len(pids) == 2
        os.kill(pids[0], signal.SIGKILL)
        eventually(lambda: gone(pids))
        eventually(lambda: not run.fleet.alive("api"))
        assert run.fleet["api"].status == -signal.SIGKILL


def test_a_killed_task_worker_leaves_no_pool_child(tmp_path):
    with running(tmp_path) as run:
        run.fleet.celery("worker", "tests.apps.chores", concurrency=3, env={"CHORES_FOLDER": tmp_path})
        pids = eventually(lambda: (found := family(run.fleet["worker"].pid)) and len(found) >= 4 and found)
        run.fleet.kill("worker")
        eventually(lambda: gone(pids))


def test_a_process_that_left_its_group_is_found_all_the_same(tmp_path):
    if sys.platform != "linux":
        pytest.skip("only on Linux are orphans adopted")
    with Fleet(tmp_path) as fleet:
        fleet.start("a", "tests.apps.runaway", [tmp_path / "pid"])
        pid = eventually(lambda: (tmp_path / "pid").exists() and int((tmp_path / "pid").read_text() or 0))
        assert os.getpgid(pid) == pid
        fleet.kill("a")
        eventually(lambda: gone([pid]))


def test_the_fleet_goes_on_after_its_warmed_parent_was_killed(tmp_path):
    with Fleet(tmp_path / "first") as fleet:
        process = fleet.start("a", "tests.apps.plain", ["stay"])
        os.kill(launcher().pid, signal.SIGKILL)
        assert process.wait(60)
        eventually(lambda: gone([process.pid]))
        eventually(launcher().ready.is_set)
        with pytest.raises(LaunchError, match="run the cell again"):
            fleet.start("b", "tests.apps.plain", ["stay"])
    with Fleet(tmp_path / "second") as fleet:
        assert fleet.start("a", "tests.apps.plain", ["stay"]).alive


def test_a_start_that_is_interrupted_leaves_no_process(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with Fleet(tmp_path) as fleet:
        fleet.start("a", "tests.apps.plain", ["stay"])
        known = set(family(launcher().pid))
        with monkeypatch.context() as context:
            context.setattr(launcher()._answered, "wait_for", interrupt)
            with pytest.raises(KeyboardInterrupt):
                fleet.start("b", "tests.apps.plain", ["stay"])
        fleet.start("c", "tests.apps.plain", ["exit", 0]).wait(60)
        eventually(lambda: set(family(launcher().pid)) <= known)
        assert fleet.names == ["a"]


def test_forty_processes_start_from_the_warmed_parent(tmp_path):
    launcher().ready.wait(60)
    with Fleet(tmp_path) as fleet:
        started = time.perf_counter()
        pids = [fleet.start(f"p{number}", "tests.apps.plain", ["stay"]).pid for number in range(40)]
        took = time.perf_counter() - started
        eventually(lambda: all(fleet[name].tail() for name in fleet.names))
        print(f"40 processes forked in {took:.2f} s, all running after {time.perf_counter() - started:.2f} s")
        assert all(psutil.pid_exists(pid) for pid in pids)
        assert len(fleet.names) == 40
    eventually(lambda: gone(pids))

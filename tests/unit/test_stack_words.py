"""Names, addresses and files of the stack."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from labs import stack as labs_stack
from labs.stack import Stack, StackError, attach, embedded, files, model, processes, workbook
from tests.homes import until


def test_two_homes_have_different_names_and_one_home_always_the_same() -> None:
    here, there = Path("/a/home"), Path("/b/home")
    assert model.workbook_id(here) == model.workbook_id(Path("/a/home"))
    assert model.database_name(here) != model.database_name(there)
    assert model.project_name(here) == "labs-" + model.workbook_id(here)


@pytest.mark.parametrize(
    ("server", "mine"),
    [
        ("postgresql://u:p@h:5/postgres", "postgresql+psycopg://u:p@h:5/labs_1"),
        ("postgresql+psycopg://u@h/labs", "postgresql+psycopg://u@h/labs_1"),
        ("postgres://u:p%40@h:5/x?sslmode=require", "postgresql+psycopg://u:p%40@h:5/labs_1?sslmode=require"),
    ],
)
def test_a_database_address_keeps_everything_but_the_database(server: str, mine: str) -> None:
    assert workbook.postgres_url(server, "labs_1") == mine


def test_a_redis_address_keeps_everything_but_the_number() -> None:
    assert workbook.redis_url("redis://:p@h:6379/0", 3) == "redis://:p@h:6379/3"
    assert workbook.redis_url("rediss://h:6379", 3) == "rediss://h:6379/3"


def test_a_private_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "secret.json"
    files.write_private(path, {"password": "p"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert files.read(path) == {"password": "p"}
    assert [file.name for file in tmp_path.iterdir()] == ["secret.json"]


def test_a_damaged_file_reads_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "keeper.json"
    path.write_text('{"port": 1')
    assert files.read(path) == {}
    assert files.read(tmp_path / "missing.json") == {}


def test_a_lock_is_held_by_one_and_free_again_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with files.locked(path, 0, "first"), pytest.raises(StackError, match="second"), files.locked(path, 0, "second"):
        pass
    with files.locked(path, 0, "third"):
        pass


def test_the_telling_line_of_a_log_is_its_error(tmp_path: Path) -> None:
    log = tmp_path / "postgres.log"
    log.write_text("old FATAL: before\n")
    at = log.stat().st_size
    with log.open("a") as file:
        file.write("LOG: starting\nFATAL: could not write: No space left on device\nLOG: shut down\n")
    assert files.last_line(log, at) == "FATAL: could not write: No space left on device"
    assert files.last_line(tmp_path / "none.log") == "no log was written"


def test_a_process_is_recognised_by_its_number_and_its_birth() -> None:
    mine = processes.identity(os.getpid())
    assert processes.alive(mine).pid == os.getpid()
    assert processes.alive({**mine, "created": mine["created"] - 100}) is None
    assert processes.alive(None) is None


def test_a_zombie_does_not_count_as_alive() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        known = processes.identity(child.pid)
        assert processes.alive(known)
        child.stdin.close()
        until(lambda: processes.alive(known) is None, "the end of the child, uncollected")
        assert child.returncode is None


def test_a_process_that_ignores_the_polite_signal_is_killed() -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        processes.end([processes.alive(processes.identity(child.pid))], patience=0.2)
        assert child.wait() == -9


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only on Linux has a process a death signal")
def test_a_leashed_child_dies_with_its_parent() -> None:
    code = (
        "import subprocess, sys; from labs.stack import processes\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
        " preexec_fn=processes.dies_with_parent())\n"
        "print(child.pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        child = processes.identity(int(parent.stdout.readline()))
        assert child
        parent.kill()
        until(lambda: processes.alive(child) is None, "the end of the child")


def test_without_any_redis_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.shutil, "which", lambda name: None)
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StackError, match=r"No Redis 6\.2 or newer .* `apt install redis-server`.*--services compose"):
        embedded.redis_binary()


def test_a_redis_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, version in {"redis-server": "6.0.16", "valkey-server": "8.1.1"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho 'Server v={version} sha=0'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert embedded.redis_binary() == (str(tmp_path / "valkey-server"), "valkey-server on PATH")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only on Linux is a process's start free of the clock")
def test_a_process_stays_the_same_when_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, boot = processes.identity(os.getpid()), psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot + 3600)
    assert processes.alive(mine).pid == os.getpid()
    assert processes.identity(os.getpid()) == mine


def test_stopping_another_workbook_keeps_the_lease_on_this_one(
    home: Path, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = labs_stack.up()
    lease = attach._lease
    monkeypatch.setenv("LABS_HOME", str(tmp_path))
    labs_stack.down()
    monkeypatch.setenv("LABS_HOME", str(home))
    assert attach._lease is lease
    assert labs_stack.up() == before


def test_up_from_many_threads_gives_one_stack(stack: Stack) -> None:
    up, found = labs_stack.up(), []
    threads = [threading.Thread(target=lambda: found.append(labs_stack.up())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [up] * 8
    assert labs_stack.current() == up


def test_a_log_that_has_grown_too_long_is_emptied_and_the_others_are_kept(tmp_path: Path) -> None:
    long, short = files.logs(tmp_path) / "long.log", files.logs(tmp_path) / "short.log"
    long.write_bytes(b"x" * (files.LOG_LIMIT + 1))
    short.write_text("LOG: kept\n")
    files.shorten_logs(tmp_path)
    assert long.stat().st_size == 0
    assert short.read_text() == "LOG: kept\n"


def test_a_reset_where_nothing_runs_removes_the_old_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABS_HOME", str(tmp_path))
    monkeypatch.setenv("LABS_SERVICES", "embedded")
    (tmp_path / "stack" / "postgres" / "base").mkdir(parents=True)
    labs_stack.reset()
    assert not (tmp_path / "stack" / "postgres").exists()

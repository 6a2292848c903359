"""The servers live exactly as long as somebody needs them, and come back from whatever is done to them."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys

import psutil
import psycopg
import pytest

from labs.stack import files
from labs.stack.embedded import Embedded
from tests.homes import Workbook, running, until, until_gone

pytestmark = pytest.mark.live

QUERY = """
import psycopg
from labs import stack
with psycopg.connect(stack.up().postgres.url.replace("+psycopg", "")) as connection:
    print(connection.execute("SELECT 6 * 7").fetchone()[0])
"""


def test_a_killed_kernel_leaves_no_process(workbook: Workbook) -> None:
    kernel = workbook.hold()
    everything = workbook.processes()
    assert {kernel.stack[name]["pid"] for name in ("postgres", "redis", "fcm")} <= {p.pid for p in everything}

    kernel.kill()

    until_gone(everything)
    assert workbook.processes() == []


def test_the_servers_stay_until_the_last_of_two_kernels_has_gone(workbook: Workbook) -> None:
    first, second = workbook.hold(), workbook.hold()
    assert first.stack == second.stack
    everything = workbook.processes()

    first.kill()
    answer = workbook.run(QUERY)
    assert answer.stdout.strip() == "42", answer.stderr
    assert workbook.keeper() is not None

    second.leave()
    until_gone(everything)


def test_a_child_that_inherits_the_connection_does_not_keep_the_servers_alive(workbook: Workbook) -> None:
    code = (
        "import os, sys, time; from labs import stack; up = stack.up()\n"
        "child = os.fork()\n"
        "if child == 0:\n    time.sleep(600)\n"
        "print(child, flush=True)\ntime.sleep(600)"
    )
    kernel = workbook.start("-c", code)
    child = psutil.Process(int(kernel.stdout.readline()))
    everything = workbook.processes()
    try:
        kernel.kill()
        kernel.wait()
        until_gone(everything)
        assert child.is_running()
    finally:
        child.kill()


def test_two_workbooks_at_once_share_nothing(workbook: Workbook, another_workbook: Workbook) -> None:
    here, there = workbook.hold(), another_workbook.hold()

    for name in ("postgres", "redis", "fcm"):
        assert here.stack[name]["pid"] != there.stack[name]["pid"]
        assert here.stack[name]["url"] != there.stack[name]["url"]
    theirs = another_workbook.servers()
    here.kill()
    until(lambda: not workbook.processes(), "the end of the first workbook")

    assert running(theirs) == theirs
    assert another_workbook.run(QUERY).stdout.strip() == "42"


def test_a_server_killed_in_mid_run_is_named_and_reset_brings_it_back(workbook: Workbook) -> None:
    kernel = workbook.hold()
    titles = {"postgres": "PostgreSQL", "redis": "Redis", "fcm": "The push server"}
    for name, title in titles.items():
        before = kernel.stack[name]
        os.kill(before["pid"], signal.SIGKILL)
        until(lambda name=name: status(workbook)[name] is None, f"{name} reported as stopped")
        refused = workbook.run("from labs import stack; stack.up()")
        assert refused.returncode != 0
        last = refused.stderr.strip().splitlines()[-1]
        assert last.endswith(f"{title} has stopped unexpectedly; `python3 -m labs reset` starts it again.")

        reset = workbook.labs("reset")
        assert reset.returncode == 0, reset.stderr
        after = status(workbook)[name]
        assert after["pid"] != before["pid"]
        assert after["url"] == before["url"]  # whoever is connected by address finds it again
    answer = workbook.run(QUERY)
    assert answer.stdout.strip() == "42", answer.stderr


def status(workbook: Workbook) -> dict[str, dict | None]:
    """Return what ``labs status --json`` says."""
    return json.loads(workbook.labs("status", "--json").stdout)


def test_reset_empties_the_database_and_redis_and_the_password_is_needed(workbook: Workbook) -> None:
    kernel = workbook.hold()
    write = (
        "import psycopg, redis; from labs import stack; up = stack.up()\n"
        "c = psycopg.connect(up.postgres.url.replace('+psycopg', ''), autocommit=True)\n"
        "c.execute('CREATE TABLE posts (id int)'); redis.Redis.from_url(up.redis.url).set('k', 'v')\n"
        "stack.reset()\n"
        "c = psycopg.connect(up.postgres.url.replace('+psycopg', ''), autocommit=True)\n"
        "print(c.execute(\"SELECT to_regclass('posts')\").fetchone()[0], redis.Redis.from_url(up.redis.url).dbsize())"
    )
    done = workbook.run(write)
    assert done.stdout.strip() == "None 0", done.stderr

    for name in ("keeper.json", "secret.json"):
        assert (workbook.home / "stack" / name).stat().st_mode & 0o077 == 0
    url = kernel.stack["postgres"]["url"].replace("+psycopg", "")
    password = files.secret(workbook.home)
    assert password in url
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url.replace(password, "guessed"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only on Linux do servers die with a killed keeper")
def test_a_killed_keeper_takes_its_servers_with_it_and_the_next_start_works(workbook: Workbook) -> None:
    workbook.hold()
    everything = workbook.processes()

    workbook.keeper().kill()

    until_gone(everything)
    answer = workbook.run(QUERY)
    assert answer.stdout.strip() == "42", answer.stderr


def test_a_data_folder_left_by_a_crash_starts_again_with_its_data(workbook: Workbook) -> None:
    keep = workbook.run(
        "import psycopg; from labs import stack\n"
        "c = psycopg.connect(stack.up().postgres.url.replace('+psycopg', ''), autocommit=True)\n"
        "c.execute('CREATE TABLE kept AS SELECT 1 AS id'); c.execute('CHECKPOINT')\n"
        "import json, os, signal; from labs.stack import files; import labs\n"
        "folder = files.folder(labs.home())\n"
        "pids = [k['pid'] for k in files.read(folder / 'servers.json')['servers']]\n"
        "pids.append(files.read(folder / 'keeper.json')['keeper']['pid'])\n"
        "[os.kill(pid, signal.SIGSTOP) for pid in pids]; [os.kill(pid, signal.SIGKILL) for pid in pids]"
    )
    assert keep.returncode == 0, keep.stderr
    until(lambda: not running(workbook.processes()), "the end of the killed servers")
    # The number in the file now belongs to somebody else: to us.
    (workbook.home / "stack" / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n/nowhere\n0\n1\n")

    answer = workbook.run(
        "import psycopg; from labs import stack\n"
        "c = psycopg.connect(stack.up().postgres.url.replace('+psycopg', ''))\n"
        "print(c.execute('SELECT count(*) FROM kept').fetchone()[0])"
    )
    assert answer.stdout.strip() == "1", answer.stderr


def test_a_damaged_data_folder_is_made_again(workbook: Workbook) -> None:
    assert workbook.run(QUERY).returncode == 0
    until(lambda: not workbook.processes(), "the end of the first run")
    (workbook.home / "stack" / "postgres" / "global" / "pg_control").write_bytes(b"")

    answer = workbook.run(QUERY)
    assert answer.stdout.strip() == "42", answer.stderr


def test_a_data_folder_that_was_never_finished_is_made_again(new_workbook: Workbook) -> None:
    unfinished = new_workbook.home / "stack" / "postgres.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")

    answer = new_workbook.run(QUERY)
    assert answer.stdout.strip() == "42", answer.stderr
    assert not unfinished.exists()


def test_kernels_that_start_together_get_the_same_servers(new_workbook: Workbook) -> None:
    code = (
        "import json; from labs import stack; up = stack.up()\n"
        "print(json.dumps([(s.url, s.pid) for s in up.services]), flush=True); input()"
    )
    kernels = [new_workbook.start("-c", code) for _ in range(4)]

    answers = {kernel.stdout.readline() for kernel in kernels}

    assert len(answers) == 1
    assert answers != {""}, [kernel.communicate()[1] for kernel in kernels]


def test_a_kernel_killed_while_it_starts_the_servers_leaves_nothing(new_workbook: Workbook) -> None:
    kernel = new_workbook.start(
        "-c", "from labs import stack; stack.up(progress=lambda line: print(line, flush=True)); input()"
    )
    kernel.stdout.readline()  # "Starting ...": its keeper is about to run
    until((new_workbook.home / "stack" / "servers.json").exists, "the first server")
    started = new_workbook.processes()
    kernel.kill()
    kernel.wait()

    until(lambda: not running(started) and not new_workbook.processes(), "the end of what was being started")
    answer = new_workbook.run(QUERY)
    assert answer.stdout.strip() == "42", answer.stderr


def test_down_stops_everything_at_once_and_up_starts_it_again(workbook: Workbook) -> None:
    workbook.hold()
    everything = workbook.processes()

    down = workbook.run("from labs import stack; stack.down(); print(stack.current())")

    assert down.stdout.strip() == "None", down.stderr
    assert running(everything) == []
    assert workbook.run(QUERY).stdout.strip() == "42"


class _Unlucky(Embedded):
    """Servers whose first choice of a port is snatched away by somebody else."""

    def __init__(self, *arguments, taken: int) -> None:
        super().__init__(*arguments)
        self.unlucky = {"postgres": taken, "redis": taken}

    def _port(self, name: str) -> int:
        return self.unlucky.pop(name, None) or super()._port(name)


def test_a_port_taken_at_the_last_moment_is_replaced_by_another(workbook: Workbook) -> None:
    async def start_and_stop(taken: int) -> dict:
        servers = _Unlucky(workbook.home, print, taken=taken)
        try:
            await servers.start()
            return servers.status()
        finally:
            await servers.stop()

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        status = asyncio.run(start_and_stop(port))

    assert {facts["state"] for facts in status.values()} == {"running"}
    assert all(f":{port}" not in facts["url"] for facts in status.values())


def test_without_a_redis_the_start_fails_in_one_sentence_and_leaves_nothing(workbook: Workbook) -> None:
    code = (
        "import sys, shutil; from pathlib import Path; from labs.stack import embedded, files, keeper\n"
        "embedded.redis_binary_version = lambda path: (5, 0)\n"
        "sys.exit(keeper.main(sys.argv[1:]))"
    )
    done = workbook._to_the_end("-c", code, str(workbook.home), "embedded")

    assert done.returncode == 1
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told[-1]["error"].startswith("No Redis 6.2 or newer for this platform; install it")
    assert not running(workbook.processes())
    assert not (workbook.home / "stack" / "keeper.json").exists()


def test_a_home_that_cannot_be_written_is_refused_in_one_sentence(workbook: Workbook) -> None:
    file = workbook.home / "file"
    file.write_text("")
    done = workbook.labs("status", LABS_HOME=str(file))
    assert done.returncode == 0  # nothing runs there, and looking does no harm
    refused = workbook.run("from labs import stack; stack.up()", LABS_HOME=str(file))
    assert "set LABS_HOME to a folder you own" in refused.stderr.strip().splitlines()[-1]
    shutil.rmtree(workbook.home / "stack", ignore_errors=True)

"""Workbooks on servers that others run: everybody has a place of their own there, and nobody stops the servers."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.homes import Holder, Workbook

pytestmark = pytest.mark.live

PLACE = """
import json
from labs import stack
up = stack.up()
print(json.dumps({"postgres": up.postgres.url, "redis": up.redis.url, "project": up.project, "mode": up.mode,
                  "origin": up.redis.origin, "pid": up.redis.pid}))
"""

WRITE = """
import psycopg, redis
from labs import stack
up = stack.up()
with psycopg.connect(up.postgres.url.replace("+psycopg", ""), autocommit=True) as connection:
    connection.execute("CREATE TABLE kept AS SELECT 1 AS id")
redis.Redis.from_url(up.redis.url).set("kept", 1)
"""

LOOK = """
import psycopg, redis
from labs import stack
up = stack.up()
with psycopg.connect(up.postgres.url.replace("+psycopg", "")) as connection:
    tables = connection.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'kept'").fetchone()[0]
print(tables, redis.Redis.from_url(up.redis.url).dbsize())
"""


def shared(host: Holder) -> dict[str, str]:
    """Return the variables that send a workbook to the servers of ``host``."""
    urls = {f"LABS_{name.upper()}_URL": facts["url"] for name, facts in host.stack.items()}
    return {"LABS_SERVICES": "url", **urls}


@pytest.fixture(scope="module")
def owner(used_home: Path) -> Iterator[Workbook]:
    """The workbook of somebody else, who lets others use its servers."""
    with Workbook(like=used_home) as made:
        yield made


@pytest.fixture(scope="module")
def host(owner: Workbook) -> Holder:
    """The servers of that somebody else."""
    return owner.hold()


def test_each_workbook_has_its_own_place_on_shared_servers(workbook: Workbook, host: Holder) -> None:
    address = shared(host)
    places = []
    for name in ("one", "two"):
        done = workbook.run(PLACE, LABS_HOME=str(workbook.home / name), **address)
        assert done.returncode == 0, done.stderr
        places.append(json.loads(done.stdout))

    for what in ("postgres", "redis", "project"):
        taken = {host.stack.get(what, {}).get("url"), *(place[what] for place in places)}
        assert len(taken) == 3
    assert places[0]["mode"] == "url"
    assert places[0]["origin"] == "LABS_REDIS_URL"
    assert places[0]["pid"] is None
    again = workbook.run(PLACE, LABS_HOME=str(workbook.home / "one"), **address)
    assert json.loads(again.stdout) == places[0]


def test_a_reset_on_shared_servers_leaves_the_others_alone(workbook: Workbook, owner: Workbook, host: Holder) -> None:
    address = shared(host)
    for theirs in (owner.run(WRITE), workbook.run(WRITE, **address)):
        assert theirs.returncode == 0, theirs.stderr

    reset = workbook.labs("reset", **address)

    assert reset.returncode == 0, reset.stderr
    assert workbook.run(LOOK, **address).stdout.split() == ["0", "0"]
    assert owner.run(LOOK).stdout.split() == ["1", "1"]


def test_stopping_a_workbook_does_not_stop_shared_servers(workbook: Workbook, owner: Workbook, host: Holder) -> None:
    address = shared(host)
    status = json.loads(workbook.labs("status", "--json", **address).stdout)
    assert status["postgres"]["origin"] == "LABS_POSTGRES_URL"

    assert workbook.labs("stop", **address).returncode == 0

    after = json.loads(owner.labs("status", "--json").stdout)
    assert {name: after[name]["pid"] for name in host.stack} == {n: f["pid"] for n, f in host.stack.items()}


def test_a_missing_address_is_named(workbook: Workbook) -> None:
    done = workbook.run("from labs import stack; stack.up()", LABS_SERVICES="url", LABS_REDIS_URL="redis://127.0.0.1:1")
    last = done.stderr.strip().splitlines()[-1]
    assert "Services by URL need LABS_POSTGRES_URL and LABS_FCM_URL" in last


def test_a_server_that_does_not_answer_is_named(workbook: Workbook) -> None:
    nowhere = {
        "LABS_POSTGRES_URL": "postgresql+psycopg://labs@127.0.0.1:1/labs",
        "LABS_REDIS_URL": "redis://127.0.0.1:1/0",
        "LABS_FCM_URL": "http://127.0.0.1:1",
    }
    done = workbook.labs("reset", LABS_SERVICES="url", **nowhere)
    assert done.returncode == 1
    assert done.stderr.startswith("PostgreSQL does not answer (")
    assert len(done.stderr.strip().splitlines()) == 1


def test_services_of_another_kind_are_refused(workbook: Workbook) -> None:
    done = workbook.run("from labs import stack; stack.up('cloud')")
    assert "services is 'cloud'; it can be embedded, compose, url." in done.stderr

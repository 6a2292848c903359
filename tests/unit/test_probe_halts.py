"""Halts: a thread of the system stops right after a commit, for the lab to kill its process there."""

import urllib.request
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from labs.kit.fleet import Fleet, FleetError, free_port
from labs.kit.probe_halts import writes
from tests.running import PATIENCE, eventually, running

ORDER, PAY = "POST /orders", "POST /payments"


@pytest.fixture
def database(stack):
    """A connection to a database with an empty table of orders."""
    with psycopg.connect(stack.postgres.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id serial PRIMARY KEY, paid boolean NOT NULL)")
        yield connection
        connection.execute("DROP TABLE orders")


@pytest.fixture
def run(tmp_path, database):
    with running(tmp_path) as run:
        yield run


@pytest.fixture
def users():
    """Threads that ask while the test looks."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def shop(run, stack):
    """Start a pod of the shop, wait until it serves, and return its address."""

    def start(name="api", **env):
        port = free_port()
        env |= {"DATABASE_URL": stack.postgres.url, "SENT": run.folder / "sent"}
        run.fleet.gunicorn(name, "tests.apps.orders:app", port, threads=8, env=env)
        run.fleet.wait_for_port("127.0.0.1", port, timeout=PATIENCE, process=name)
        return f"http://127.0.0.1:{port}"

    return start


def ask(address, what):
    method, path = what.split()
    try:
        with urllib.request.urlopen(urllib.request.Request(address + path, method=method), timeout=PATIENCE) as answer:
            return answer.status
    except OSError:
        return None


def halted(run):
    return run.recorder.live()["halted"]


def sent(run):
    file = run.folder / "sent"
    return file.read_text().split() if file.exists() else []


def orders(database):
    return database.execute("SELECT count(*) FROM orders").fetchone()[0]


@pytest.mark.parametrize("tracing", ["on", "off"])
def test_a_pod_killed_where_it_halted_has_committed_and_done_nothing_after(run, database, shop, users, tracing):
    address = shop(LABS_TRACE=tracing)
    run.fleet.tell_probes(halt={"after": "commit", "by": ORDER})
    asked = users.submit(ask, address, ORDER)
    (told,) = eventually(lambda: halted(run))
    assert {key: told[key] for key in ("pod", "by", "after")} == {"pod": "api", "by": ORDER, "after": "commit"}
    assert orders(database) == 1
    run.fleet.kill("api")
    assert asked.result() is None
    assert sent(run) == []
    assert [line["at"] for line in run.events("halted")] == [told["at"]]


def test_a_pod_started_again_does_not_halt_for_the_same_order(run, database, shop, users):
    address = shop()
    run.fleet.tell_probes(halt={"after": "commit", "by": ORDER})
    users.submit(ask, address, ORDER)
    eventually(lambda: halted(run))
    run.fleet.kill("api")
    assert ask(shop(), ORDER) == 200
    assert len(halted(run)) == 1
    assert len(sent(run)) == 1


def test_one_thread_of_one_pod_halts_and_the_others_go_on_until_it_is_let_go(run, database, shop, users):
    addresses = [shop("api-1"), shop("api-2")]
    run.fleet.tell_probes(halt={"after": "commit", "by": ORDER})
    asked = [users.submit(ask, address, ORDER) for address in addresses * 3]
    eventually(lambda: len(sent(run)) == 5 and halted(run))
    assert orders(database) == 6
    assert len(halted(run)) == 1
    # Another setting of the probes leaves it where it is.
    run.fleet.tell_probes(db_latency=0.001)
    assert [ask(address, ORDER) for address in addresses] == [200, 200]
    assert [each.done() for each in asked].count(False) == 1
    run.fleet.tell_probes(halt=None)
    assert [each.result() for each in asked] == [200] * 6
    assert len(sent(run)) == 8


def test_only_the_route_that_was_named_halts_and_only_where_it_wrote(run, database, shop, users):
    address = shop()
    run.fleet.tell_probes(halt={"after": "commit", "by": PAY})
    assert ask(address, PAY) == 200  # no order is there to be changed
    for by in ("GET /orders", "POST /refusals", PAY):
        run.fleet.tell_probes(halt={"after": "commit", "by": by})
        assert [ask(address, what) for what in ("GET /orders", "POST /refusals", ORDER)] == [200] * 3
    assert halted(run) == []
    # Now there are orders that a payment can change; this one is committed without the ORM.
    asked = users.submit(ask, address, PAY)
    assert [each["by"] for each in eventually(lambda: halted(run))] == [PAY]
    assert database.execute("SELECT bool_and(paid) FROM orders").fetchone() == (True,)
    run.fleet.tell_probes(halt=None)
    assert asked.result() == 200


def test_each_order_halts_once_and_they_are_told_in_order(run, database, shop, users):
    address = shop()
    assert ask(address, ORDER) == 200
    for by in (ORDER, PAY, ORDER):
        before = len(halted(run))
        run.fleet.tell_probes(halt={"after": "commit", "by": by})
        asked = users.submit(ask, address, by)
        eventually(lambda before=before: len(halted(run)) > before)
        run.fleet.tell_probes(halt=None)
        assert asked.result() == 200
    assert [each["by"] for each in halted(run)] == [ORDER, PAY, ORDER]


@pytest.mark.parametrize("halt", [{"after": "lunch", "by": ORDER}, {"after": "commit"}, "commit"])
def test_an_order_that_is_none_is_refused_in_a_sentence(tmp_path, halt):
    with Fleet(tmp_path) as fleet, pytest.raises(FleetError, match=r"halt is .*; it can be None or \{.after"):
        fleet.tell_probes(halt=halt)


@pytest.mark.parametrize(
    ("statement", "wrote"),
    [
        ("INSERT INTO orders VALUES (1)", True),
        ("  update orders SET paid = true", True),
        ("WITH old AS (DELETE FROM orders RETURNING id) SELECT count(*) FROM old", True),
        ("WITH o AS (SELECT 1) UPDATE orders AS x SET paid = true FROM o", True),
        ("SELECT id FROM orders FOR UPDATE SKIP LOCKED", False),
        ("WITH o AS (SELECT id FROM orders FOR UPDATE) SELECT * FROM o", False),
        ("SELECT update FROM settings", False),
    ],
)
def test_a_statement_that_writes_is_known_by_its_text(statement, wrote):
    assert writes(statement) is wrote

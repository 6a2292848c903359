"""The pool box on a real PostgreSQL, without a browser."""

import threading
import time

import pytest
from sqlalchemy import create_engine, text

from labs.kit.poolbox import PoolBox, PoolBoxError

LONG = 30.0  # seconds; only ever waited for when something is broken


@pytest.fixture
def url(stack):
    """The address of a real PostgreSQL."""
    return stack.postgres.url


@pytest.fixture
def box(url):
    with PoolBox(url, size=3, timeout=60) as box:
        yield box


def until(condition):
    """Wait until ``condition()`` is true."""
    give_up = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.01)


def holders(box):
    """Return who holds each connection."""
    return [slot and slot["borrower"] for slot in box.state()["slots"]]


def in_line(box):
    """Return who waits, the first first."""
    return [each["borrower"] for each in box.state()["waiting"]]


def borrow(box, count):
    """Send ``count`` borrowers, each when the one before has found its place."""
    for _ in range(count):
        number = box.borrow()
        if sum(slot is not None for slot in box.state()["slots"]) < box.state()["size"]:
            until(lambda number=number: number in holders(box))


def test_three_borrowers_hold_three_server_processes_and_the_fourth_waits(box):
    borrow(box, 4)
    until(lambda: in_line(box) == [4])
    state = box.state()
    assert holders(box) == [1, 2, 3]
    assert len({slot["pid"] for slot in state["slots"]}) == 3
    assert box.sentence().startswith("3 of 3 connections borrowed, 1 waiting, the first for ")


def test_the_server_sees_exactly_the_connections_on_the_screen(box, url):
    borrow(box, 2)
    pids = [slot["pid"] for slot in box.state()["slots"] if slot]
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(
            text("select pid, state from pg_stat_activity where pid = any(:pids)"), {"pids": pids}
        )
        assert sorted(map(tuple, rows)) == sorted((pid, "idle") for pid in pids)
    engine.dispose()


def test_a_connection_given_back_goes_to_the_first_in_line_through_the_same_server_process(box):
    borrow(box, 3)
    for number in (4, 5):
        assert box.borrow() == number
        until(lambda number=number: number in in_line(box))
    before = box.state()["slots"][1]["pid"]
    box.give_back(2)
    until(lambda: holders(box) == [1, 4, 3])
    assert in_line(box) == [5]
    assert box.state()["slots"][1]["pid"] == before


def test_a_given_back_connection_stays_open_and_is_lent_again(box):
    borrow(box, 1)
    pid = box.state()["slots"][0]["pid"]
    box.give_back(1)
    until(lambda: holders(box) == [None] * 3)
    assert box.state()["pids"] == [pid, None, None]


def test_who_waits_too_long_gets_sqlalchemys_own_error(url):
    with PoolBox(url, size=1, timeout=0.2) as box:
        borrow(box, 2)
        until(lambda: box.state()["timed_out"])
        [gone] = box.state()["timed_out"]
        assert gone["borrower"] == 2
        assert gone["waited"] >= 0.2
        assert gone["message"].startswith("QueuePool limit of size 1 overflow 0 reached, connection timed out")
        assert holders(box) == [1]
        assert in_line(box) == []


def test_the_time_a_connection_has_been_held_grows(box):
    borrow(box, 1)
    first = box.state()["slots"][0]["held"]
    until(lambda: box.state()["slots"][0]["held"] > first)


def test_starting_over_sends_everybody_home(box):
    borrow(box, 5)
    box.start_over()
    until(lambda: holders(box) == [None] * 3 and in_line(box) == [])
    assert box.sentence() == "0 of 3 connections borrowed, nobody waiting."


@pytest.mark.parametrize(
    ("slot", "complaint"),
    [
        (1, "Connection 1 is free: nobody holds it."),
        (0, "slot must be a whole number from 1 to 3, not 0."),
        (4, "slot must be a whole number from 1 to 3, not 4."),
        ("1", "slot must be a whole number from 1 to 3, not '1'."),
    ],
)
def test_giving_back_what_nobody_holds_is_refused_kindly(box, slot, complaint):
    with pytest.raises(PoolBoxError) as refusal:
        box.give_back(slot)
    assert str(refusal.value) == complaint


@pytest.mark.parametrize("bad", [{"size": 0}, {"size": 101}, {"size": 2.5}, {"timeout": 0}, {"timeout": "30"}])
def test_a_pool_that_makes_no_sense_is_refused_by_name(bad):
    [(name, value)] = bad.items()
    with pytest.raises(PoolBoxError, match=f"^{name} must be .* not {value!r}"):
        PoolBox("postgresql+psycopg://127.0.0.1:1/nowhere", **bad)


def test_clicks_in_the_browser_do_what_the_methods_do(box):
    box._handle_custom_msg({"kind": "borrow"}, [])
    until(lambda: holders(box) == [1, None, None])
    box._handle_custom_msg({"kind": "give_back", "slot": 1}, [])
    until(lambda: holders(box) == [None] * 3)
    box._handle_custom_msg({"kind": "give_back", "slot": 1}, [])
    until(lambda: box.state_shown["notice"] == "Connection 1 is free: nobody holds it.")


def test_closing_closes_every_connection_at_the_server_and_ends_every_thread(url):
    box = PoolBox(url, size=2, timeout=60)
    borrow(box, 4)
    pids = [slot["pid"] for slot in box.state()["slots"]]
    box.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("borrower", "pool box"))]
    engine = create_engine(url)
    with engine.connect() as connection:
        query = text("select count(*) from pg_stat_activity where pid = any(:pids)")
        until(lambda: connection.execute(query, {"pids": pids}).scalar() == 0)
    engine.dispose()
    with pytest.raises(PoolBoxError, match="This pool is closed"):
        box.borrow()


def test_running_the_cell_again_closes_the_earlier_box(url):
    first = PoolBox(url, timeout=60)
    borrow(first, 1)
    with PoolBox(url, timeout=60) as second:
        assert first.state_shown["closed"] is True
        assert holders(first) == [None] * 3
        assert second.state_shown["closed"] is False


def test_a_code_host_shows_the_last_sentence_and_a_picture_can_be_drawn(box, tmp_path):
    borrow(box, 2)
    bundle = box._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert data["text/plain"] == "[pool box] 2 of 3 connections borrowed, nobody waiting."
    assert box.picture().save(tmp_path / "box.png", dpi=40).read_bytes().startswith(b"\x89PNG")


def test_a_settled_box_has_lent_what_it_can(stack):
    with PoolBox(stack.postgres.url, size=2, timeout=30) as box:
        for _ in range(3):
            box.borrow()
        assert box.settle()
        state = box.state()
    assert all(state["slots"])
    assert len(state["waiting"]) == 1

"""Little's law: what the pool's events say and what the borrowers' stopwatches say."""

import time

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import QueuePool

from labs.kit import littles_law
from labs.kit.littles_law import Borrowing, Measured


def test_the_pool_and_the_borrowers_stopwatches_agree(stack):
    measured = littles_law.measure(stack.postgres.url, rate=40, hold=0.05, seconds=1)
    assert measured.refused == 0
    assert measured.size == 3
    assert measured.in_use == pytest.approx(measured.by_the_law, abs=0.5)
    assert measured.verdict()["rate x hold and the pool agree"] is True


def test_a_pool_that_is_asked_for_too_much_refuses_and_is_never_more_than_full(stack):
    measured = littles_law.measure(stack.postgres.url, rate=40, hold=0.5, size=1, seconds=0.5, timeout=0.05)
    assert measured.refused > 0
    assert 0 < measured.in_use <= 1
    assert measured.share_that_waited > 0


def test_the_pools_events_are_added_up_however_long_nobody_looks(stack):
    engine = create_engine(stack.postgres.url, poolclass=QueuePool, pool_size=2, max_overflow=0)
    engine.connect().close()
    start = time.monotonic()
    tally = littles_law._Tally(engine, start)
    taken = time.monotonic()
    with engine.connect():
        inside = time.monotonic()
        time.sleep(0.2)
        last_inside = time.monotonic()
    returned = time.monotonic()
    time.sleep(0.2)
    in_use, lasted = tally.read()
    engine.dispose()
    assert last_inside - inside <= in_use * lasted <= returned - taken


def test_the_table_says_who_waited():
    served = (Borrowing(0.0, 0.0005, 0.1), Borrowing(0.1, 0.3, 0.4), Borrowing(0.5, 0.5, 0.6))
    visits = (*served, Borrowing(0.2, None, None))
    measured = Measured(size=1, rate=4, hold=0.1, lasted=1.0, in_use=0.3, borrowings=visits)
    said = {what: value for what, value, _ in measured.table().rows}
    assert said["waited more than 1 ms"] == "50%"
    assert said["longest wait"] == "200 ms"
    assert measured.verdict()["requests refused"] == 1

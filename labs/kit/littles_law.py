"""Little's law on a real connection pool: connections in use = arrival rate x hold time.

Borrowers arrive at random moments whether or not the pool has room (an open loop), hold a connection of a real
PostgreSQL for a fixed time and give it back. Two independent observations are compared: how many connections were
out by the pool's own events, and what the borrowers' own stopwatches add up to.
"""

import random
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from labs.kit import charts
from labs.kit.table import Table, seconds
from labs.kit.verdict import Fact, Verdict

MOST_BORROWERS = 256  # threads that may wait at once; far more than a pool of 3 can make wait before they time out
AT_ONCE = 0.001  # seconds: who has a connection by then has not waited for one


@dataclass(frozen=True)
class Borrowing:
    """One visit to the pool, in seconds since the start: due, connection in hand, given back; None when refused."""

    due: float
    taken: float | None
    returned: float | None


@dataclass(frozen=True)
class Measured:
    """What one run saw.

    ``rate``: arrivals asked for, per second. ``hold``: hold time asked for, in seconds. ``in_use``: mean number of
    connections in use by the pool's own events. ``borrowings``: every visit.
    """

    size: int
    rate: float
    hold: float
    lasted: float
    in_use: float
    borrowings: tuple[Borrowing, ...]

    @property
    def offered(self) -> float:
        """Connections that the arrivals would keep in use if the pool had no limit: rate x hold, as asked for."""
        return self.rate * self.hold

    @property
    def served(self) -> list[Borrowing]:
        """The visits that got a connection."""
        return [b for b in self.borrowings if b.taken is not None]

    @property
    def refused(self) -> int:
        """How many visits ended in SQLAlchemy's pool time-out."""
        return len(self.borrowings) - len(self.served)

    @property
    def throughput(self) -> float:
        """Visits served per second."""
        return len(self.served) / self.lasted

    @property
    def mean_hold(self) -> float:
        """Mean seconds for which a connection was held, by the borrowers' stopwatches."""
        return statistics.fmean(b.returned - b.taken for b in self.served)

    @property
    def median_wait(self) -> float:
        """Median seconds from due to connection in hand, of the visits that were served."""
        return statistics.median(b.taken - b.due for b in self.served)

    @property
    def longest_wait(self) -> float:
        """Seconds from due to connection in hand of the visit that waited longest and was served."""
        return max(b.taken - b.due for b in self.served)

    @property
    def share_that_waited(self) -> float:
        """Share of all visits, 0 to 1, that had no connection 1 ms after they were due; the refused are among them."""
        return 1 - sum(b.taken - b.due <= AT_ONCE for b in self.served) / len(self.borrowings)

    @property
    def by_the_law(self) -> float:
        """Connections in use by Little's law: measured throughput x measured hold time."""
        return self.throughput * self.mean_hold

    def table(self) -> Table:
        """Return both sides of the law, as measured."""
        rows = [
            ("served a second", f"{self.throughput:.1f}", "counted"),
            ("held", seconds(self.mean_hold), "the borrowers' stopwatches, mean"),
            ("rate x hold", f"{self.by_the_law:.2f}", "Little's law"),
            ("connections in use", f"{self.in_use:.2f}", "the pool's own events, mean"),
            ("waited for a connection", seconds(self.median_wait), "from due to in hand, median"),
            ("longest wait", seconds(self.longest_wait), "from due to in hand"),
            ("waited more than 1 ms", f"{self.share_that_waited:.0%}", "share of the requests"),
        ]
        return Table(("what", "measured", "how"), rows)

    def verdict(self) -> Verdict:
        """Return the facts that are the same on every machine."""
        agrees = abs(self.in_use - self.by_the_law) < max(0.5, 0.1 * self.size)
        return Verdict(
            "Little's law on a real pool",
            [Fact("rate x hold and the pool agree", agrees), Fact("requests refused", self.refused)],
        )


def measure(
    url: str, rate: float, hold: float, size: int = 3, seconds: float = 5, timeout: float = 30, seed: int = 1
) -> Measured:
    """Let borrowers arrive for ``seconds`` at ``rate`` a second, each holding a connection for ``hold`` seconds.

    ``url``: SQLAlchemy URL of the database. ``timeout``: seconds a borrower waits for a connection.
    Returns what was measured, after the last borrower has left.
    """
    # Without a transaction nothing is sent at either end of a visit: a connection is out for as long as it is used.
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=timeout,
        isolation_level="AUTOCOMMIT",
    )
    try:
        _open_all(engine, size)
        return _measure(engine, rate, hold, seconds, seed)
    finally:
        engine.dispose()


def sweep(url: str, loads: tuple[float, ...], hold: float = 0.05, size: int = 3, seconds: float = 2) -> list[Measured]:
    """Measure one run for each of ``loads``, the share of the pool that the arrivals ask for (1.0 = all of it)."""
    return [measure(url, load * size / hold, hold, size, seconds) for load in loads]


def wait_chart(runs: list[Measured]) -> charts.Chart:
    """Draw the median wait against the load, both as measured; the title states the first and the last."""
    loads = [100 * run.offered / run.size for run in runs]
    waits = [seconds(run.median_wait) for run in runs]
    return charts.line_chart(
        loads,
        {"median wait": [1000 * run.median_wait for run in runs]},
        x_label="share of the pool asked for, %",
        y_label="median wait, ms",
        title=f"Median wait {waits[0]} at {loads[0]:.0f}% of the pool, {waits[-1]} at {loads[-1]:.0f}%",
    )


def _open_all(engine: Engine, size: int) -> None:
    """Connect before the clock starts: what is measured is borrowing, not dialling."""
    opened = [engine.connect() for _ in range(size)]
    for connection in opened:
        connection.close()


def _measure(engine: Engine, rate: float, hold: float, lasts: float, seed: int) -> Measured:
    due_times = _arrivals(rate, lasts, seed)
    with ThreadPoolExecutor(MOST_BORROWERS) as borrowers:
        start = time.monotonic()
        tally = _Tally(engine, start)
        visits = []
        for due in due_times:
            time.sleep(max(0.0, start + due - time.monotonic()))
            visits.append(borrowers.submit(_borrow, engine, start, due, hold))
        borrowings = tuple(visit.result() for visit in visits)
    in_use, lasted = tally.read()
    return Measured(engine.pool.size(), rate, hold, lasted, in_use, borrowings)


def _arrivals(rate: float, lasts: float, seed: int) -> list[float]:
    """Return random arrival times in [0, lasts), ``rate`` a second on average, the same for the same seed."""
    draw = random.Random(seed)
    times, now = [], draw.expovariate(rate)
    while now < lasts:
        times.append(now)
        now += draw.expovariate(rate)
    return times


def _borrow(engine: Engine, start: float, due: float, hold: float) -> Borrowing:
    try:
        with engine.connect() as connection:
            taken = time.monotonic() - start
            connection.execute(text("SELECT pg_sleep(:hold)"), {"hold": hold})
            returned = time.monotonic() - start
    except PoolTimeout:
        return Borrowing(due, None, None)
    return Borrowing(due, taken, returned)


class _Tally:
    """Adds up connection seconds over the pool's own events: exact, however seldom this process gets to run."""

    def __init__(self, engine: Engine, start: float) -> None:
        """Count from ``start``, by the monotonic clock. No connection may be out then."""
        self._counting = threading.Lock()
        self._start = self._last = start
        self._out = 0
        self._area = 0.0
        event.listen(engine, "checkout", lambda *_: self._change(+1))
        event.listen(engine, "checkin", lambda *_: self._change(-1))

    def _change(self, by: int) -> None:
        with self._counting:
            now = time.monotonic()
            self._area += self._out * (now - self._last)
            self._out += by
            self._last = now

    def read(self) -> tuple[float, float]:
        """Return the mean number of connections out, and the seconds over which it was taken: up to now."""
        self._change(0)
        lasted = self._last - self._start
        return self._area / lasted, lasted

"""Threads that borrow a connection from a pool and keep it until they are told to give it back."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import URL, Engine, create_engine
from sqlalchemy import exc as sqlalchemy_errors
from sqlalchemy.pool import QueuePool

CROWD = 60  # borrowers at once; each is a thread of this machine


class PoolBoxError(ValueError):
    """Something the pool box does not allow. The message is one sentence."""


@dataclass
class Borrower:
    """One thread's dealings with the pool. Times are wall seconds on the monotonic clock."""

    number: int
    asked: float
    got: float | None = None
    pid: int | None = None
    slot: int | None = None
    may_keep: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


class Borrowers:
    """A QueuePool of ``size`` connections (no overflow) and the threads that borrow from it.

    ``timeout``: wall seconds that a borrower waits in line before SQLAlchemy gives up for it. ``changed`` is called,
    from any thread, whenever something has changed.
    """

    def __init__(self, url: str | URL | Engine, size: int, timeout: float, changed: Callable[[], None]) -> None:
        self.size = whole("size", size, 1, 100)
        self.timeout = positive("timeout", timeout)
        address = url.url if isinstance(url, Engine) else url
        self.engine = create_engine(
            address, poolclass=QueuePool, pool_size=self.size, max_overflow=0, pool_timeout=self.timeout
        )
        self._changed = changed
        self._lock = threading.RLock()
        self._current: dict[int, Borrower] = {}
        self._slots: list[int | None] = [None] * self.size  # the server process behind each slot, once there is one
        self._timed_out: list[dict[str, Any]] = []
        self._count = 0
        self._closing = False

    def borrow(self) -> int:
        """Send another borrower to the pool and return its number, from 1, without waiting for it.

        Raises PoolBoxError when there is a crowd already, or after close.
        """
        with self._lock:
            if self._closing:
                raise PoolBoxError("This pool is closed; run its cell again to open it.")
            if len(self._current) >= CROWD:
                raise PoolBoxError(f"At most {CROWD} may hold a connection or wait for one at the same time.")
            self._count += 1
            borrower = Borrower(self._count, time.monotonic())
            self._current[borrower.number] = borrower
            name = f"borrower {borrower.number}"
            borrower.thread = threading.Thread(target=self._visit, args=(borrower,), name=name, daemon=True)
            borrower.thread.start()
        self._changed()
        return borrower.number

    def give_back(self, slot: int, wait: float = 5.0) -> None:
        """Make the borrower of ``slot`` (1 is the first) return its connection; wait until it has.

        Raises PoolBoxError when nobody holds that connection.
        """
        number = whole("slot", slot, 1, self.size)
        with self._lock:
            holder = next((each for each in self._current.values() if each.slot == number - 1), None)
        if holder is None:
            raise PoolBoxError(f"Connection {number} is free: nobody holds it.")
        holder.may_keep.set()
        if holder.thread is not None and wait:
            holder.thread.join(wait)

    def give_back_all(self) -> None:
        """Make every borrower leave, those in line as soon as they are served."""
        with self._lock:
            for borrower in self._current.values():
                borrower.may_keep.set()

    def forget_timeouts(self) -> None:
        """Forget who has given up waiting."""
        with self._lock:
            self._timed_out.clear()
        self._changed()

    def state(self) -> dict[str, Any]:
        """Return who holds what and who waits.

        ``slots``: for each connection None while it is free, else borrower, pid (of the PostgreSQL process behind
        it) and held. ``pids``: the process behind each connection, None while it has not been opened. ``waiting``:
        in the order of the line, borrower and waited. ``timed_out``: borrower, waited and SQLAlchemy's own message.
        All times in wall seconds.
        """
        now = time.monotonic()
        with self._lock:
            slots: list[dict[str, Any] | None] = [None] * self.size
            waiting = []
            for each in sorted(self._current.values(), key=lambda borrower: borrower.asked):
                if each.slot is None:
                    waiting.append({"borrower": each.number, "waited": now - each.asked})
                elif each.got is not None:
                    slots[each.slot] = {"borrower": each.number, "pid": each.pid, "held": now - each.got}
            return {
                "size": self.size,
                "timeout": self.timeout,
                "slots": slots,
                "pids": list(self._slots),
                "waiting": waiting,
                "timed_out": list(self._timed_out),
            }

    def close(self) -> None:
        """Send everybody home and close every connection."""
        with self._lock:
            self._closing = True
            there = list(self._current.values())
        self.give_back_all()
        for borrower in there:
            if borrower.thread is not None:
                borrower.thread.join(self.timeout + 5)
        self.engine.dispose()

    def _visit(self, borrower: Borrower) -> None:
        try:
            with self.engine.connect() as connection:
                self._serve(borrower, backend_pid(connection))
                borrower.may_keep.wait()
        except sqlalchemy_errors.TimeoutError as error:
            self._give_up(borrower, str(error))
        except sqlalchemy_errors.SQLAlchemyError as error:
            self._give_up(borrower, f"{type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._current.pop(borrower.number, None)
            self._changed()

    def _serve(self, borrower: Borrower, pid: int) -> None:
        with self._lock:
            taken = {each.slot for each in self._current.values() if each.slot is not None}
            if pid not in self._slots:
                unopened = [at for at, known in enumerate(self._slots) if known is None and at not in taken]
                free = unopened or [at for at in range(self.size) if at not in taken]
                self._slots[free[0]] = pid
            borrower.pid, borrower.slot, borrower.got = pid, self._slots.index(pid), time.monotonic()
        self._changed()

    def _give_up(self, borrower: Borrower, message: str) -> None:
        waited = time.monotonic() - borrower.asked
        with self._lock:
            self._timed_out.append({"borrower": borrower.number, "waited": waited, "message": message})
        self._changed()


def backend_pid(connection: Any) -> int:
    """Return the process number of the PostgreSQL server process behind ``connection``."""
    pid = connection.exec_driver_sql("select pg_backend_pid()").scalar_one()
    connection.rollback()  # an idle connection, not one that is idle in a transaction
    return pid


def whole(name: str, value: Any, low: int, high: int) -> int:
    """Return ``value`` when it is a whole number in the range; raises PoolBoxError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise PoolBoxError(f"{name} must be a whole number from {low} to {high}, not {value!r}.")
    return value


def positive(name: str, value: Any) -> float:
    """Return ``value`` when it is a number of seconds from 0.1 to 600; raises PoolBoxError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.1 <= value <= 600:
        raise PoolBoxError(f"{name} must be from 0.1 to 600 seconds, not {value!r}.")
    return float(value)

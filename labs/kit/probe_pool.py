"""The probe's view of SQLAlchemy's connection pools: who holds which connection, who waits, and for how long.

Checkout and return are watched where the pool itself hands a connection out and takes it back (``_do_get`` and
``_do_return_conn``). The public pool events do not tell of waiting, nor of the return of an invalidated connection.
"""

import functools
import heapq
import itertools
import threading
import time
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

WORTH_A_SPAN = 0.001
"""Wall seconds of waiting below which a checkout gets no "connection wait" span."""

_getting: ContextVar[bool] = ContextVar("labs_getting", default=False)


class Hold:
    """One connection in use: its ``slot``, since when, by whom, and how long that one had waited."""

    __slots__ = ("by", "since", "slot", "span", "waited")

    def __init__(self, slot: int, since: float, by: str, waited: float, span: Any) -> None:
        self.slot = slot
        self.since = since
        self.by = by
        self.waited = waited
        self.span = span


class PoolState:
    """The slots and waiters of one pool. Slots are small numbers; the smallest free one is taken."""

    def __init__(self) -> None:
        self.retired = False
        self.waiting: dict[int, tuple[float, str]] = {}
        self.holds: dict[Any, Hold] = {}
        self._free: list[int] = []
        self._next = 0
        self._lock = threading.Lock()

    def take(self) -> int:
        """Return the smallest free slot and mark it as taken."""
        with self._lock:
            if self._free:
                return heapq.heappop(self._free)
            self._next += 1
            return self._next - 1

    def give_back(self, slot: int) -> None:
        """Mark a slot as free."""
        with self._lock:
            heapq.heappush(self._free, slot)

    def slots(self, size: int) -> list[dict[str, Any] | None]:
        """Return each slot's holder, at least ``size`` slots."""
        holds = list(self.holds.values())
        slots: list[dict[str, Any] | None] = [None] * max([size, *(hold.slot + 1 for hold in holds)])
        for hold in holds:
            slots[hold.slot] = {"since": hold.since, "by": hold.by}
        return slots


class PoolWatch:
    """Watches every QueuePool of the process.

    ``by`` names the request the calling thread works for. ``tell`` takes lines for the recorder, without the pod.
    ``tracer`` gives the spans of waiting and holding, None for none. ``used`` is called before each checkout.
    """

    def __init__(
        self,
        by: Callable[[], str],
        tell: Callable[[dict[str, Any]], None],
        tracer: Any = None,
        used: Callable[[], None] = lambda: None,
    ) -> None:
        self._by = by
        self._tell = tell
        self._tracer = tracer
        self._used = used
        self._tickets = itertools.count()
        self._pools: weakref.WeakKeyDictionary[Any, PoolState] = weakref.WeakKeyDictionary()

    def install(self) -> None:
        """Wrap SQLAlchemy's QueuePool. Raises ImportError without SQLAlchemy."""
        from sqlalchemy.exc import TimeoutError as PoolTimeout
        from sqlalchemy.pool import QueuePool

        get, give_back, recreate = QueuePool._do_get, QueuePool._do_return_conn, QueuePool.recreate
        watch = self

        @functools.wraps(get)
        def _do_get(pool: Any) -> Any:
            # The pool calls itself again when another thread was quicker: that is the same wait, going on.
            if _getting.get():
                return get(pool)
            return watch._checkout(pool, get, PoolTimeout)

        @functools.wraps(give_back)
        def _do_return_conn(pool: Any, record: Any) -> None:
            watch._return(pool, record)
            give_back(pool, record)

        @functools.wraps(recreate)
        def _recreate(pool: Any) -> Any:
            watch.state(pool).retired = True
            return recreate(pool)

        QueuePool._do_get, QueuePool._do_return_conn, QueuePool.recreate = _do_get, _do_return_conn, _recreate

    def state(self, pool: Any) -> PoolState:
        """Return what is known of ``pool``."""
        try:
            return pool._labs_state
        except AttributeError:
            state = pool.__dict__.setdefault("_labs_state", PoolState())
            self._pools[pool] = state
            return state

    def _checkout(self, pool: Any, get: Callable[[Any], Any], timed_out: type[Exception]) -> Any:
        self._used()
        state, by, ticket = self.state(pool), self._by(), next(self._tickets)
        asked = time.time()
        state.waiting[ticket] = (asked, by)
        token = _getting.set(True)
        try:
            record = get(pool)
        except timed_out:
            now = time.time()
            self._tell({"kind": "wait_timeout", "at": now, "by": by, "waited": now - asked})
            self._span("connection wait", asked, ended=now)
            raise
        finally:
            _getting.reset(token)
            del state.waiting[ticket]
        now = time.time()
        if now - asked > WORTH_A_SPAN:
            self._span("connection wait", asked, ended=now)
        state.holds[record] = Hold(state.take(), now, by, now - asked, self._span("connection held", now))
        return record

    def _return(self, pool: Any, record: Any) -> None:
        state = self.state(pool)
        hold = state.holds.pop(record, None)
        if hold is None:
            return
        state.give_back(hold.slot)
        held = time.time() - hold.since
        if hold.span is not None:
            hold.span.end(int((hold.since + held) * 1e9))
        self._tell(
            {
                "kind": "hold", "at": hold.since, "slot": hold.slot, "by": hold.by, "waited": hold.waited,
                "held": held,
            }
        )  # fmt: skip

    def _span(self, name: str, started: float, ended: float | None = None) -> Any:
        if self._tracer is None:
            return None
        span = self._tracer.start_span(name, start_time=int(started * 1e9))
        if ended is not None:
            span.end(int(ended * 1e9))
        return span

    def snapshot(self) -> dict[str, Any] | None:
        """Return ``size``, ``max_overflow``, ``slots`` and ``waiting`` over all pools in use; None without a pool.

        A pool that was recreated counts for as long as somebody holds one of its connections.
        """
        size, overflow, slots, waiting = 0, 0, [], []
        found = False
        for pool, state in list(self._pools.items()):
            if state.retired and not state.holds:
                continue
            found = True
            own = 0 if state.retired else pool.size()
            size += own
            overflow += 0 if state.retired else pool._max_overflow
            slots += state.slots(own)
            waiting += list(state.waiting.values())
        if not found:
            return None
        # One who is about to be served has not waited; showing it would make the line flicker.
        late = time.time() - 0.002
        queue = [{"since": since, "by": by} for since, by in sorted(waiting) if since < late]
        return {"size": size, "max_overflow": overflow, "slots": slots, "waiting": queue}

    def after_fork(self) -> None:
        """Forget what the parent's threads hold and wait for; they do not exist here."""
        for pool in list(self._pools):
            pool.__dict__.pop("_labs_state", None)
        self._pools.clear()

"""The probe's halts: a thread of the system stops at an exact moment, so that the lab can kill its process there.

The order is {"after": "commit", "by": a request or task, "order": a token}. The next transaction of that request or
task that has written something is committed; when the database has confirmed it, and before the application's next
line runs, the thread says so and stands still. What one order stops is one thread of one process, once: the first to
come leaves a file named after the order, so that neither another process nor a restarted one stops again.

The control file is looked at with each such commit, so an order holds for every commit that begins after it was given.
"""

import contextlib
import functools
import json
import os
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from labs.kit import control

AFTER = ("commit",)
"""The moments at which a thread can be stopped."""

LONGEST = 60.0  # wall seconds that a halted thread stands still if nobody lets it go
LOOK = 0.02  # wall seconds between a halted thread's looks at its order

_WRITES = re.compile(
    r"\s*(?:INSERT|UPDATE|DELETE|MERGE|TRUNCATE|COPY|REFRESH|CREATE|ALTER|DROP)\b"
    r"|\s*WITH\b.*\b(?:INSERT\s+INTO|UPDATE\s+[^()]+?\s+SET|DELETE\s+FROM|MERGE\s+INTO)\b",
    re.IGNORECASE | re.DOTALL,
)


@functools.lru_cache(maxsize=4096)
def writes(statement: str) -> bool:
    """Return whether a statement writes, by its text; what a function called by a SELECT writes is not known."""
    return _WRITES.match(statement) is not None


class Halts:
    """Stops threads as the control file at ``path`` orders. ``by`` names what the calling thread works for.

    ``tell`` takes a line for the recorder, without the pod, and sends it at once.
    """

    def __init__(self, by: Callable[[], str], path: str | None, tell: Callable[[dict[str, Any]], None]) -> None:
        self._by = by
        self._path = path
        self._tell = tell
        self.after_fork()

    def install(self) -> None:
        """Watch every engine's transactions. Raises ImportError without SQLAlchemy."""
        from sqlalchemy import event
        from sqlalchemy.engine import Connection, Engine

        commit, halts = Connection._commit_impl, self

        @functools.wraps(commit)
        def _commit_impl(connection: Any) -> None:
            commit(connection)
            # The public "commit" event comes before the server's COMMIT; here it has succeeded.
            if connection.__dict__.pop("_labs_wrote", False):
                with contextlib.suppress(Exception):
                    halts._committed()

        Connection._commit_impl = _commit_impl
        event.listen(Engine, "after_cursor_execute", self._executed)
        event.listen(Engine, "rollback", self._rolled_back)

    def after_fork(self) -> None:
        """Start afresh in a forked child."""
        self._watcher = control.Watcher(self._path) if self._path else None
        self._order: dict[str, Any] | None = None
        self._lock = threading.Lock()

    def _executed(self, conn: Any, cursor: Any, statement: str, params: Any, context: Any, many: bool) -> None:
        # A count of 0 is a statement that found nothing to write; -1 one whose count is not known.
        if writes(statement) and cursor.rowcount != 0:
            conn._labs_wrote = True

    def _rolled_back(self, conn: Any) -> None:
        conn.__dict__.pop("_labs_wrote", None)

    def _committed(self) -> None:
        order, by = self._ordered(), self._by()
        if order is None or order["after"] != "commit" or order["by"] != by or not self._claim(order["order"]):
            return
        until = time.monotonic() + LONGEST
        self._tell({"kind": "halted", "at": time.time(), "by": by, "after": order["after"], "order": order["order"]})
        while self._ordered() == order and time.monotonic() < until:
            time.sleep(LOOK)

    def _ordered(self) -> dict[str, Any] | None:
        """Return the order that holds now, None where there is none."""
        if self._watcher is None:
            return None
        with self._lock:
            with contextlib.suppress(OSError, json.JSONDecodeError):
                if (values := self._watcher.changed()) is not None:
                    self._order = values.get("halt")
            return self._order

    def _claim(self, order: str) -> bool:
        """Return whether this thread is the first to come to ``order``, of all processes and for all time."""
        try:
            os.close(os.open(f"{self._path}.halt-{order}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return False
        return True

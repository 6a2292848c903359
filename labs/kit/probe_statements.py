"""The probe's statistics of SQL statements, and the latency it can add to each.

The listeners sit on the Engine class, which SQLAlchemy calls before those of an engine: the added latency falls inside
the statement's OpenTelemetry span, as a slower network would.
"""

import re
import threading
import time
from typing import Any

MOST_TEXTS = 2_000
SHOWN = 100
_LISTS = re.compile(r"\((?:\s*(?:%\(\w+\)s|%s|\?|:\w+|\$\d+)(?:::\w+)?\s*,){3,}[^()]*\)")


class Statements:
    """Counts calls, total and longest time (wall seconds) and rows for each statement text."""

    def __init__(self) -> None:
        self.latency = 0.0
        self.changed = False
        self._texts: dict[str, list[float]] = {}
        self._lock = threading.Lock()

    def install(self) -> None:
        """Listen to every engine. Raises ImportError without SQLAlchemy."""
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        event.listen(Engine, "before_cursor_execute", self._before)
        event.listen(Engine, "after_cursor_execute", self._after)

    def _before(self, conn: Any, cursor: Any, statement: str, params: Any, context: Any, many: bool) -> None:
        context._labs_started = time.perf_counter()

    def _after(self, conn: Any, cursor: Any, statement: str, params: Any, context: Any, many: bool) -> None:
        if self.latency > 0:
            time.sleep(self.latency)
        took = time.perf_counter() - context._labs_started
        rows = cursor.rowcount
        with self._lock:
            entry = self._texts.get(statement)
            if entry is None:
                entry = self._texts.setdefault(statement if len(self._texts) < MOST_TEXTS else "(others)", [0, 0, 0, 0])
            entry[0] += 1
            entry[1] += took
            entry[2] = max(entry[2], took)
            if rows > 0:
                entry[3] += rows
            self.changed = True

    def rows(self) -> list[dict[str, Any]]:
        """Return the statements that took most time in all; lists of parameters are folded into one text."""
        with self._lock:
            entries = [(text, list(entry)) for text, entry in self._texts.items()]
            self.changed = False
        folded: dict[str, list[float]] = {}
        for text, (calls, total, longest, rows) in entries:
            sums = folded.setdefault(_LISTS.sub("(...)", text)[:600], [0, 0, 0, 0])
            sums[0] += calls
            sums[1] += total
            sums[2] = max(sums[2], longest)
            sums[3] += rows
        most = sorted(folded.items(), key=lambda item: -item[1][1])[:SHOWN]
        return [
            {"text": text, "calls": calls, "total": total, "max": longest, "rows": rows}
            for text, (calls, total, longest, rows) in most
        ]

    def after_fork(self) -> None:
        """Start from zero in a forked child."""
        self._lock = threading.Lock()
        self._texts = {}

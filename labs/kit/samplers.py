"""What the recorder looks at on its own: Postgres, Redis, the push server, and the fleet's processes.

Each sampler returns the lines of one look. A look that fails raises; the recorder notes it and goes on.
"""

import contextlib
import os
import time
from collections.abc import Sequence
from typing import Any

import psutil

APPLICATION_NAME = "labs recorder"

ACTIVITY = """
    SELECT pid, application_name, state,
           extract(epoch FROM clock_timestamp() - state_change)::float8 AS state_age,
           extract(epoch FROM clock_timestamp() - xact_start)::float8 AS transaction_age,
           left(query, 200) AS query
    FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
      AND application_name <> %s
    ORDER BY xact_start NULLS LAST, pid
"""


class PostgresSampler:
    """Postgres' own view of its connections (``pg_stat_activity``), without the recorder's own."""

    def __init__(self, url: str) -> None:
        self._url = libpq_url(url)
        self._connection: Any = None
        self._max_connections = 0

    def look(self) -> list[dict[str, Any]]:
        """Return one "postgres" line. Ages in wall seconds. Blocks for a round trip: call it in a thread.

        Raises psycopg.Error when the server does not answer; the next look connects again.
        """
        import psycopg
        from psycopg.rows import dict_row

        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    self._url, autocommit=True, connect_timeout=2, application_name=APPLICATION_NAME,
                    row_factory=dict_row, options="-c statement_timeout=2000",
                )  # fmt: skip
                shown = self._connection.execute("SHOW max_connections").fetchone()
                self._max_connections = int(shown["max_connections"])
            rows = self._connection.execute(ACTIVITY, [APPLICATION_NAME]).fetchall()
        except Exception:
            self.close()
            raise
        by_state: dict[str, int] = {}
        for row in rows:
            by_state[row["state"] or "unknown"] = by_state.get(row["state"] or "unknown", 0) + 1
        return [
            {
                "kind": "postgres", "at": time.time(), "max_connections": self._max_connections, "total": len(rows),
                "by_state": by_state, "rows": rows,
            }
        ]  # fmt: skip

    def close(self) -> None:
        """Hang up; the next look connects again."""
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.close()
            self._connection = None


class RedisSampler:
    """Redis' memory, clients and the length of the given lists."""

    def __init__(self, url: str, queues: Sequence[str]) -> None:
        import redis.asyncio

        self._queues = list(queues)
        self._redis = redis.asyncio.from_url(url, socket_timeout=2, socket_connect_timeout=2)

    async def look(self) -> list[dict[str, Any]]:
        """Return one "redis" line; memory in bytes, ``max_memory`` 0 for no limit."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.info("memory")
            pipe.info("clients")
            for queue in self._queues:
                pipe.llen(queue)
            memory, clients, *lengths = await pipe.execute()
        return [
            {
                "kind": "redis", "at": time.time(), "memory": memory["used_memory"],
                "max_memory": memory.get("maxmemory", 0), "clients": clients["connected_clients"],
                "queues": dict(zip(self._queues, lengths, strict=True)),
            }
        ]  # fmt: skip

    async def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(Exception):
            await self._redis.aclose()


class FcmSampler:
    """The mock push server's counters for one project."""

    def __init__(self, session: Any, url: str, project: str) -> None:
        self._session = session
        self._address = f"{url.rstrip('/')}/admin/projects/{project}"

    async def look(self) -> list[dict[str, Any]]:
        """Return one "fcm" line with the server's counters as they are."""
        async with self._session.get(self._address) as answer:
            answer.raise_for_status()
            state = await answer.json()
        return [{"kind": "fcm", "at": time.time(), **state["counters"]}]


class ProcessSampler:
    """Processor time and memory of the fleet's processes, children included.

    A process of the fleet leads its process group, so its children are the group's other members: one system call a
    process on the machine, instead of a walk through all of them.
    """

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self._known: dict[int, psutil.Process] = {}
        self._used: dict[int, float] = {}
        self._last = time.monotonic()

    def look(self) -> list[dict[str, Any]]:
        """Return a "process" line for each: ``cpu`` in cores since the last look, ``rss`` in bytes."""
        now = time.monotonic()
        elapsed, self._last = max(now - self._last, 1e-3), now
        used: dict[int, float] = {}
        totals = {group: [0.0, 0] for group in self.names}
        for pid, group in self._members():
            try:
                process = self._known.get(pid) or psutil.Process(pid)
                with process.oneshot():
                    times, memory = process.cpu_times(), process.memory_info().rss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                self._known.pop(pid, None)
                continue
            self._known[pid] = process
            used[pid] = times.user + times.system
            # A process first seen now has used its time since the last look too, but from zero.
            totals[group][0] += max(0.0, used[pid] - self._used.get(pid, 0.0 if self._used else used[pid]))
            totals[group][1] += memory
        self._used = used
        self._known = {pid: self._known[pid] for pid in used}
        at = time.time()
        return [
            {"kind": "process", "at": at, "name": self.names[group], "pid": group, "cpu": cpu / elapsed, "rss": rss}
            for group, (cpu, rss) in totals.items()
            if rss
        ]

    def _members(self) -> list[tuple[int, int]]:
        members = []
        for pid in psutil.pids():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                group = os.getpgid(pid)
                if group in self.names:
                    members.append((pid, group))
        return members


def libpq_url(url: str) -> str:
    """Return a SQLAlchemy URL ("postgresql+psycopg://...") as libpq takes it."""
    scheme, separator, rest = url.partition("://")
    return scheme.partition("+")[0] + separator + rest

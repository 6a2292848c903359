"""The server's own statement statistics, where PostgreSQL has pg_stat_statements loaded.

Without the extension there is still a server-side view: pg_stat_activity, looked at several times a second, shows any
statement that runs for longer than the time between two looks.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

READ = """
    SELECT query, calls, mean_exec_time / 1000 AS mean, max_exec_time / 1000 AS longest
    FROM pg_stat_statements JOIN pg_database ON pg_database.oid = dbid
    WHERE datname = current_database() AND calls > 0
    ORDER BY total_exec_time DESC
    LIMIT 200
"""


@dataclass(frozen=True)
class ServerStatement:
    """One statement as the server timed it; ``mean`` and ``longest`` in wall seconds."""

    text: str
    calls: int
    mean: float
    longest: float


def start(url: str) -> bool:
    """Set the statistics of this database to zero; return whether the server keeps any."""
    create, reset = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements", "SELECT pg_stat_statements_reset()"
    return _ask(url, create, reset) is not None


def save(url: str, path: Path) -> None:
    """Write the statistics to ``path``; no file where the server keeps none."""
    rows = _ask(url, READ)
    if rows is not None:
        path.write_text(json.dumps([dict(row) for row in rows]), encoding="utf-8")


def load(path: Path) -> list[ServerStatement] | None:
    """Read what ``save`` wrote; None where the server kept no statistics."""
    if not path.is_file():
        return None
    return [
        ServerStatement(" ".join(row["query"].split()), row["calls"], row["mean"], row["longest"])
        for row in json.loads(path.read_text(encoding="utf-8"))
    ]


def _ask(url: str, *statements: str):
    """Return the rows of the last statement, or None when the server or the role does not allow one of them."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            answer = [connection.execute(text(statement)) for statement in statements][-1]
            return answer.mappings().all()
    except DBAPIError:
        return None

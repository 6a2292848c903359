"""Checks to take to work: four questions to any PostgreSQL, read only, safe on production.

    check(os.environ["DATABASE_URL"], services={"api": (12, 20, 10), "worker": (4, 5, 0)})

One connection, one read-only transaction, no statement over two seconds, no waiting for locks, no rights beyond a
login. The answer never holds the password, and never the values in a statement. A database that cannot be reached is a
sentence and no traceback, because a traceback would show the line with the URL in it.
"""

import html
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import psycopg

from labs.kit.database_address import Unreachable, connect
from labs.kit.statement_text import without_values
from labs.kit.table import TABLE_STYLE, Table, count, percent, seconds

STATEMENT_TIMEOUT = 2000  # milliseconds
LOCK_TIMEOUT = 200  # milliseconds; the views read here lock nothing that an application locks
LONGEST_LIST = 10  # rows

# A role without pg_read_all_stats sees that a session of another role exists, and neither its type nor its state.
CLIENTS = """coalesce(backend_type, 'client backend') = 'client backend'
  AND datid IS NOT NULL AND usesysid IS NOT NULL AND pid <> pg_backend_pid()"""

BY_APPLICATION = f"""\
SELECT coalesce(nullif(application_name, ''), 'no name') AS application,
       coalesce(state, 'hidden from this role') AS state,
       count(*) AS connections,
       extract(epoch FROM max(clock_timestamp() - state_change))::float8 AS longest
FROM pg_stat_activity
WHERE {CLIENTS}
GROUP BY 1, 2
ORDER BY 3 DESC, 1, 2"""

IDLE_IN_TRANSACTION = f"""\
SELECT coalesce(nullif(application_name, ''), 'no name') AS application, pid,
       extract(epoch FROM clock_timestamp() - state_change)::float8 AS idle,
       extract(epoch FROM clock_timestamp() - xact_start)::float8 AS transaction,
       query AS last_statement
FROM pg_stat_activity
WHERE {CLIENTS} AND state LIKE 'idle in transaction%'
ORDER BY state_change
LIMIT {LONGEST_LIST}"""

PLACES = f"""\
SELECT current_setting('max_connections')::int AS max_connections,
       current_setting('superuser_reserved_connections')::int
         + coalesce(current_setting('reserved_connections', true), '0')::int AS reserved,
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS database_limit,
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS role_limit,
       (SELECT count(*) FROM pg_stat_activity WHERE {CLIENTS}) AS in_use,
       (SELECT count(*) FROM pg_stat_activity WHERE {CLIENTS} AND state IS NULL) AS hidden"""

EXTENSION = """\
SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
WHERE extname = 'pg_stat_statements'"""

STATEMENTS = f"""\
SELECT query, calls, rows, total_exec_time / 1000 AS total, queryid IS NULL AS hidden,
       sum(total_exec_time) OVER () / 1000 AS all_total
FROM {{schema}}.pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY calls DESC
LIMIT {LONGEST_LIST}"""

NOT_INSTALLED = (
    "This database keeps no statement statistics: add pg_stat_statements to shared_preload_libraries, restart the "
    "server, and run CREATE EXTENSION pg_stat_statements in this database."
)
NOT_LOADED = (
    "pg_stat_statements is installed in this database but not loaded by the server: add it to "
    "shared_preload_libraries and restart the server."
)
HIDDEN = "see them all as a role that has been granted pg_read_all_stats."


class ServiceError(ValueError):
    """A service cannot be like that. The message is one sentence that names the field."""


@dataclass(frozen=True)
class Service:
    """What one service may ask of the database.

    ``pods``: processes that each have a pool of their own; four gunicorn workers in a container are four. ``pool``:
    connections a pool keeps (SQLAlchemy's pool_size). ``overflow``: connections it may open beyond (max_overflow, 10
    where nothing is set); -1 is no limit. Raises ServiceError for anything else.
    """

    pods: int
    pool: int
    overflow: int = 0

    def __post_init__(self) -> None:
        for field, low in (("pods", 1), ("pool", 1), ("overflow", -1)):
            value = getattr(self, field)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
                raise ServiceError(f"{field} must be a whole number from {low}, not {value!r}.")

    @property
    def at_most(self) -> float:
        """Connections at most: pods times pool plus overflow; infinite without a limit."""
        return math.inf if self.overflow < 0 else self.pods * (self.pool + self.overflow)


@dataclass(frozen=True)
class Check:
    """One question, its answer as a table or a sentence, and how to read it.

    ``sentence``: what the rows come to, or why there are none. ``sql``: the statement to run elsewhere.
    """

    title: str
    reading: str
    table: Table | None = None
    sentence: str = ""
    sql: str = ""

    def __repr__(self) -> str:
        table = repr(self.table) if self.table else ""
        return "\n".join(filter(None, [self.title, table, self.sentence, f"How to read it: {self.reading}"]))

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{html.escape(self.title)}</b></p>"]
        parts += [self.table._repr_html_()] if self.table else []
        parts += [f"<p>{html.escape(self.sentence)}</p>"] if self.sentence else []
        parts.append(f'<p style="opacity:.8">How to read it: {html.escape(self.reading)}</p>')
        if self.sql:
            parts.append(f'<details><summary style="cursor:pointer">The SQL</summary><pre>{html.escape(self.sql)}</pre>'
                         "</details>")
        return "".join(parts)


@dataclass(frozen=True)
class Checks:
    """The answers of one database. ``target`` names it without a password; ``failure`` is the one sentence that stands
    in for the answers when there was no connection, and empty otherwise.
    """

    target: str
    checks: tuple[Check, ...] = ()
    failure: str = ""

    @property
    def connected(self) -> bool:
        """Whether the database answered."""
        return not self.failure

    def __iter__(self):
        return iter(self.checks)

    def __len__(self) -> int:
        return len(self.checks)

    def __getitem__(self, title: str) -> Check:
        for each in self.checks:
            if each.title == title:
                return each
        raise KeyError(f"{title} is not among these checks; checks: {', '.join(each.title for each in self.checks)}")

    def __repr__(self) -> str:
        return self.failure or "\n\n".join([f"Asked of {self.target}, read only", *map(repr, self.checks)])

    def _repr_html_(self) -> str:
        if self.failure:
            return f"<p>{html.escape(self.failure)}</p>"
        head = f"<p>Asked of {html.escape(self.target)}, read only</p>"
        return f"{TABLE_STYLE}{head}{''.join(each._repr_html_() for each in self.checks)}"


def check(url: Any, services: Mapping[str, Any] | None = None) -> Checks:
    """Ask the database at ``url`` the four questions and return the answers.

    ``url``: postgresql://user:password@host:port/database in any of its spellings, SQLAlchemy's too. Read it from the
    environment or ask for it with getpass, so that it is not written in a notebook. ``services``: name -> Service, or
    (pods, pool, overflow), or a dictionary of those. Nothing is raised for a database that does not answer or a service
    that cannot be: the sentence stands in the answer.
    """
    try:
        with connect(url) as (connection, target):
            return Checks(target, tuple(_ask_all(connection, services)))
    except Unreachable as error:
        return Checks(error.target, failure=str(error))


def _ask_all(connection: psycopg.Connection, services: Mapping[str, Any] | None) -> list[Check]:
    connection.execute("SET TRANSACTION READ ONLY")
    connection.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT}")
    connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}")
    return [
        _answered(connection, "Connections by application and state",
                  "Many that are active are work; many that are idle in transaction are held by something that is not "
                  "the database.", BY_APPLICATION, _by_application),
        _answered(connection, "Oldest idle in transaction",
                  "More than a second or two is code that waits for something else with a connection in its hand; the "
                  "last statement shows where.", IDLE_IN_TRANSACTION, _idle_in_transaction),
        _answered(connection, "Fleet arithmetic",
                  "What every pod may open at once has to fit into the places for clients, with room for a deployment "
                  "that runs old and new pods together.", PLACES, lambda asked: _fleet(asked, services)),
        _answered(connection, "Statements by calls",
                  "A short statement with a huge number of calls is a loop in somebody's code; divide its calls by the "
                  "requests of the same time.", STATEMENTS.format(schema="public"), _statements),
    ]


Found = tuple[Table | None, str]


def _answered(connection: psycopg.Connection, title: str, reading: str, sql: str,
              ask: Callable[[psycopg.Connection], Found]) -> Check:
    """Ask one question in a savepoint of its own, so that one without an answer does not cost the others theirs."""
    try:
        with connection.transaction():
            table, sentence = ask(connection)
    except psycopg.Error as error:
        if connection.closed:
            raise
        table, sentence = None, _no_answer(error)
    return Check(title, reading, table, sentence, sql)


def _no_answer(error: psycopg.Error) -> str:
    """Why the server did not answer, in words of ours: its own may hold values from a statement."""
    match error:
        case psycopg.errors.QueryCanceled() | psycopg.errors.LockNotAvailable():
            return "The server did not answer within 2 s and was asked to stop; try when it is less busy."
        case psycopg.errors.ObjectNotInPrerequisiteState():
            return NOT_LOADED
        case psycopg.errors.InsufficientPrivilege():
            return "This role may not read that; ask for the role pg_monitor to be granted to it."
    return f"The server could not answer: {type(error).__name__}, SQLSTATE {error.sqlstate or 'none'}."


def _by_application(connection: psycopg.Connection) -> Found:
    rows = [(row["application"], row["state"], row["connections"], seconds(row["longest"]))
            for row in connection.execute(BY_APPLICATION)]
    if not rows:
        return None, "Nobody else is connected."
    hidden = sum(row[2] for row in rows if row[1] == "hidden from this role")
    note = f"The state of {count(hidden)} is hidden from this role; {HIDDEN}" if hidden else ""
    return Table(("application", "state", "connections", "longest in it"), rows), note


def _idle_in_transaction(connection: psycopg.Connection) -> Found:
    rows = [(row["application"], str(row["pid"]), seconds(row["idle"]), seconds(row["transaction"]),
             without_values(row["last_statement"])) for row in connection.execute(IDLE_IN_TRANSACTION)]
    if rows:
        return Table(("application", "pid", "idle for", "transaction for", "last statement"), rows), ""
    hidden = connection.execute(PLACES).fetchone()["hidden"]
    note = f" The state of {count(hidden)} is hidden from this role; {HIDDEN}" if hidden else ""
    return None, f"No session that this role can see is idle in a transaction.{note}"


def _fleet(connection: psycopg.Connection, services: Mapping[str, Any] | None) -> Found:
    places = connection.execute(PLACES).fetchone()
    limits = {"max_connections less those reserved": places["max_connections"] - places["reserved"],
              "this database's own limit": places["database_limit"], "this role's own limit": places["role_limit"]}
    # The catalogue writes -1 where there is no limit.
    limits = {name: limit for name, limit in limits.items() if limit >= 0}
    narrowest = min(limits, key=limits.__getitem__)
    has = (f"The server has {count(limits[narrowest])} places for clients ({narrowest}); other connections open now: "
           f"{count(places['in_use'])}.")
    if not services:
        return None, f"{has} Pass services={{name: (pods, pool, overflow)}} to set your fleet beside them."
    try:
        fleet = {str(name): _service(str(name), given) for name, given in services.items()}
    except ServiceError as error:
        return None, f"{has} {error}"
    rows = [(name, each.pods, each.pool, "no limit" if each.overflow < 0 else each.overflow, each.at_most)
            for name, each in fleet.items()]
    wanted = sum(each.at_most for each in fleet.values())
    table = Table(("service", "pods", "pool", "overflow", "at most"), [*rows, ("together", "", "", "", wanted)])
    return table, f"{has} {_room(wanted, limits[narrowest])}"


def _room(wanted: float, places: int) -> str:
    if math.isinf(wanted):
        return "A pool without a limit may take every place there is: give it an overflow."
    if wanted > places:
        return f"The fleet may ask for {count(wanted)}, {count(wanted - places)} more than there are."
    return f"The fleet may ask for {count(wanted)}, which leaves {count(places - wanted)}."


def _service(name: str, given: Any) -> Service:
    """Read a service as the reader wrote it; raises ServiceError naming it."""
    try:
        if isinstance(given, Service):
            return given
        return Service(**given) if isinstance(given, Mapping) else Service(*given)
    except ServiceError as error:
        raise ServiceError(f"services[{name!r}]: {error}") from None
    except TypeError:
        raise ServiceError(f"services[{name!r}] must be (pods, pool, overflow), not {given!r}.") from None


def _statements(connection: psycopg.Connection) -> Found:
    installed = connection.execute(EXTENSION).fetchone()
    if installed is None:
        return None, NOT_INSTALLED
    schema = psycopg.sql.Identifier(installed["nspname"])
    found = connection.execute(psycopg.sql.SQL(STATEMENTS).format(schema=schema)).fetchall()
    rows = [(row["calls"], row["rows"] / max(row["calls"], 1), seconds(row["total"] / max(row["calls"], 1)),
             percent(row["total"] / row["all_total"] if row["all_total"] else 0.0),
             "hidden from this role" if row["hidden"] else without_values(row["query"])) for row in found]
    if not rows:
        return None, "No statement of this database has been counted yet."
    hidden = any(row["hidden"] for row in found)
    note = f"Some statements belong to other roles and are hidden from this one; {HIDDEN}" if hidden else ""
    return Table(("calls", "rows a call", "time a call", "share of time", "statement"), rows), note


"""Exercise 3: who holds connections and does nothing with them, from pg_stat_activity alone."""

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg

from labs.fanout.experiment import quiet_system
from labs.fanout.graded.scene import AnswerError, database, wait_for
from labs.kit.grading import Exercise, Finding, exactly
from labs.kit.samplers import libpq_url
from labs.stack import Stack

POSTS = 6  # patient presses of Post in the outage
HANGING = 600_000  # ms: no call to the push service is answered while the learner's query runs
LOOK_AT = (
    "A connection can be busy, free, or kept by a transaction that waits for something outside the database. "
    "Column `state` tells them apart; only the last kind is taken from everybody else for nothing."
)
TYPED_IN = (
    "Your text names a service and asks the database nothing: another one is to blame the next day. "
    "Let `pg_stat_activity` say which."
)
NOT_THE_MOST = (
    "This service does keep connections in open transactions, but another one keeps more of them. "
    "Count them for each service: neither the oldest nor the first that comes need have the most."
)
LONGEST_S = 3  # seconds that the learner's query may take

TASK = f"""
The outage again: {POSTS} posts hold their connections while they wait for the push service. The same database also
serves an analyst with a query that runs for minutes, a dashboard with twelve connections that it hardly uses, a job
with transactions of its own, and somebody who left a console open in the middle of a transaction since this morning.

Write SQL text that reads `pg_stat_activity` and returns one row, one column: the `application_name` of the service that
keeps the most connections while it does nothing in the database. A name typed in will not do: the query is asked
again the next day, when another service is to blame. It runs read-only, and for {LONGEST_S} s at most.
"""

HINTS = (
    "Look at everything first: `SELECT application_name, state, count(*) FROM pg_stat_activity GROUP BY 1, 2`, for "
    "instance. Which state would a request be in that calls another service between two statements?",
    "`state` is `active` during a statement, `idle` when a connection is free, and `idle in transaction` in between.",
    "Keep the rows whose state is `idle in transaction`, count them for each application_name, return the largest.",
)

SOLUTION = """
SELECT application_name
FROM pg_stat_activity
WHERE state = 'idle in transaction'
GROUP BY application_name
ORDER BY count(*) DESC
LIMIT 1

An open transaction keeps its connection, and a pool gives a connection to one request at a time: what waits outside the
database takes it from all others. Neither the busiest nor the oldest session is to blame, nor the one with the most
connections.

On a busy system a request is in that state for a moment between any two statements. In production add
`AND state_change < now() - interval '5 seconds'`: what is left has kept its connection that long without a statement.
"""


def grade(answer: str) -> Iterator[Finding]:
    """Ask the learner's query during the outage, and again when another service is the hog."""
    with quiet_system("the outage and its neighbours", followers=1_000, client_retries=False,
                      pool_size=2 * POSTS, env={"FCM_TIMEOUT": HANGING / 1000}) as system:  # fmt: skip
        system.push.set(latency_ms=HANGING)
        with _neighbours(system.stack):
            system.post(POSTS)
            wait_for("The outage", lambda: _kept(system.stack).get("social-api", 0) == POSTS, system)
            yield _found("the outage", answer, system.stack)
            system.kill_pods()
            wait_for("The end of the outage", lambda: "social-api" not in _kept(system.stack), system)
            with _in_transactions(system.stack, "invoice-export", POSTS - 1):
                yield _found("the next day", answer, system.stack)


def _found(when: str, answer: str, stack: Stack) -> Finding:
    named, kept = _ask(answer, stack), _kept(stack)
    return exactly(f"{when}: connections that the service you name keeps for nothing", kept.get(named, 0),
                   max(kept.values()), _look_at(answer, kept.get(named, 0)))


def _look_at(answer: str, kept: int) -> str:
    """Return what to look at, should ``kept`` connections not be the most."""
    if "pg_stat" not in answer.lower():
        return TYPED_IN
    return NOT_THE_MOST if kept else LOOK_AT


def _ask(answer: str, stack: Stack) -> str:
    """Run the learner's query; raises AnswerError when it does not return one name."""
    options = f"-c default_transaction_read_only=on -c statement_timeout={1000 * LONGEST_S}"
    try:
        with database(stack, application_name="your query", options=options) as connection:
            cursor = connection.execute(answer.encode())
            rows = cursor.fetchall() if cursor.description else []
    except psycopg.errors.QueryCanceled as error:
        raise AnswerError(f"Your query took longer than {LONGEST_S} s and was stopped.") from error
    except psycopg.Error as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise AnswerError(f"PostgreSQL refused your query: {reason}.") from error
    if len(rows) != 1 or len(rows[0]) != 1:
        columns = len(rows[0]) if rows else 0
        raise AnswerError(f"Your query must return one row with one column, not {len(rows):,} with {columns}.")
    return str(rows[0][0])


def _kept(stack: Stack) -> dict[str, int]:
    """Return how many connections each service keeps idle in a transaction."""
    question = """
        SELECT application_name, count(*) FROM pg_stat_activity
        WHERE state = 'idle in transaction' AND datname = current_database() GROUP BY 1
    """
    with database(stack) as connection:
        return dict(connection.execute(question).fetchall())


# -- the neighbours ---------------------------------------------------------------------------------------------------


@contextmanager
def _neighbours(stack: Stack) -> Iterator[None]:
    """Have the others about: a console left open, an analyst, a dashboard, a job with an open transaction."""
    with ExitStack() as others:
        others.enter_context(_in_transactions(stack, "console", 1))
        others.enter_context(_analyst(stack))
        for _ in range(2 * POSTS):
            others.enter_context(_connected(stack, "dashboard")).execute("SELECT 1")
        others.enter_context(_in_transactions(stack, "nightly-job", 2))
        yield


@contextmanager
def _connected(stack: Stack, name: str) -> Iterator[psycopg.Connection]:
    connection = psycopg.connect(libpq_url(stack.postgres.url), application_name=name, autocommit=True)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _in_transactions(stack: Stack, name: str, count: int) -> Iterator[None]:
    """Keep ``count`` connections of a service in open transactions."""
    with ExitStack() as kept:
        for _ in range(count):
            connection = kept.enter_context(_connected(stack, name))
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM users WHERE id < 100")
        yield


@contextmanager
def _analyst(stack: Stack) -> Iterator[None]:
    """Have a query running that does not end by itself."""
    with _connected(stack, "analyst") as connection:
        connection.pgconn.send_query(b"SELECT count(*), pg_sleep(3600) FROM posts")
        try:
            yield
        finally:
            with contextlib.suppress(psycopg.Error):
                connection.cancel_safe()


find_the_hog = Exercise("Find the hog", TASK, grade, hints=HINTS, solution=SOLUTION, points=2, answer="text")

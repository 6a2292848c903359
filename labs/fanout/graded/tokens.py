"""Exercise 2: every follower's newest phone in one statement, run by the real pods."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from sqlalchemy import Engine, Executable, NullPool, Result, ScalarResult, create_engine, event, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from labs.fanout.dataset import INFLUENCER_ID
from labs.fanout.experiment import quiet_system
from labs.fanout.graded.scene import AnswerError, database, program
from labs.fanout.outcome import CREATE
from labs.fanout.social.models import Device, Follow
from labs.fanout.system import System
from labs.kit.grading import Exercise, Finding, at_most, exactly
from labs.kit.grading_source import as_module
from labs.stack import Stack

FOLLOWERS, TWO_PHONES, SILENT = 210, 0.3, 7  # of every seventh follower the newest phone allows no notifications
ONE_STATEMENT = "Let the database go through the followers: join the tables instead of asking in a loop."
OTHERS = "Whose followers are they? Keep only the rows of `follows` whose `followee_id` is `author_id`."
MANY_ROWS = "A join has a row for each phone. Keep one row of each user."

TASK = f"""
@techinfluencer has {FOLLOWERS} followers here, so that you need not wait. Three in ten carry two phones. `devices` has
a row for each phone: `id`, `user_id`, `platform`, `token`; a newer phone has a higher `id`. `token` is null until the
phone allows notifications. `follows` says who follows whom: `followee_id` is followed by `follower_id`.

Write `tokens_of_followers(session, author_id)`. It returns a list of tokens to call: for each follower the newest phone
that has a token, and sends one SQL statement, however many followers there are. `session` is SQLAlchemy's.
"""

HINTS = (
    "Start from the phones and join them with `Follow` on `Follow.follower_id == Device.user_id`. Which rows are left "
    "when you keep one author's, and only those with a token?",
    "PostgreSQL has `DISTINCT ON (user_id)`: of the rows of one user it keeps the first. The first in which order?",
    "`select(Device.token).join(...).where(...).ext(distinct_on(Device.user_id))`, ordered by `Device.user_id` and "
    "then `Device.id.desc()`; `session.scalars(...).all()` is the list. `distinct_on` comes from "
    "`sqlalchemy.dialects.postgresql`.",
)

PROGRAM = """
from labs.fanout import step1_bulk_tokens
from labs.fanout.social import push
from labs.fanout.social.db import session

import answer


def notify_followers(post):
    for token in answer.{name}(session, post.author_id):
        push.send(token, "New post", post.content[:100])


step1_bulk_tokens.notify_followers = notify_followers
app = step1_bulk_tokens.app
"""


def solution(session: Session, author_id: int) -> list[str]:
    """One statement whatever the number of followers; of each follower's phones the first, newest first."""
    newest = (
        select(Device.token)
        .join(Follow, Follow.follower_id == Device.user_id)
        .where(Follow.followee_id == author_id, Device.token.is_not(None))
        .ext(distinct_on(Device.user_id))
        .order_by(Device.user_id, Device.id.desc())
    )
    return session.scalars(newest).all()


@dataclass(frozen=True)
class Phones:
    """The followers' phones that can be called: token -> (its owner, whether it is the owner's newest)."""

    owners: dict[str, tuple[int, bool]]
    all: int  # those that cannot be called too

    def count(self, calls: Counter[str]) -> dict[str, int]:
        """Return what ``calls``, token -> number, came to."""
        callable_users = {user for user, _ in self.owners.values()}
        called = Counter()
        for token, times in calls.items():
            if token in self.owners:
                called[self.owners[token][0]] += times
        return {
            "missed": len(callable_users - set(called)),
            "repeated": sum(times > 1 for times in called.values()),
            "older": sum(not self.owners[token][1] for token in calls if token in self.owners),
            "strangers": sum(token not in self.owners for token in calls),
        }


def grade(answer: Callable) -> Iterator[Finding]:
    """Have the real pods publish a post with the learner's function, and look at who was called."""
    source = as_module(answer)
    name = answer.__name__
    with program(answer=source, with_answer=PROGRAM.format(name=name)) as found, quiet_system(
        "a post with your query", step="bulk query", followers=FOLLOWERS, second_devices=TWO_PHONES, env=found,
    ) as system:  # fmt: skip
        phones = _phones(system.stack)
        if beyond := _beyond(_try_out(answer, system.stack), phones):
            yield from beyond  # far too many calls, perhaps: no pod is asked to make them
            return
        system.deploy(module="with_answer")
        system.start_count()
        try:
            system.create_post()
        except httpx.HTTPStatusError as error:
            raise AnswerError("The pod answered with an error: your function stopped there, not here.") from error
        calls = Counter({each["token"]: each["accepted"] for each in system.push.tokens(limit=10 * FOLLOWERS)})
        refused = system.push.counters()["rejected"]
        statements = _statements(system)
    came_to = phones.count(calls)
    yield exactly("statements to find the phones", statements, 1, ONE_STATEMENT)
    yield exactly("followers who could be called and were not", came_to["missed"], 0,
                  "Is the limit, if there is one, for each follower or for all? Does a phone without a token hide an "
                  "older one that has one?")  # fmt: skip
    yield exactly("followers called more than once", came_to["repeated"], 0, MANY_ROWS)
    yield exactly("followers called on an older phone", came_to["older"], 0,
                  "Of the rows of one user the first is kept: order them, newest first.")
    yield exactly("calls that the push service refused", refused, 0, "A phone without a token cannot be called.")
    yield exactly("people called who do not follow the author", came_to["strangers"], 0, OTHERS)


@dataclass(frozen=True)
class Tried:
    """What the learner's function returned here, and how many statements it sent for it."""

    tokens: list[str | None]
    statements: int


def _beyond(tried: Tried, phones: Phones) -> list[Finding]:
    """Return the findings on a list that no pod should call; an empty list when the pods may try it."""
    strangers = len({token for token in tried.tokens if token is not None} - set(phones.owners))
    if not strangers and len(tried.tokens) <= phones.all:
        return []
    return [
        exactly("tokens in your list that belong to no follower of the author", strangers, 0, OTHERS),
        at_most("tokens in your list", len(tried.tokens), phones.all, MANY_ROWS),
        exactly("statements to find the phones", tried.statements, 1, ONE_STATEMENT),
    ]


def _phones(stack: Stack) -> Phones:
    """Silence the newest phone of some followers, and return all phones that can be called."""
    silence = f"""
        UPDATE devices SET token = NULL
        WHERE user_id % {SILENT} = 0
          AND id = (SELECT max(id) FROM devices AS own WHERE own.user_id = devices.user_id)
          AND user_id IN (SELECT follower_id FROM follows WHERE followee_id = {INFLUENCER_ID})
    """
    with_token = f"""
        SELECT token, user_id, id = max(id) OVER (PARTITION BY user_id)
        FROM devices JOIN follows ON follower_id = user_id WHERE followee_id = {INFLUENCER_ID} AND token IS NOT NULL
    """
    count = f"""
        SELECT count(*) FROM devices JOIN follows ON follower_id = user_id WHERE followee_id = {INFLUENCER_ID}
    """
    with database(stack) as connection:
        connection.execute(silence)
        owners = {token: (user, newest) for token, user, newest in connection.execute(with_token)}
        return Phones(owners, connection.execute(count).fetchone()[0])


def _try_out(answer: Callable, stack: Stack) -> Tried:
    """Call the function here first: what stops it is told with its line. Raises AnswerError for another result."""
    engine, sent = _engine(stack), []
    event.listen(engine, "before_cursor_execute", lambda *statement: sent.append(statement[2]))
    with Session(engine) as session:
        tokens = _listed(answer(session, INFLUENCER_ID))
    wrong = next((token for token in tokens if token is not None and not isinstance(token, str)), None)
    if wrong is not None:
        raise AnswerError(f"Your function must return a list of tokens, which are texts, not {type(wrong).__name__}.")
    return Tried(tokens, len(sent))


def _listed(tokens: Any) -> list[Any]:
    """Return the learner's result as a list; raises AnswerError, with the way to one, when it is none."""
    if isinstance(tokens, (Result, ScalarResult)):
        raise AnswerError(
            f"Your function returns a {type(tokens).__name__}, which can be read once and only while the session is "
            "open; `.all()` makes it the list of tokens that is asked for."
        )
    if isinstance(tokens, Executable):
        raise AnswerError(
            f"Your function must return a list of tokens, not a {type(tokens).__name__} that nobody has run: "
            "`session.scalars(...).all()` runs it."
        )
    if not isinstance(tokens, Iterable) or isinstance(tokens, (str, bytes)):
        raise AnswerError(f"Your function must return a list of tokens, not a {type(tokens).__name__}.")
    return list(tokens)


def _engine(stack: Stack) -> Engine:
    options = "-c default_transaction_read_only=on -c statement_timeout=5000"
    return create_engine(stack.postgres.url, poolclass=NullPool, connect_args={"options": options})


def _statements(system: System) -> int:
    """Return how many statements the last post sent besides its own INSERT."""
    traces = list(system.finish().traces.where(endpoint=CREATE))
    last = max(traces, key=lambda trace: trace.root.start)
    sent = [span.statement.lstrip().upper() for span in last.spans if span.statement]
    return sum(not statement.startswith("INSERT") for statement in sent)


bulk_query = Exercise("One statement", TASK, grade, hints=HINTS, solution=solution, points=2, answer="function")

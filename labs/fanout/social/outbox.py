"""From a post in the outbox to notifications that have demonstrably been sent.

The database, not the queue, knows what is still to be done: a post is in the outbox, then its fan-out is a row for
each chunk of phones. Tasks only carry a chunk's number to a worker. Whatever happens to a task, a worker or the broker,
a chunk that is not finished in time is issued again. Each step is one short transaction; none is open during a call.
"""

import logging
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import NamedTuple

from celery import Task
from sqlalchemy import Row, Select, any_, delete, exists, func, insert, literal, select, update
from sqlalchemy.exc import OperationalError

from . import config
from .db import session
from .models import Delivery, Device, Fanout, Outbox, Post, User, follower_counts
from .results import Result

ISSUE_LOCK = 7_214_530  # any number that no other advisory lock of this database has

log = logging.getLogger(__name__)


class Chunk(NamedTuple):
    """Phones to be called with one notification, for one worker: ``phones`` are (device id, token)."""

    delivery_id: int
    issue: int
    title: str
    body: str
    phones: list[tuple[int, str]]


# -- from posts to chunks ---------------------------------------------------------------------------------------------


def begin_fanouts(phones_of_followers: Callable[[int], Select]) -> None:
    """Turn the posts in the outbox into fan-outs, except those of authors who have to wait.

    What an author with very many followers has posted goes out as one notification, anybody else's posts one by one.
    ``phones_of_followers`` selects the device ids to notify for an author's id.
    """
    while (author := _next_author()) is not None:
        author_id, merged = author
        posts = delete(Outbox).where(Outbox.author_id == author_id).returning(Outbox.post_id)
        post_ids = sorted(session.scalars(posts))
        for about in [post_ids] if merged and post_ids else [[post_id] for post_id in post_ids]:
            _begin_fanout(author_id, about, phones_of_followers)
        session.commit()
    session.rollback()


def _next_author() -> Row[tuple[int, bool]] | None:
    """Lock an author who has posts in the outbox and need not wait, passing over those another relay is busy with.

    Return the author's id and whether it is one with very many followers.
    """
    followers = select(follower_counts.c.followers).where(follower_counts.c.author_id == User.id).scalar_subquery()
    very_many = func.coalesce(followers, 0) > config.THROTTLE_FOLLOWERS
    just_had_one = exists().where(Fanout.author_id == User.id, Fanout.started_at > _in(-config.THROTTLE_SECONDS))
    return session.execute(
        select(User.id, very_many)
        .where(exists().where(Outbox.author_id == User.id), ~(very_many & just_had_one))
        .limit(1)
        .with_for_update(of=User, key_share=True, skip_locked=True)
    ).first()


def _begin_fanout(author_id: int, post_ids: Sequence[int], phones_of_followers: Callable[[int], Select]) -> None:
    newest = session.get_one(Post, post_ids[-1])
    title = "New post" if len(post_ids) == 1 else f"{len(post_ids)} new posts"
    fanout = Fanout(author_id=author_id, post_id=newest.id, title=title, body=newest.content[:100])
    session.add(fanout)
    session.flush()
    phones = phones_of_followers(author_id).subquery()
    position = (func.row_number().over(order_by=phones.c.id) - 1) // config.CHUNK_SIZE
    numbered = select(phones.c.id, position.label("position")).subquery()
    device_ids = func.array_agg(numbered.c.id)
    chunks = select(literal(fanout.id), numbered.c.position, device_ids).group_by(numbered.c.position)
    session.execute(insert(Delivery).from_select(["fanout_id", "position", "device_ids"], chunks))


# -- from chunks to workers -------------------------------------------------------------------------------------------


def issue_chunks(task: Task, may_send: Callable[[int], bool] = lambda messages: True) -> None:
    """Send ``task`` for the chunks that are due, until ``CHUNKS_IN_FLIGHT`` of all authors together are under way.

    Every fan-out's first chunks go before anybody's later ones, so that an author with few followers never waits for
    one with many. ``may_send`` is asked before a chunk of so many messages is issued; the first no ends it.
    """
    session.execute(select(func.pg_advisory_xact_lock(ISSUE_LOCK)))  # two who count at once would both find room
    under_way = Delivery.state.in_(["issued", "sending"]) & (Delivery.due_at > func.now())
    room = config.CHUNKS_IN_FLIGHT - session.scalar(select(func.count()).where(under_way))
    due = (
        select(Delivery)
        .where(Delivery.state != "finished", Delivery.due_at <= func.now())
        .order_by(Delivery.position, Delivery.id)
        .limit(max(room, 0))
        .with_for_update(skip_locked=True)
    )
    issued = list(takewhile(lambda chunk: may_send(len(chunk.device_ids)), session.scalars(due).all()))
    for delivery in issued:
        delivery.state, delivery.due_at = "issued", _in(config.CHUNK_TIMEOUT)
        delivery.issue += 1
    session.commit()
    for delivery in issued:
        task.delay(delivery.id, delivery.issue)


def claim(delivery_id: int, issue: int) -> Chunk | None:
    """Take a chunk for this worker alone; return None if it was issued anew, begun or finished meanwhile."""
    mine = (
        update(Delivery)
        .where(Delivery.id == delivery_id, Delivery.issue == issue, Delivery.state == "issued")
        .values(state="sending", due_at=_in(config.CHUNK_TIMEOUT))
        .returning(Delivery.fanout_id)
    )
    fanout_id = session.scalar(mine)
    if fanout_id is None:
        session.rollback()
        return None
    fanout = session.get_one(Fanout, fanout_id)
    phones = (
        select(Device.id, Device.token)
        .join(Delivery, Device.id == any_(Delivery.device_ids))
        .where(Delivery.id == delivery_id, Device.token.is_not(None))
    )
    chunk = Chunk(delivery_id, issue, fanout.title, fanout.body, [tuple(phone) for phone in session.execute(phones)])
    session.commit()
    return chunk


# -- what became of them ----------------------------------------------------------------------------------------------


def settle(chunk: Chunk, results: list[Result]) -> None:
    """Note what became of each phone of ``chunk``: what was accepted is never sent again.

    Tokens of removed apps go, refused messages are logged, and for the rest the chunk is due again after a while.
    With the database restarting or a deadlock this is tried until the chunk is overdue: what has been sent must not be
    forgotten.
    """
    overdue = time.monotonic() + config.CHUNK_TIMEOUT
    while True:
        try:
            return _settle(chunk, results)
        except OperationalError:
            session.rollback()
            if time.monotonic() > overdue:
                raise
            time.sleep(0.2)


def _settle(chunk: Chunk, results: list[Result]) -> None:
    outcomes = list(zip(chunk.phones, results, strict=True))
    _forget_tokens([token for (_, token), result in outcomes if result.gone])
    for (device_id, _), result in outcomes:
        if result.refused:
            log.warning("device %d: %s, not tried again", device_id, result.code)
    mine = select(Delivery).where(Delivery.id == chunk.delivery_id, Delivery.issue == chunk.issue).with_for_update()
    delivery = session.scalar(mine)
    if delivery is not None:
        left = {device_id: result for (device_id, _), result in outcomes if result.retriable}
        _finish_or_wait(delivery, left)
    session.commit()


def _forget_tokens(tokens: list[str]) -> None:
    if tokens:
        session.execute(update(Device).where(Device.token.in_(tokens)).values(token=None))
        log.info("%d tokens of removed apps forgotten", len(tokens))


def _finish_or_wait(delivery: Delivery, left: dict[int, Result]) -> None:
    delivery.device_ids = list(left)
    if not left:
        delivery.state = "finished"
        return
    codes = ", ".join(sorted({result.code for result in left.values()}))
    if datetime.now(UTC) - delivery.fanout.started_at > timedelta(seconds=config.PUSH_EXPIRES):
        log.error("delivery %d: given up on %d phones: %s", delivery.id, len(left), codes)
        delivery.state = "finished"
        return
    wait = max(backoff(delivery.attempts), *(result.wait for result in left.values()))
    log.warning("delivery %d: %d phones again in %.1f s: %s", delivery.id, len(left), wait, codes)
    delivery.state, delivery.due_at = "waiting", _in(wait)
    delivery.attempts += 1


def backoff(attempts: int) -> float:
    """Return the seconds to wait after ``attempts`` earlier attempts: doubled each time, half of it at random."""
    longest = min(config.PUSH_BACKOFF_MAX, config.PUSH_BACKOFF * 2 ** min(attempts, 30))
    return longest * random.uniform(0.5, 1)


def _in(seconds: float):
    """Return the database's time in so many seconds."""
    return func.now() + timedelta(seconds=seconds)

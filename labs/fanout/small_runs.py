"""Small runs beside the outage: the day's other posts, the fixed route's answer, follower counts out of date."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import psycopg
import redis

from labs.fanout import dataset
from labs.fanout.experiment import quiet_system
from labs.fanout.outcome import CREATE
from labs.fanout.published import value
from labs.fanout.system import QUEUE, System
from labs.kit.samplers import APPLICATION_NAME, libpq_url
from labs.kit.table import Table, seconds

NO_THROTTLE = 0.001  # wall seconds
FEW_FOLLOWERS = 12
GROWING, GAINED = 4, 2_000  # the rank of the largest author with fewer than 10,000 followers, and how many more come


class SmallRun(ABC):
    """A result that a notebook shows as its table."""

    @abstractmethod
    def table(self) -> Table:
        """Return what was measured."""

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _author(rank: int) -> tuple[str, int]:
    """Return the username and the followers of the author of ``rank``, 2 or more."""
    return f"author-{rank:04d}", int(dataset.follower_counts()[rank - 1])


# -- the day's other posts --------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class OrdinaryPosts(SmallRun):
    """Posts of the author in the middle of the 2,000, one after another.

    ``held``: each use of a connection, ``answered``: each post's answer; incident seconds, shapes (m,) and (n,).
    """

    followers: int
    held: np.ndarray
    answered: np.ndarray

    @property
    def posts(self) -> int:
        """How many were published, each answered with success."""
        return len(self.answered)

    @property
    def longest_hold(self) -> float:
        """The longest that one of them held a connection, incident seconds."""
        return float(self.held.max(initial=0.0))

    def busy(self, posts: int) -> float:
        """Return for how long ``posts`` like these keep one connection busy in all, incident seconds."""
        return float(self.held.sum()) / self.posts * posts

    def table(self) -> Table:
        waited = seconds(float(np.median(self.answered)))
        columns = ("posts", "followers", "author waits, median", "connection held, at most")
        return Table(columns, [(self.posts, self.followers, waited, seconds(self.longest_hold))])


def ordinary_posts(posts: int = 20, speed: float = 10) -> OrdinaryPosts:
    """Publish ``posts`` through the failing code as the author in the middle: half of all have fewer followers."""
    username, followers = _author(dataset.AUTHORS // 2)
    with quiet_system("the day's other posts", speed=speed, client_retries=False) as system:
        answered = [system.clock.incident(system.create_post(username)) for _ in range(posts)]
        recording = system.finish()
    held = recording.holds.where(by=CREATE).between(after=recording.mark("post")).held
    return OrdinaryPosts(followers, held, np.array(answered))


# -- the fixed route --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class FixedRoute(SmallRun):
    """Answers of the route, in turn to an author with few followers and to one with very many; seconds, (n,) each."""

    followers: tuple[int, int]
    few: np.ndarray
    many: np.ndarray

    @property
    def ratio(self) -> float:
        """The median answer to the author with very many followers against that to the one with few."""
        return float(np.median(self.many) / np.median(self.few))

    def table(self) -> Table:
        rows = [
            (number, len(answered), seconds(float(np.median(answered))), seconds(float(answered.max())))
            for number, answered in zip(self.followers, (self.few, self.many), strict=True)
        ]
        return Table(("followers", "posts", "author waits, median", "at most"), rows)


def fixed_route(posts: int = 20, step: int | str = "published fix") -> FixedRoute:
    """Post in turn as an author with 12 followers and as @techinfluencer, ``posts`` times each, at life speed.

    The worker is stopped meanwhile: it would take the processor from the route on a machine that has few. The throttle
    is off, so that every post is handed over.
    """
    username, few = _author(int(np.argmax(dataset.follower_counts() <= FEW_FOLLOWERS)) + 1)
    env = {"THROTTLE_SECONDS": NO_THROTTLE}
    with quiet_system("the fixed route", step=step, speed=1, client_retries=False, trace=False, env=env) as system:
        system.kill_worker()
        pairs = [(system.create_post(username), system.create_post(dataset.INFLUENCER)) for _ in range(posts)]
        followers = (few, system.knobs.followers)
    waited = np.array(pairs)
    return FixedRoute(followers, waited[:, 0], waited[:, 1])


# -- follower counts that are out of date -----------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class StaleCounts(SmallRun):
    """Posts, two at once, of an author who has just passed 10,000 followers, before and after a refresh of the counts.

    ``before`` and ``after``: how many of the two were handed over to the worker. ``interval``: published seconds
    between two refreshes.
    """

    followers_counted: int
    followers: int
    before: int
    after: int
    interval: float

    def table(self) -> Table:
        rows = [
            ("before the refresh", self.followers, self.followers_counted, f"{self.before} of 2"),
            ("after it", self.followers, self.followers, f"{self.after} of 2"),
        ]
        columns = ("", "followers", "followers in the view", "posts let through")
        return Table(columns, rows, caption=f"Refreshed every {seconds(self.interval)}.")


def stale_counts(speed: float = 10) -> StaleCounts:
    """Have an author pass 10,000 followers and post twice at once; refresh the counts as the beat does; twice again.

    The worker is stopped: what counts is what is handed over to it.
    """
    username, counted = _author(GROWING)
    with quiet_system("a view that is out of date", step="published fix", speed=speed, trace=False) as system:
        system.kill_worker()
        with _database(system) as database, _more_followers(database, GAINED):
            before = _handed_over(system, username)
            database.execute("REFRESH MATERIALIZED VIEW follower_counts")
            after = _handed_over(system, username)
    return StaleCounts(counted, counted + GAINED, before, after, value("counts_refreshed"))


def _handed_over(system: System, username: str) -> int:
    """Post twice as ``username`` and return how many tasks that put into the queue."""
    waiting = _queued(system)
    for _ in range(2):
        system.create_post(username)
    return _queued(system) - waiting


def _queued(system: System) -> int:
    with redis.Redis.from_url(system.stack.redis.url) as client:
        return client.llen(QUEUE)


@contextmanager
def _database(system: System) -> Iterator[psycopg.Connection]:
    url = libpq_url(system.stack.postgres.url)
    with psycopg.connect(url, autocommit=True, application_name=APPLICATION_NAME) as database:
        yield database


@contextmanager
def _more_followers(database: psycopg.Connection, number: int) -> Iterator[None]:
    """Have ``number`` more readers follow the growing author for a while."""
    fans = database.execute(
        """
        INSERT INTO follows (followee_id, follower_id)
        SELECT %(author)s, id FROM users WHERE id >= %(first)s
        AND id NOT IN (SELECT follower_id FROM follows WHERE followee_id = %(author)s)
        ORDER BY id LIMIT %(number)s RETURNING follower_id
        """,
        {"author": GROWING, "first": dataset.FIRST_READER_ID, "number": number},
    ).fetchall()
    try:
        yield
    finally:
        gone = {"author": GROWING, "fans": [fan for (fan,) in fans]}
        database.execute("DELETE FROM follows WHERE followee_id = %(author)s AND follower_id = ANY(%(fans)s)", gone)
        database.execute("REFRESH MATERIALIZED VIEW follower_counts")

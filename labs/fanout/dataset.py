"""The people of incident 1: 2,000 authors, their followers and phones, posts and comments, the same on every machine.

Follower counts fall off as a power law of an author's rank, as they do on real networks: @techinfluencer has 45,312,
three authors are beyond 10,000, more than four in five have fewer than 50. Which readers follow whom is drawn from a
seed. This is the laboratory's side; the application in ``social/`` only ever sees the rows.
"""

import json
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from math import gcd
from typing import Any

import numpy as np
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError
from werkzeug.security import generate_password_hash

from labs.fanout.social.models import Base
from labs.stack import Stack, StackError

VERSION = 2  # of the rows below: a database seeded by another version is seeded anew
SEED = 45_312

INFLUENCER = "techinfluencer"
PASSWORD = "correct horse battery staple"  # of every account
PUBLISHED_FOLLOWERS = 45_312  # source: the post-mortem
FEWEST_FOLLOWERS, MOST_FOLLOWERS = 10, 1_000_000

AUTHORS = 2_000  # @techinfluencer among them
READERS = PUBLISHED_FOLLOWERS
POSTS = 10_000
COMMENTS = 20_000
STEEPNESS = 1.2  # the author of rank r has 45,312 / r ** 1.2 followers

INFLUENCER_ID = 1
FIRST_READER_ID = 10_001  # ids 1 to 2,000 are authors
SECOND_DEVICE = 10_000_000  # added to a reader's id: the id of the second phone
CHUNK = 100_000  # readers made between two lines of progress

Progress = Callable[[str], None]


class DatasetError(ValueError):
    """A size that the data cannot have. The message names it, what it was, and what it may be."""


def prepare(
    stack: Stack,
    followers: int = PUBLISHED_FOLLOWERS,
    progress: Progress | None = None,
    *,
    second_devices: float = 0.0,
) -> None:
    """Make the application's schema and data, or find them already there.

    ``followers``: of @techinfluencer, 10 to 1,000,000. ``second_devices``: share of readers, 0 to 1, who carry two
    phones; everybody has at least one, so that with 0 there are exactly as many phones as followers, the published
    45,312. ``progress`` is called with a line of text at each stage.

    Everything is made in one transaction: an interrupted call leaves nothing half done. Takes seconds the first time
    and milliseconds when the data are there. Raises DatasetError for a size out of range, StackError when the
    database cannot be used.
    """
    _check_followers(followers)
    _check_share(second_devices)
    say = progress or _silent
    with _connection(stack) as connection, connection.begin():
        _wait_for_others(connection)
        if _marker(connection).get("version") != VERSION:
            _seed(connection, say)
        _follow_influencer(connection, followers, say)
        _carry_second_devices(connection, second_devices, say)


def set_followers(stack: Stack, followers: int, progress: Progress | None = None) -> None:
    """Make exactly ``followers`` readers, 10 to 1,000,000, follow @techinfluencer, and refresh the follower counts.

    Readers beyond those who exist are made first; they stay when the number goes down again. The system may be
    running meanwhile. Raises DatasetError for a number out of range.
    """
    _check_followers(followers)
    with _connection(stack) as connection, connection.begin():
        _wait_for_others(connection)
        _follow_influencer(connection, followers, progress or _silent)


def restore(stack: Stack) -> None:
    """Remove what runs have added, give phones their tokens back, and count ids on from where the seed ended.

    A post takes its place in the outbox, its fan-outs and their deliveries with it.
    """
    with _connection(stack) as connection, connection.begin():
        _wait_for_others(connection)
        connection.execute(text("DELETE FROM comments WHERE id > :last"), {"last": COMMENTS})
        connection.execute(text("DELETE FROM posts WHERE id > :last"), {"last": POSTS})
        _return_tokens(connection)
        _continue_ids(connection, comments=COMMENTS, posts=POSTS)


def accounts(count: int) -> list[str]:
    """Return the usernames of ``count`` readers who each follow at least four authors besides @techinfluencer.

    The same ones every time. Raises DatasetError if there are not that many.
    """
    followed = np.bincount(_follows()[:, 1] - FIRST_READER_ID, minlength=READERS)
    sociable = np.flatnonzero(followed >= 4) + 1
    if not 1 <= count <= len(sociable):
        raise DatasetError(f"accounts must be 1 to {len(sociable):,}, not {count!r}.")
    return [reader(number) for number in np.random.default_rng(SEED).choice(sociable, count, replace=False)]


def everyday_author() -> str:
    """Return the username of the author with the fewest followers, EVERYDAY_FOLLOWERS of them."""
    return f"author-{AUTHORS:04d}"


def reader(number: int) -> str:
    """Return the username of a reader; the first ``n`` readers follow @techinfluencer when it has ``n`` followers."""
    return f"reader-{number:05d}"


def some_posts(stack: Stack, count: int = 20) -> list[int]:
    """Return the ids of the ``count`` newest posts of the seed; each has comments to read."""
    return list(range(POSTS - count + 1, POSTS + 1))


def follower_counts() -> np.ndarray:
    """Return how many follow the author of each rank, shape (2000,), whole numbers, @techinfluencer first."""
    ranks = np.arange(1, AUTHORS + 1)
    return np.maximum(1, PUBLISHED_FOLLOWERS / ranks**STEEPNESS).astype(int)


EVERYDAY_FOLLOWERS = int(follower_counts()[-1])

# -- seeding ------------------------------------------------------------------------------------------------------


@cache
def _follows() -> np.ndarray:
    """Return who follows the authors other than @techinfluencer: rows of (author's id, reader's id), shape (n, 2).

    Each author's followers are a walk through all readers from a random start with a random stride that is coprime
    to their number, so that nobody is met twice.
    """
    random = np.random.default_rng(SEED)
    pairs = []
    for author_id, count in enumerate(follower_counts()[1:], INFLUENCER_ID + 1):
        stride = _coprime(int(random.integers(1, READERS)))
        readers = (random.integers(READERS) + stride * np.arange(count)) % READERS
        pairs.append(np.column_stack([np.full(count, author_id), readers + FIRST_READER_ID]))
    return np.concatenate(pairs)


def _coprime(stride: int) -> int:
    while gcd(stride, READERS) != 1:
        stride += 1
    return stride


def _seed(connection: Connection, say: Progress) -> None:
    say("creating the schema")
    Base.metadata.drop_all(connection)
    Base.metadata.create_all(connection)
    with _unchecked_references(connection):
        say(f"{AUTHORS:,} authors and {READERS:,} readers")
        _insert_authors(connection)
        _insert_readers(connection, 1, READERS)
        say(f"{len(_follows()):,} follows")
        _copy_follows(connection)
        say(f"{POSTS:,} posts and {COMMENTS:,} comments")
        _insert_posts_and_comments(connection)
    _continue_ids(connection, comments=COMMENTS, posts=POSTS)
    _mark(connection, {"version": VERSION, "readers": READERS, "followers": 0, "second_devices": 0.0})


def _insert_authors(connection: Connection) -> None:
    authors = """
        INSERT INTO users (id, username, password_hash, verified)
        SELECT id, CASE id WHEN :influencer_id THEN :influencer ELSE 'author-' || lpad(id::text, 4, '0') END,
               :password_hash, id = :influencer_id
        FROM generate_series(1, :authors) AS id
    """
    values = {"influencer_id": INFLUENCER_ID, "influencer": INFLUENCER, "authors": AUTHORS}
    connection.execute(text(authors), values | {"password_hash": _password_hash()})
    _insert_devices(connection, "SELECT id AS user_id, id FROM generate_series(1, :authors) AS id", authors=AUTHORS)


def _insert_readers(connection: Connection, first: int, last: int) -> None:
    readers = """
        INSERT INTO users (id, username, password_hash, verified)
        SELECT :offset + n, 'reader-' || CASE WHEN n < 100000 THEN lpad(n::text, 5, '0') ELSE n::text END,
               :password_hash, false
        FROM generate_series(:first, :last) AS n
    """
    numbers = {"offset": FIRST_READER_ID - 1, "first": first, "last": last}
    connection.execute(text(readers), numbers | {"password_hash": _password_hash()})
    owners = "SELECT :offset + n AS user_id, :offset + n AS id FROM generate_series(:first, :last) AS n"
    _insert_devices(connection, owners, **numbers)


def _insert_devices(connection: Connection, owners: str, **values: Any) -> None:
    """Give a phone to each of ``owners``, a query of (user_id, id)."""
    devices = f"""
        INSERT INTO devices (id, user_id, platform, token)
        SELECT id, user_id, CASE WHEN id % 2 = 0 THEN 'ios' ELSE 'android' END, token FROM ({_tokens(owners)}) AS owner
    """
    connection.execute(text(devices), values)


def _tokens(owners: str) -> str:
    """Return a query that adds a token to each of ``owners``, a query with an id: it looks like FCM's and is unique."""
    return f"""
        SELECT owner.*, left(letters, 22) || '\\:APA91b' || substr(letters, 23, 134) AS token
        FROM ({owners}) AS owner,
             LATERAL (SELECT encode(sha512(id::text::bytea) || sha512(('-' || id)::bytea), 'base64') AS digest) AS hash,
             LATERAL (SELECT replace(replace(replace(digest, '+', '-'), '/', '_'), chr(10), '') AS letters) AS random
    """


def _return_tokens(connection: Connection) -> None:
    made = _tokens("SELECT id FROM devices WHERE token IS NULL")
    connection.execute(text(f"UPDATE devices SET token = made.token FROM ({made}) AS made WHERE made.id = devices.id"))


def _copy_follows(connection: Connection) -> None:
    pairs = _follows()
    by_author = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    lines = "\n".join(f"{author}\t{follower}" for author, follower in by_author.tolist())
    with connection.connection.cursor().copy("COPY follows (followee_id, follower_id) FROM STDIN") as copy:
        copy.write(lines)


def _insert_posts_and_comments(connection: Connection) -> None:
    posts = """
        INSERT INTO posts (id, author_id, content, created_at)
        SELECT id, 1 + (id * 7919) % :authors, (CAST(:sentences AS text[]))[1 + (id * 31) % :choice],
               now() - (:posts - id) * interval '35 minutes'
        FROM generate_series(1, :posts) AS id
    """
    values = {"authors": AUTHORS, "posts": POSTS, "sentences": list(SENTENCES), "choice": len(SENTENCES)}
    connection.execute(text(posts), values)
    comments = """
        INSERT INTO comments (id, post_id, author_id, content, created_at)
        SELECT id, 1 + id % :posts, :offset + 1 + (id * 104729::bigint) % :readers,
               (CAST(:replies AS text[]))[1 + (id * 17) % :choice],
               now() - (:comments - id) * interval '17 minutes'
        FROM generate_series(1, :comments) AS id
    """
    values = {"posts": POSTS, "comments": COMMENTS, "offset": FIRST_READER_ID - 1, "readers": READERS}
    connection.execute(text(comments), values | {"replies": list(REPLIES), "choice": len(REPLIES)})


SENTENCES = (
    "Shipped: saved filters on every board. Tell us what you would filter first.",
    "Two weeks with the new editor, and I am not going back.",
    "Does anybody else keep their release notes in the product itself?",
    "Our quarterly numbers are in, and the team earned its Friday.",
    "A small thing that saved us hours: keyboard shortcuts for triage.",
    "Looking for three teams to try the offline mode with us.",
    "Notes from today's customer call: fewer clicks, fewer tabs.",
)
REPLIES = (
    "We would use this every day.",
    "Is there a way to try it?",
    "Same here.",
    "Thank you for writing this down.",
    "How does it behave with large boards?",
)


# -- changing -----------------------------------------------------------------------------------------------------


def _follow_influencer(connection: Connection, followers: int, say: Progress) -> None:
    marker = _marker(connection)
    if marker["followers"] == followers:
        return
    _make_readers(connection, marker, followers, say)
    say(f"{followers:,} followers of @{INFLUENCER}")
    values = {"author": INFLUENCER_ID, "offset": FIRST_READER_ID - 1, "before": marker["followers"], "after": followers}
    with _unchecked_references(connection):
        if followers > marker["followers"]:
            insert = "INSERT INTO follows SELECT :author, :offset + n FROM generate_series(:before + 1, :after) AS n"
            connection.execute(text(insert), values)
        else:
            delete = "DELETE FROM follows WHERE followee_id = :author AND follower_id > :offset + :after"
            connection.execute(text(delete), values)
    connection.execute(text("REFRESH MATERIALIZED VIEW follower_counts"))
    connection.execute(text("ANALYZE"))
    _mark(connection, _marker(connection) | {"followers": followers})


def _make_readers(connection: Connection, marker: dict[str, Any], wanted: int, say: Progress) -> None:
    """Make the readers who are missing up to number ``wanted``, with their phones."""
    with _unchecked_references(connection):
        for first in range(marker["readers"] + 1, wanted + 1, CHUNK):
            last = min(first + CHUNK - 1, wanted)
            say(f"making readers, {last:,} of {wanted:,}")
            _insert_readers(connection, first, last)
            _insert_second_devices(connection, first, last, marker["second_devices"])
    _mark(connection, marker | {"readers": max(marker["readers"], wanted)})


def _carry_second_devices(connection: Connection, share: float, say: Progress) -> None:
    marker = _marker(connection)
    if marker["second_devices"] == share:
        return
    say(f"second phones for {share:.0%} of the readers")
    connection.execute(text("DELETE FROM devices WHERE id > :second"), {"second": SECOND_DEVICE})
    _insert_second_devices(connection, 1, marker["readers"], share)
    connection.execute(text("ANALYZE devices"))
    _mark(connection, marker | {"second_devices": share})


def _insert_second_devices(connection: Connection, first: int, last: int, share: float) -> None:
    """Give a second phone to every reader whose number times ``share`` has just passed a whole number."""
    if share == 0:
        return
    owners = """
        SELECT :offset + n AS user_id, :second + :offset + n AS id FROM generate_series(:first, :last) AS n
        WHERE floor(n * CAST(:share AS numeric)) > floor((n - 1) * CAST(:share AS numeric))
    """
    numbers = {"offset": FIRST_READER_ID - 1, "second": SECOND_DEVICE, "first": first, "last": last, "share": share}
    _insert_devices(connection, owners, **numbers)


# -- the database -------------------------------------------------------------------------------------------------


@contextmanager
def _connection(stack: Stack):
    engine = create_engine(stack.postgres.url, poolclass=NullPool, connect_args={"application_name": "labs-dataset"})
    try:
        with engine.connect() as connection:
            yield connection
    except OperationalError as error:
        if "lock timeout" in str(error):
            remedy = "close the other notebook that is running incident 1, or run `python3 -m labs reset`."
            raise StackError(f"The data of incident 1 are in use by another program; {remedy}") from error
        reason = str(error.orig).strip().splitlines()[0]
        raise StackError(f"The database cannot be used ({reason}); run `python3 -m labs reset`.") from error


def _wait_for_others(connection: Connection) -> None:
    """Let one notebook at a time change the data, and give up rather than wait for ever."""
    connection.execute(text("SET LOCAL lock_timeout = '20s'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SEED})


@contextmanager
def _unchecked_references(connection: Connection):
    """Insert without looking every reference up, where the role may: the rows come from us and refer to each other."""
    try:
        with connection.begin_nested():
            connection.execute(text("SET LOCAL session_replication_role = replica"))
    except DBAPIError:
        yield
        return
    yield
    connection.execute(text("SET LOCAL session_replication_role = DEFAULT"))


def _continue_ids(connection: Connection, **last_ids: int) -> None:
    for table, last in last_ids.items():
        sequence = text("SELECT setval(pg_get_serial_sequence(:table, 'id'), :last)")
        connection.execute(sequence, {"table": table, "last": last})


def _marker(connection: Connection) -> dict[str, Any]:
    """Return what the data hold, noted as a comment on the table of users; empty where there are none of ours."""
    note = connection.scalar(text("SELECT obj_description(to_regclass('users'), 'pg_class')"))
    try:
        return json.loads(note or "{}")
    except ValueError:
        return {}


def _mark(connection: Connection, marker: dict[str, Any]) -> None:
    connection.exec_driver_sql(f"COMMENT ON TABLE users IS '{json.dumps(marker)}'")


@cache
def _password_hash() -> str:
    # One thousand rounds instead of a production's six hundred thousand: signing in must not be what keeps the machine
    # busy while something else is measured.
    return generate_password_hash(PASSWORD, method="pbkdf2:sha256:1000")


def _check_followers(followers: int) -> None:
    whole = isinstance(followers, int) and not isinstance(followers, bool)
    if not whole or not FEWEST_FOLLOWERS <= followers <= MOST_FOLLOWERS:
        allowed = f"{FEWEST_FOLLOWERS} to {MOST_FOLLOWERS:,}"
        raise DatasetError(f"followers must be a whole number from {allowed}, not {followers!r}.")


def _check_share(second_devices: float) -> None:
    if not isinstance(second_devices, int | float) or not 0 <= second_devices <= 1:
        raise DatasetError(f"second_devices must be a share from 0 to 1, not {second_devices!r}.")


def _silent(line: str) -> None:
    pass

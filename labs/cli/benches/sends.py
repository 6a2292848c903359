"""The notifications of one post to 45,312 followers: in batches, one after another and together, and one a request.

The push server answers each call 45 ms after it arrives, as in the post-mortem, and the clock is not compressed. No
latency is added to the database, and nothing is traced: what is left is what the programs themselves take.
"""

import statistics
import time
from contextlib import ExitStack
from math import ceil

import psycopg

from labs import stack
from labs.cli.benches import Row
from labs.fanout import dataset, senders
from labs.fanout.experiment import quiet_system
from labs.fanout.senders import SEND_EACH, Way
from labs.fanout.social.config import CHUNK_SIZE
from labs.fanout.system import System
from labs.kit.samplers import libpq_url

FOLLOWERS = 45_312
CALL = 0.045  # seconds that the push server takes to answer
PUBLISHED = 4.1  # seconds: the post-mortem's figure, 91 batches one after another
FEW_WORKERS, MANY_WORKERS = 2, 8
PATIENCE = 60.0  # wall seconds that one post's notifications may take
ASKED = 3
AT_ONCE = Way("one worker, 500 in flight", "courier_at_once", 500, 1.0)
IN_CHUNKS = Way("a worker with chunks of 500", "courier", 500, 1.0)
SDK_MESSAGES = 3_000
TOKENS = (
    "SELECT devices.token FROM devices JOIN follows ON follows.follower_id = devices.user_id "
    "WHERE follows.followee_id = %s AND devices.token IS NOT NULL"
)


def batches() -> list[Row]:
    """Return how long the published batches take, and those of the step "nothing lost" with several in flight.

    The published fix counts from the post, "nothing lost" from the moment the relay begins the fan-out (it looks once a
    second), both to the answer to the last batch. The limit of the second is one call's 45 ms, if all were in flight
    together, and the query for all tokens, as it took in the same run.
    """
    with _system("published fix") as system:
        posted = time.time()
        system.create_post()
        published = _last_answer(system) - posted
    one_by_one = ceil(FOLLOWERS / CHUNK_SIZE) * CALL
    rows = [
        Row("45,312 notifications by the published batches", published, most=PUBLISHED),
        Row("the same", published, against=f"{ceil(FOLLOWERS / CHUNK_SIZE)} times 45 ms", peer=one_by_one),
    ]
    for workers in (FEW_WORKERS, MANY_WORKERS):
        took, limit = _together(workers)
        name = f"the same by “nothing lost”, {workers} batches in flight"
        rows.append(Row(name, took, against="45 ms and the query", peer=limit))
        rows.append(Row(name, took, against="the published batches", peer=published, inverse=True))
    return rows


def _system(step: str, workers: int = FEW_WORKERS):
    knobs = {"followers": FOLLOWERS, "workers": workers, "speed": 1, "db_latency_ms": 0, "trace": False}
    return quiet_system(step=step, **knobs)


def _together(workers: int) -> tuple[float, float]:
    """Return the seconds from the fan-out's beginning to the last answer, and the limit of that."""
    with _system("nothing lost", workers) as system:
        system.create_post()
        ended = _last_answer(system)
        with psycopg.connect(libpq_url(system.stack.postgres.url)) as connection:
            begun = connection.execute("SELECT extract(epoch FROM max(started_at))::float8 FROM fanouts").fetchone()[0]
            query = statistics.median(_asked(connection) for _ in range(ASKED))
    return ended - begun, CALL + query


def _asked(connection: psycopg.Connection) -> float:
    """Return the seconds that the tokens of all followers take to arrive."""
    started = time.monotonic()
    connection.execute(TOKENS, (dataset.INFLUENCER_ID,)).fetchall()
    return time.monotonic() - started


def _last_answer(system: System) -> float:
    """Wait until all are accepted; return when the last call was answered, as wall time."""
    until = time.monotonic() + PATIENCE
    while (counters := system.push.counters())["accepted"] < FOLLOWERS:
        if time.monotonic() > until:
            raise RuntimeError(f"only {counters['accepted']} of {FOLLOWERS} notifications after {PATIENCE:g} s")
        time.sleep(0.02)
    return counters["last_accepted_at"] + CALL


def one_each() -> list[Row]:
    """Return messages a second of the last step's courier, one v1 request each, beside Google's own client.

    The courier gets all 45,312 in one call: ``send_each`` takes 500 and ends when the last of them is answered.
    """
    official = _rate(SDK_MESSAGES, SEND_EACH)
    courier, workers = _rate(FOLLOWERS, AT_ONCE), _rate(FOLLOWERS, IN_CHUNKS, IN_CHUNKS)
    name = "v1 requests a second, one process, 500 in flight"
    return [
        Row("45,312 notifications, one v1 request each", FOLLOWERS / courier),
        Row(name, courier, "/s", "the SDK's send_each", official, least=5.0),
        Row("the same, two processes with chunks of 500", workers, "/s", "the SDK's send_each", official),
    ]


def _rate(messages: int, *ways: Way) -> float:
    """Return how many messages a second the processes accept together, each sending its share of ``messages``."""
    servers = stack.up()
    with senders.own_project(servers) as push, ExitStack() as processes:
        started = [processes.enter_context(senders.sending(way, push)) for way in ways]
        for sender in started:
            sender.hear()
        push.reset(keep_settings=True)
        began = time.monotonic()
        for sender in started:
            sender.begin(messages // len(started))
        for sender in started:
            sender.hear()
        return push.counters()["accepted"] / (time.monotonic() - began)

"""Exercise 4: pods, pools and threads for a load and a database that takes so many connections and no more."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from labs.fanout.experiment import quiet_system
from labs.fanout.graded.scene import entries, until
from labs.fanout.knobs import Knobs
from labs.fanout.system import System
from labs.kit.grading import Exercise, Finding, at_least, at_most

RATE, HELD_S, SPEED = 16, 0.5, 4  # requests a second, seconds that each keeps its connection; of the incident
NEED = RATE * HELD_S
LEAST = int(1.5 * NEED)
LIMIT, SUPERUSERS, WORKER = 40, 3, 10
LEFT = LIMIT - SUPERUSERS - WORKER
LOAD_S = 16  # incident seconds of load before it is judged
UNANSWERED = 24  # requests without an answer that a fleet in order may have at any moment: three times the need
RECOVERS = 20.0  # wall seconds, at most, in which a fleet in order makes up for a pause of the machine

TASK = f"""
Readers send {RATE} requests a second. Each keeps a thread and a connection for {HELD_S:g} s, because the database is
slow to answer today. PostgreSQL allows {LIMIT} connections: {SUPERUSERS} are reserved for its superuser, and the
worker's pools may take {WORKER}.

Choose `pods` (at least 2, so that one may die), `pool_size` and `threads` for each pod, so that

- the fleet has half as many connections again as requests are being served on average, and as many threads at least;
- the limit holds also during a deployment, when one pod more than usual is running.

Answer with a dictionary: `{{"pods": ..., "pool_size": ..., "threads": ...}}`. Pods have no overflow beyond the pool.
"""

HINTS = (
    "Little's law: how many requests are being served at a moment is how many come in a second, times how long each "
    "takes.",
    f"{RATE} x {HELD_S:g} = {NEED:g} requests on average, so {LEAST} connections and {LEAST} threads in all. "
    f"For the pools {LIMIT} - {SUPERUSERS} - {WORKER} = {LEFT} connections are left.",
    f"pods x pool_size must be {LEAST} or more, (pods + 1) x pool_size {LEFT} or less, pods x threads {LEAST} or more. "
    "A few threads beyond the pool do no harm; threads below it leave connections unused.",
)

SOLUTION = f"""
fleet_size.check({{"pods": 3, "pool_size": 6, "threads": 12}})

18 connections serve {NEED:g} requests on average with room for crowds, and 24 during a deployment fit into {LEFT}. Two
pods with a pool of 8 do as well. A published pool of 20 would need 60 connections during the deployment of two pods.
"""


def grade(answer: Mapping[str, Any]) -> Iterator[Finding]:
    """Check the arithmetic; then run that fleet under that load, unless only chance would decide."""
    knobs = Knobs(**dict(zip(("pods", "pool_size", "threads"), entries(answer, "pods", "pool_size", "threads"),
                             strict=True)))  # fmt: skip
    pods, connections, threads = knobs.pods, knobs.pods * knobs.pool_size, knobs.pods * knobs.threads
    yield at_least("pods", pods, 2, "With a single pod nobody is served while it restarts.")
    beyond = "Beyond the limit PostgreSQL answers `too many clients`: count what is reserved and the extra pod."
    yield at_most("connections during a deployment", connections + knobs.pool_size, LEFT, beyond)
    yield at_least("connections of the whole fleet", connections, LEAST,
                   "Little's law says how many are in use on average; crowds need more.")  # fmt: skip
    unused = "A request needs a thread for as long as it is served: too few leave connections unused."
    yield at_least("threads of the whole fleet", threads, LEAST, unused)
    served_at_once = min(connections, threads)
    if served_at_once >= LEAST or served_at_once <= NEED / 2:
        yield at_most("requests not served, under load", _not_served(knobs, served_at_once >= LEAST), UNANSWERED,
                      f"A fleet that serves {served_at_once} at once ends {served_at_once / HELD_S:g} requests a "
                      f"second at most, and {RATE} come.", varies=True)  # fmt: skip


def _not_served(knobs: Knobs, recovers: bool) -> int:
    """Return how many readers' requests have failed or are without an answer, after a while of load."""
    with quiet_system("your fleet under load", pods=knobs.pods, pool_size=knobs.pool_size, threads=knobs.threads,
                      speed=SPEED, followers=1_000) as system:  # fmt: skip
        system.change(db_latency_ms=1000 * HELD_S, request_rate=RATE)
        started = system.clock.since_start(time.time())
        patience = RECOVERS if recovers else 0.0
        until(lambda: system.clock.since_start(time.time()) > started + LOAD_S, system)
        until(lambda: _open_or_failed(system) <= UNANSWERED, system, patience)
        return _open_or_failed(system)


def _open_or_failed(system: System) -> int:
    return system.readers_in_flight() + sum(bucket["failed"] for bucket in system.recorder.live()["buckets"])


fleet_size = Exercise("Size the fleet", TASK, grade, hints=HINTS, solution=SOLUTION, points=2, answer="dictionary")

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
MOST_PODS = 4  # what the knob allows
LOAD_S = 16  # incident seconds of load before it is judged
UNANSWERED = 24  # requests without an answer that a fleet in order may have at any moment: three times the need
RECOVERS = 20.0  # wall seconds, at most, in which a fleet in order makes up for a pause of the machine

TASK = f"""
Readers send {RATE} requests a second. Each keeps a thread and a connection for {HELD_S:g} s, because the database is
slow to answer today. PostgreSQL allows {LIMIT} connections: {SUPERUSERS} are reserved for its superuser, and the
worker's pools may take {WORKER}.

Choose `pods`, from 2 to {MOST_PODS}, and `pool_size` and `threads` for each pod, so that

- the whole fleet has at least half as many connections again as requests are being served on average;
- one pod may die: the connections of the others are still as many as requests are being served on average;
- each pod has at least as many threads as connections;
- the limit of PostgreSQL holds also during a deployment, when one pod more than usual is running.

Answer with a dictionary: `{{"pods": ..., "pool_size": ..., "threads": ...}}`. Pods have no overflow beyond the pool.
"""

HINTS = (
    "Little's law: how many requests are being served at a moment is how many come in a second, times how long each "
    "takes.",
    f"{RATE} x {HELD_S:g} = {NEED:g} requests are being served on average. How many connections is that for the whole "
    "fleet, and for the fleet without one pod? And how many does PostgreSQL leave to the pods' pools?",
    f"pods x pool_size must be {LEAST} or more, (pods - 1) x pool_size {NEED:g} or more, and (pods + 1) x pool_size "
    f"{LIMIT} - {SUPERUSERS} - {WORKER} = {LEFT} or less. A few threads beyond the pool do no harm; threads below it "
    "leave connections unused.",
)

SOLUTION = f"""
fleet_size.check({{"pods": 3, "pool_size": 6, "threads": 12}})

18 connections serve {NEED:g} requests on average with room for crowds, the 12 of two pods do when the third has died,
and 24 during a deployment fit into {LEFT}. Two pods need a pool of 8 or 9, because one of them may be alone; three do
with 4 to 6, four with 3 to 5. The published pool of 20 would need 60 connections during a deployment of two pods.
"""


def grade(answer: Mapping[str, Any]) -> Iterator[Finding]:
    """Check the arithmetic; then run that fleet under that load, unless only chance would decide."""
    knobs = Knobs(**dict(zip(("pods", "pool_size", "threads"), entries(answer, "pods", "pool_size", "threads"),
                             strict=True)))  # fmt: skip
    pods, connections, threads = knobs.pods, knobs.pods * knobs.pool_size, knobs.pods * knobs.threads
    served_at_once = min(connections, threads)
    yield at_least("pods", pods, 2, "With a single pod nobody is served while it restarts.")
    beyond = "Beyond the limit PostgreSQL answers `too many clients`: count what is reserved and the extra pod."
    yield at_most("connections during a deployment", connections + knobs.pool_size, LEFT, beyond)
    yield at_least("connections of the whole fleet", connections, LEAST,
                   "Little's law says how many are in use on average; crowds need more.")  # fmt: skip
    alone = "One pod may die. Are the others' connections enough for the requests that are being served on average?"
    yield at_least("connections left when one pod has died", connections - knobs.pool_size, int(NEED), alone)
    unused = "A request needs a thread for as long as it is served: too few leave connections of the pool unused."
    yield at_least("threads of each pod", knobs.threads, knobs.pool_size, unused)
    if served_at_once >= LEAST or served_at_once <= NEED / 2:
        yield _under_load(knobs, served_at_once)


def _under_load(knobs: Knobs, served_at_once: int) -> Finding:
    """Run the fleet; a fleet in order has about NEED requests in hand, and at most three times as many."""
    found = _not_served(knobs, served_at_once >= LEAST)
    look_at = (f"A fleet that serves {served_at_once} at once ends {served_at_once / HELD_S:g} requests a second at "
               f"most, and {RATE} come. {UNANSWERED} is three times the {NEED:g} that are being served on "
               "average.")  # fmt: skip
    target = f"at most {UNANSWERED}, three times the average being served"
    return Finding("requests not served, under load", found, target, found <= UNANSWERED, look_at, varies=True)


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

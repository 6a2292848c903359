"""Exercise 1: the attempt that takes the last connection, predicted before it is measured."""

from collections.abc import Iterator

from labs.fanout.experiment import quiet_system
from labs.fanout.graded.scene import AnswerError, wait_for
from labs.fanout.outcome import CREATE
from labs.fanout.system import System
from labs.kit.grading import Exercise, Finding, exactly

PODS, POOL, PATIENCE_S, SPEED = 2, 3, 5, 20

TASK = f"""
Two pods run the code as it failed. Each has a pool of {POOL} connections and 64 threads; the load balancer takes turns.
Nobody else is about: only @techinfluencer, who presses Post once. The phone gives up after {PATIENCE_S} s and sends
the post again, for as long as it gets no answer.

Which attempt takes the last connection of the whole system? The first press is attempt 1. Answer with a whole number.
"""

HINTS = (
    "A phone that gives up tells nobody. What does the pod do with the request that it is working on?",
    "Each attempt that finds a connection keeps it until its loop over 45,312 followers is over. Threads are no limit.",
    "One attempt, one connection: count the connections of both pods, and count the first press as an attempt.",
)

SOLUTION = f"""
last_connection.check({PODS * POOL})

Each attempt keeps one connection for half an hour, because a phone that gives up does not stop the loop in the pod. So
the last of {PODS} x {POOL} connections goes to attempt {PODS * POOL}, which is repetition {PODS * POOL - 1}, after
{PODS * POOL - 1} x {PATIENCE_S} s. A larger pool only moves that moment.

Why no more attempts than connections? Nobody else is about, and within {PATIENCE_S} s every attempt has its connection.
In the notebook's run it took 27 attempts to keep 20 connections: with readers about and a phone that waits 2 s, some
attempts are given up while they still wait for a connection or for their turn at the interpreter.
"""


def grade(answer: int) -> Iterator[Finding]:
    """Run that outage, then say what the attempt that was named would have found and left."""
    if not 1 <= answer <= 1000:
        raise AnswerError(f"The answer must be an attempt from 1 to 1,000, not {answer:,}.")
    with quiet_system("two pods and one impatient phone", pods=PODS, pool_size=POOL,
                      client_timeout_s=PATIENCE_S, speed=SPEED) as system:  # fmt: skip
        system.post()
        wait_for("The end of the pool", lambda: _held(system) >= PODS * POOL, system)
        last = _last_to_hold(system)
    yield exactly("your attempt is too late: the last connection is gone", answer > last, False,
                  "No connection was left for it. Count what there is: pods and the pool of each, not threads.")
    yield exactly("your attempt is too early: connections are left after it", answer < PODS * POOL, False,
                  "There were connections for more. Count the pools of both pods, and the first press as attempt 1.")


def _held(system: System) -> int:
    return sum(_held_by_pod(system).values())


def _held_by_pod(system: System) -> dict[str, int]:
    pods = system.recorder.live()["pods"]
    return {pod["pod"]: sum(1 for slot in pod["slots"] if slot and slot["by"] == CREATE) for pod in pods}


def _last_to_hold(system: System) -> int:
    """Return the number of the attempt that took the last connection.

    The attempts that reach a pod take its connections in turn: those that hold one are the first that it was sent.
    """
    held = _held_by_pod(system)
    sent = system.finish().requests.where(who="author")
    numbers = [sorted(sent[sent.pod == pod].attempt.tolist())[:count] for pod, count in held.items()]
    return int(max(max(each, default=0) for each in numbers))


last_connection = Exercise("The last connection", TASK, grade, hints=HINTS, solution=SOLUTION, points=1,
                           answer="whole number")

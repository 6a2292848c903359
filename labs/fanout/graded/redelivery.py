"""Exercise 5: the published fix's worker is killed in the middle of a fan-out, and nobody is to miss the news."""

from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

from redis import Redis

from labs.fanout.experiment import quiet_system
from labs.fanout.graded.scene import AnswerError, program, until, wait_for
from labs.fanout.system import QUEUE, System
from labs.kit.grading import Exercise, Finding, between, exactly

FOLLOWERS, BATCH_S, SPEED = 2_000, 5, 20
USUAL_S, WORST_S, BACK_S = 20, 60, 120  # incident seconds: the task, the task at its worst, back with a worker
CELERY_VISIBILITY = 3_600  # seconds; kombu's default for Redis
SWEEP = 0.1  # wall seconds between a worker's looks for messages whose time-out has passed
UNHURRIED = 60.0  # wall seconds
HANGING = 600_000  # ms: the batch that the worker dies with is not answered
SETTINGS = ("task_acks_late", "task_reject_on_worker_lost", "broker_transport_options")

TASK = f"""
The published fix sends {FOLLOWERS:,} notifications in four batches; the push service takes {BATCH_S} s for each today.
So the task takes {USUAL_S} s, and {WORST_S} s at its worst; no other task waits. Redis is the broker. Then somebody
kills the worker, with all its processes, in the middle of the fan-out, and another one is started.

Give the Celery settings, a dictionary, with which nobody misses the post and, as long as no worker dies, nobody gets
it twice. What a dead worker was doing must be back with another one within {BACK_S} s. Celery's own defaults are
`task_acks_late` False and a `visibility_timeout` of {CELERY_VISIBILITY:,} s among the `broker_transport_options`.
(The lab's workers look for abandoned messages every 2 s; kombu's default is about every 100 s.)
"""

HINTS = (
    "When is a message taken off the queue for good: when a worker receives it, or when it has done the task?",
    "With `task_acks_late` the broker keeps the message until the task is done. Redis cannot tell a dead worker from a "
    "slow one, so a message that is not acknowledged comes back after the visibility time-out: to whom, if the worker "
    "is only slow? The clock starts when the message is handed to a worker.",
    f"`task_acks_late` True, and a `visibility_timeout` above the longest task, {WORST_S} s, but not above {BACK_S} s. "
    "(Tasks that waited inside the worker before they begin would have to be added; here none does.)",
)

SOLUTION = """
killed_worker.check({"task_acks_late": True, "broker_transport_options": {"visibility_timeout": 90}})

Acknowledged late, the message outlives its worker; the time-out decides when it comes back. Shorter than the task, it
comes back while a worker is still at it, and everybody is told twice. The new cost: the task begins again from the
start, so the batches that were already sent are sent twice. One task for each chunk makes that one chunk.

With other tasks about, the longest task is not enough. The clock starts when Redis hands the message to a worker, which
takes some in advance: `worker_prefetch_multiplier`, 4 by default, times its processes. A task with an ETA, a countdown
or a retry that is due later waits there too. So the time-out must exceed the longest task plus its longest wait in the
worker; `worker_prefetch_multiplier` 1 keeps that wait short, though not that of an ETA. And a message whose time has
passed comes back only at kombu's next look: every 100 s or so by default, which adds to the time until it is back.
"""


def grade(answer: Mapping[str, Any]) -> Iterator[Finding]:
    """Run the published fix with the learner's settings: once in peace, once with a worker that is killed."""
    settings, visibility = _read(answer)
    late = bool(settings.get("task_acks_late"))
    if late:
        shared = "At its worst the task takes longer: it would be handed to a second worker."
        kept = "Until it has passed, what a dead worker had taken is with nobody."
        yield between("visibility time-out", visibility, WORST_S, BACK_S, shared if visibility < WORST_S else kept,
                      "s", varies=False)  # fmt: skip
    if late and USUAL_S / 4 < visibility < WORST_S:
        return
    with program(
        with_settings=_source(settings, visibility / SPEED), in_peace=_source(settings, _in_peace_for(visibility)),
    ) as found, quiet_system(
        "the published fix with your settings", step="published fix", followers=FOLLOWERS, speed=SPEED,
        fcm_latency_ms=0, module="in_peace", env={**found, "FCM_TIMEOUT": 600},
    ) as system, Redis.from_url(system.stack.redis.url) as broker:  # fmt: skip
        twice = _in_peace(system, broker)
        yield exactly("nobody dies: phones told twice", twice, False,
                      "The task was handed to a second process while the first was still at it. "
                      "Compare the visibility time-out with the length of the task.")  # fmt: skip
        if twice:
            return
        system.deploy(module="with_settings")
        lost = _with_a_kill(system, broker, waits=visibility <= BACK_S)
        yield exactly("a worker is killed: followers who are not told", lost, 0,
                      _why_lost(late))  # fmt: skip


def _in_peace_for(visibility: float) -> float:
    """Return the time-out for the run without a kill, wall seconds.

    One that is long enough by the rule is longer still here: a pause of a busy machine is no slow task.
    """
    return max(visibility / SPEED, UNHURRIED) if visibility >= WORST_S else visibility / SPEED


def _read(answer: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
    """Return the settings apart from the visibility time-out, and that, in incident seconds."""
    for name in answer:
        if name not in SETTINGS:
            raise AnswerError(f"A setting must be one of {', '.join(SETTINGS)}, not {name}.")
    options = answer.get("broker_transport_options", {})
    if not isinstance(options, Mapping) or set(options) - {"visibility_timeout"}:
        raise AnswerError(f'broker_transport_options must be like {{"visibility_timeout": 100}}, not {options!r}.')
    visibility = options.get("visibility_timeout", CELERY_VISIBILITY)
    if isinstance(visibility, bool) or not isinstance(visibility, Real) or not 0 < visibility <= 1e6:
        raise AnswerError(f"visibility_timeout must be a number of seconds above 0, not {visibility!r}.")
    switches = {name: value for name, value in answer.items() if name != "broker_transport_options"}
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise AnswerError(f"{name} must be True or False, not {value!r}.")
    return switches, float(visibility)


def _source(settings: Mapping[str, Any], visibility: float) -> str:
    """Return the program: the published fix, deployed with other settings."""
    options = {"visibility_timeout": visibility, "unacked_restore_interval": SWEEP, "unacked_restore_throttle": 1}
    return (
        "from labs.fanout.step4_published_fix import app, celery_app\n\n"
        f"celery_app.conf.update(broker_transport_options={options!r}, **{dict(settings)!r})\n"
        "__all__ = ['app', 'celery_app']\n"
    )


def _in_peace(system: System, broker: Redis) -> bool:
    """Post while nobody dies; return whether any phone was told twice."""
    system.change(fcm_latency_ms=1000 * BATCH_S)
    system.start_count()
    system.create_post()

    def over() -> bool:
        return _twice(system) > 0 or (_reached(system) >= FOLLOWERS and _kept(broker) == 0)

    wait_for("The end of the fan-out", over, system)
    return _twice(system) > 0


def _with_a_kill(system: System, broker: Redis, waits: bool) -> int:
    """Post, kill the worker with a batch on its way, start another; return how many followers are not told.

    ``waits``: whether the message can come back in time at all.
    """
    system.start_count()
    system.push.set(latency_ms=HANGING)
    system.create_post()
    wait_for("The first batch", lambda: _reached(system) > 0, system)
    system.kill_worker()
    system.push.set(latency_ms=0)
    if waits and _kept(broker):
        system.start_worker()
        until(lambda: _reached(system) >= FOLLOWERS, system)
    return FOLLOWERS - _reached(system)


def _why_lost(late: bool) -> str:
    if late:
        return "The message is still kept for the dead worker. Look at how long Redis waits before it gives it away."
    return "The broker had already forgotten the message. Look at when a task is acknowledged."


def _reached(system: System) -> int:
    return system.push.counters()["devices"]


def _twice(system: System) -> int:
    return system.push.counters()["duplicates"]


def _kept(broker: Redis) -> int:
    """Return how many messages the broker still has: waiting, or with a worker that has not acknowledged them."""
    return broker.llen(QUEUE) + broker.hlen("unacked")


killed_worker = Exercise("A killed worker", TASK, grade, hints=HINTS, solution=SOLUTION, points=2, answer="dictionary")

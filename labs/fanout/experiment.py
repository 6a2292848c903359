"""Scripted runs of incident 1: one call, one outcome.

    alone = run(client_retries=False)
    retried = run(client_retries=True)
    retried.verdict()
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from labs import stack
from labs.fanout import dataset
from labs.fanout.knobs import Knobs
from labs.fanout.outcome import Outcome
from labs.fanout.steps import RELEASE_EARLY, step_of
from labs.fanout.system import System
from labs.kit import live_now
from labs.kit.progress import Progress
from labs.kit.servers import table as servers_table

LEAD_IN = 1.0  # wall seconds of ordinary traffic before the post
SETTLE = 60.0  # wall seconds, at most, that a run waits for what must come: the last connection, the last push
CONSEQUENCES = 2.2  # wall seconds that an outage must last before a run may judge it
LAST_ANSWERS = 10.0  # wall seconds, at most, that readers who will be answered are waited for
SILENCE = 4.0  # wall seconds without a notification after which a fan-out counts as over


def run(**knobs: Any) -> Outcome:
    """Run the system once and return what happened.

    ``knobs`` are those of ``Knobs``, in incident units: ``run(followers=12)``, ``run(step="hand off", seconds=60)``.
    One second of ordinary traffic on your clock, then @techinfluencer posts, and the run goes on until ``seconds`` of
    the incident have passed. Only one system runs at a time: a panel that is open is closed first.
    Raises KnobError for a knob that does not exist or a value out of range, StackError when a server is gone.
    """
    wanted = Knobs(**knobs)
    live_now.close()
    with _system(wanted, f"{wanted.seconds:g} s of the incident") as (system, progress):
        return _script(system, progress)


def _script(system: System, progress: Progress) -> Outcome:
    knobs, clock = system.knobs, system.clock
    posted_at = clock.incident(LEAD_IN)
    if knobs.posts:
        system.post(knobs.posts, at=clock.epoch(posted_at))
    if knobs.restart_at_s is not None:
        _wait_until(system, knobs.restart_at_s, progress)
        system.restart_pods()
    _wait_until(system, knobs.seconds, progress)
    if _takes_every_connection(knobs, posted_at):
        _unfold(system, progress)
    elif system.step.number != RELEASE_EARLY:
        _see_the_post(system)
        _let_readers_finish(system)
    if system.step.finishes and knobs.posts:
        _settle(system, progress)
    progress.say("reading the recording")
    recording = system.finish()
    return Outcome(recording, knobs, posted_at, fanouts=system.fanouts, left_over=system.left_over)


def _wait_until(system: System, at: float, progress: Progress) -> None:
    """Sleep until incident second ``at``, moving the progress line, and stop early if a server has died."""
    until = system.clock.epoch(at)
    while (left := until - time.time()) > 0:
        passed = system.clock.since_start(time.time())
        progress.at(passed / system.knobs.seconds, f"{system.clock.label(passed)} in the incident")
        time.sleep(min(left, 0.2))
        system.check()


def _takes_every_connection(knobs: Knobs, posted_at: float) -> bool:
    """Whether these knobs must end with every connection held by the post, on any machine, within the run.

    The first steps keep a connection for each press or repetition of Post until the loop over the followers is over,
    which takes far longer than a run; so it is a matter of counting.
    """
    loop = knobs.followers * knobs.fcm_latency_ms / 1000
    if not step_of(knobs.step).holds_connection or not knobs.posts or loop < 2 * knobs.seconds:
        return False
    missing = knobs.pool_size * knobs.pods - knobs.posts
    if missing <= 0:
        return True
    started = max(posted_at, knobs.restart_at_s or 0.0)
    return knobs.client_retries and started + missing * knobs.client_timeout_s / knobs.posts < knobs.seconds


def _unfold(system: System, progress: Progress) -> None:
    """On a slow machine the last connection may go later than it should: wait for it, then for its consequences."""
    progress.say("waiting for the last connection to go")
    everything = system.knobs.pool_size * system.knobs.pods
    _until(lambda: system.connections_held_by_posts() >= everything, SETTLE, system)
    _wait_until(system, system.clock.since_start(system.full_since + CONSEQUENCES), progress)


def _see_the_post(system: System) -> None:
    """On a slow machine a patient post may begin its loop late: wait until it is seen with its connection."""
    knobs = system.knobs
    loop = knobs.followers * knobs.fcm_latency_ms / 1000
    if system.step.holds_connection and knobs.posts and loop > 2 * knobs.seconds:
        _until(lambda: system.connections_held_by_posts() >= 1, SETTLE, system)


def _let_readers_finish(system: System) -> None:
    """A pause of the machine at the very end is no outage: wait until few readers are still without an answer."""
    few = max(2.0, 0.5 * system.knobs.request_rate * system.knobs.speed)
    _until(lambda: system.readers_in_flight() <= few, LAST_ANSWERS, system)


def _settle(system: System, progress: Progress) -> None:
    """Wait for the last notification, and until the recorder has seen it."""
    progress.say("waiting for the last notification")
    wanted = system.knobs.followers * system.knobs.posts
    seen, since = -1, time.monotonic()

    def over() -> bool:
        nonlocal seen, since
        accepted = system.push.counters()["accepted"]
        if system.step.outbox:  # the database knows; a throttled post may wait a minute without a sign
            seen = accepted
            return system.unsent() == 0
        if accepted != seen:
            seen, since = accepted, time.monotonic()
        return accepted >= wanted or time.monotonic() - since > SILENCE

    _until(over, SETTLE, system)
    _until(lambda: (system.recorder.live()["fcm"] or {}).get("accepted", 0) >= seen, LAST_ANSWERS, system)


def _until(reached: Callable[[], bool], patience: float, system: System) -> None:
    """Wait for ``reached``, at most ``patience`` wall seconds; raises StackError when a server dies meanwhile."""
    until = time.monotonic() + patience
    while not reached() and time.monotonic() < until:
        time.sleep(0.1)
        system.check()


@contextmanager
def quiet_system(
    title: str = "one request at a time",
    *,
    env: Mapping[str, object] | None = None,
    module: str | None = None,
    gates: bool = False,
    **knobs: Any,
) -> Iterator[System]:
    """Run the system without readers for the length of a ``with`` block, for measurements one request at a time.

    ``title`` heads the line of progress; ``env``, ``module`` and ``gates`` are those of ``System``.
    """
    wanted = Knobs(request_rate=0, **knobs)
    live_now.close()
    with _system(wanted, title, env=env, module=module, gates=gates) as (system, _):
        yield system


@contextmanager
def _system(knobs: Knobs, title: str, **parts: Any) -> Iterator[tuple[System, Progress]]:
    with Progress(title) as progress, System(stack.up(progress=progress.say), knobs, progress.say, **parts) as system:
        try:
            yield system, progress
        except Exception:
            system.check()  # a server that has died explains whatever else went wrong
            raise


def prepare() -> Any:
    """Bring the servers up, make the data, and return a table of what runs where."""
    with Progress("the servers and the data") as progress:
        servers = stack.up(progress=progress.say)
        dataset.prepare(servers, progress=progress.say)
        return servers_table(servers)

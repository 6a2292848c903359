"""Incident 1's figures: the fixed route, and what tracing costs."""

import statistics
import time

import redis

from labs.cli.benches import Row
from labs.fanout.experiment import quiet_system
from labs.fanout.system import System

FEW, MANY = 12, 45_312
POSTS = 5
PATIENCE = 60.0  # wall seconds that one post's notifications may take
TRACED_FOLLOWERS = 400
# The last step's notifications go out as fast as they can: no minute between two fan-outs, no ramp, no quota.
NO_WAITING = {"today": {"THROTTLE_SECONDS": 0, "FCM_RAMP_UP": 0, "FCM_QUOTA_PER_MINUTE": 10**9}}


def fixed_route() -> list[Row]:
    """Return the route's answer at 45,312 followers beside that at 12, of the published fix and of the last step.

    Medians, wall seconds, no latency added. Each post is let through the throttle and its notifications are waited for,
    so that every one does all its work.
    """
    return [*_flat("published fix", "fixed route"), *_flat("today", "last step's route")]


def _flat(step: str, route: str) -> list[Row]:
    with quiet_system(step=step, followers=FEW, speed=20, db_latency_ms=0, env=NO_WAITING.get(step)) as system:
        few = _answers(system, FEW)
        system.change(followers=MANY)
        many = _answers(system, MANY)
    name = f"{route} answers, 45,312 followers"
    return [
        Row(name, many, against="the same with 12 followers", peer=few, most=1.2),
        Row(name, many, most=0.013),
    ]


def _answers(system: System, followers: int) -> float:
    """Return the median answer of POSTS posts; a first one warms up."""
    took = [_one_post(system, followers) for _ in range(POSTS + 1)]
    return statistics.median(took[1:])


def _one_post(system: System, followers: int) -> float:
    with redis.Redis.from_url(system.stack.redis.url) as client:
        for lock in client.scan_iter("fanout:*"):
            client.delete(lock)
    system.start_count()
    took = system.create_post()
    _until_all_are_sent(system, followers)
    return took


def _until_all_are_sent(system: System, wanted: int) -> None:
    until = time.monotonic() + PATIENCE
    while (accepted := system.push.counters()["accepted"]) < wanted or system.unsent():
        if time.monotonic() > until:
            raise RuntimeError(f"only {accepted} of {wanted} notifications after {PATIENCE:g} s")
        time.sleep(0.05)


def tracing() -> list[Row]:
    """Return what one post to 400 followers takes as it failed with spans recorded, beside the same without."""
    with quiet_system(step="as it failed", followers=TRACED_FOLLOWERS, trace=True) as system:
        traced = _median_post(system)
    with quiet_system(step="as it failed", followers=TRACED_FOLLOWERS, trace=False) as system:
        bare = _median_post(system)
    return [Row("one post in the loop, 400 followers, traced", traced, against="the same untraced", peer=bare)]


def _median_post(system: System) -> float:
    return statistics.median(system.create_post() for _ in range(3))

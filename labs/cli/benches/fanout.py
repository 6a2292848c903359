"""Incident 1's figures: the fixed route, the notifications of one post, what tracing costs."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

from labs import stack
from labs.cli.benches import Row
from labs.fanout.experiment import quiet_system
from labs.fanout.system import System
from labs.fcm import Admin

FEW, MANY = 12, 45_312
POSTS = 9
PATIENCE = 60.0  # wall seconds that one post's notifications may take
TRACED_FOLLOWERS = 400
IN_FLIGHT = 500  # v1 sends under way at once
SDK_MESSAGES = 2_000
SDK_CALL = 500  # the most that one send_each takes


def fixed_route() -> list[Row]:
    """Return the route's answer at 45,312 followers beside that at 12: medians, wall seconds, no latency added.

    Each post is let through the throttle and its notifications are waited for, so that every one does all its work.
    """
    with quiet_system(step="published fix", followers=FEW, speed=20, db_latency_ms=0) as system:
        few = _answers(system, FEW)
        system.change(followers=MANY)
        many = _answers(system, MANY)
    return [
        Row("fixed route answers, 45,312 followers", many, against="the same with 12 followers", peer=few, most=1.2),
        Row("fixed route answers, 45,312 followers", many, most=0.013),
    ]


def _answers(system: System, followers: int) -> float:
    """Return the median answer of POSTS posts; a first one warms up."""
    took = [_one_post(system, followers) for _ in range(POSTS + 1)]
    return statistics.median(took[1:])


def _one_post(system: System, followers: int) -> float:
    import redis

    with redis.Redis.from_url(system.stack.redis.url) as client:
        for lock in client.scan_iter("fanout:*"):
            client.delete(lock)
    system.push.reset(keep_settings=True)
    took = system.create_post()
    _until_all_are_sent(system.push, followers)
    return took


def _until_all_are_sent(push: Admin, wanted: int) -> dict:
    until = time.monotonic() + PATIENCE
    while (counters := push.counters())["accepted"] < wanted:
        if time.monotonic() > until:
            raise RuntimeError(f"only {counters['accepted']} of {wanted} notifications after {PATIENCE:g} s")
        time.sleep(0.02)
    return counters


def sends() -> list[Row]:
    """Return how long 45,312 notifications take by the published batches, and by concurrent v1 sends beside the SDK.

    The push server answers in 45 ms each, as in the post-mortem, and the clock is not compressed.
    """
    with quiet_system(step="published fix", followers=MANY, speed=1, db_latency_ms=0) as system:
        posted = time.time()
        system.create_post()
        batches = _until_all_are_sent(system.push, MANY)["last_accepted_at"] - posted
    servers = stack.up()
    with Admin(servers.fcm.url, servers.project) as push:
        push.reset()
        started = time.monotonic()
        uvloop.run(_concurrent(servers.fcm.url, servers.project, MANY))
        concurrent = time.monotonic() - started
        push.reset()
        official = SDK_MESSAGES / _send_each(servers.fcm.url, servers.project, SDK_MESSAGES)
    return [
        Row("45,312 notifications by the published batches", batches, most=4.1),
        Row("45,312 notifications, one v1 request each", concurrent),
        Row("v1 requests a second, 500 under way", MANY / concurrent, "/s", "the SDK's send_each", official, least=5.0),
    ]


async def _concurrent(url: str, project: str, number: int) -> None:
    """Send ``number`` notifications, one v1 request each, IN_FLIGHT under way."""
    import aiohttp

    path = f"/v1/projects/{project}/messages:send"
    numbers = iter(range(number))
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with aiohttp.ClientSession(url, connector=connector, headers={"Authorization": "Bearer bench"}) as session:

        async def keep_sending() -> None:
            for device in numbers:
                body = {"message": {"token": f"device-{device}", "notification": {"title": "New post"}}}
                async with session.post(path, json=body) as answer:
                    answer.raise_for_status()
                    await answer.read()

        await asyncio.gather(*(keep_sending() for _ in range(IN_FLIGHT)))


def _send_each(url: str, project: str, number: int) -> float:
    """Return the wall seconds that the official client takes for ``number`` messages, SDK_CALL a call."""
    from firebase_admin import messaging

    with _official_client(url, project) as app:
        started = time.monotonic()
        for first in range(0, number, SDK_CALL):
            messages = [messaging.Message(token=f"device-{n}") for n in range(first, first + SDK_CALL)]
            failed = messaging.send_each(messages, app=app).failure_count
            if failed:
                raise RuntimeError(f"{failed} of {SDK_CALL} messages of the official client failed")
        return time.monotonic() - started


@contextmanager
def _official_client(url: str, project: str) -> Iterator[Any]:
    """Give an app of Google's client that talks to ``url``, over as many connections as it would use to Google."""
    import firebase_admin
    from firebase_admin import credentials, messaging
    from google.oauth2.credentials import Credentials

    class Token(credentials.Base):
        def get_credential(self) -> Credentials:
            return Credentials(token="bench")

    service = messaging._MessagingService
    before, service.FCM_URL = service.FCM_URL, url + "/v1/projects/{0}/messages:send"
    app = firebase_admin.initialize_app(Token(), {"projectId": project}, name="bench")
    try:
        session = messaging._get_messaging_service(app)._client.session
        session.mount(url, session.get_adapter("https://fcm.googleapis.com"))
        yield app
    finally:
        firebase_admin.delete_app(app)
        service.FCM_URL = before


def tracing() -> list[Row]:
    """Return what one post to 400 followers takes as it failed with spans recorded, beside the same without."""
    with quiet_system(step="as it failed", followers=TRACED_FOLLOWERS, trace=True) as system:
        traced = _median_post(system)
    with quiet_system(step="as it failed", followers=TRACED_FOLLOWERS, trace=False) as system:
        bare = _median_post(system)
    return [Row("one post in the loop, 400 followers, traced", traced, against="the same untraced", peer=bare)]


def _median_post(system: System) -> float:
    return statistics.median(system.create_post() for _ in range(3))

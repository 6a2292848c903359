"""Push notifications one message a request, many requests at a time."""

import asyncio
import json
from collections.abc import Iterator
from functools import cache

import aiohttp
from celery.signals import worker_process_shutdown

from . import config, push, results
from .results import Result

NOT_SENT = Result("NOT_SENT")


class Courier:
    """Keeps ``FCM_CONCURRENCY`` connections to FCM open, and an event loop to use them, from one task to the next."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._http = self._runner.run(_open())

    def send(self, tokens: list[str], title: str, body: str, within: float) -> list[Result]:
        """Send one notification to each of ``tokens``; return what became of each, in their order.

        When ``within`` seconds have passed, or FCM says that the project's quota is spent, no further message is begun.
        """
        return self._runner.run(self._send_all(tokens, title, body, within))

    async def _send_all(self, tokens: list[str], title: str, body: str, within: float) -> list[Result]:
        outcomes = [NOT_SENT] * len(tokens)
        until = asyncio.get_running_loop().time() + within
        waiting = enumerate(tokens)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(config.FCM_CONCURRENCY, len(tokens))):
                group.create_task(self._work_off(waiting, outcomes, title, body, until))
        return outcomes

    async def _work_off(
        self, waiting: Iterator[tuple[int, str]], outcomes: list[Result], title: str, body: str, until: float
    ) -> None:
        for number, token in waiting:
            outcomes[number] = await self._send(push.message(token, title, body))
            if over_quota(outcomes[number]) or asyncio.get_running_loop().time() > until:
                for _ in waiting:  # the others find nothing left to begin
                    pass

    async def _send(self, message: dict) -> Result:
        url = f"{config.FCM_URL}/v1/projects/{config.FCM_PROJECT}/messages:send"
        try:
            async with self._http.post(url, data=json.dumps({"message": message})) as answer:
                body = await answer.read()
                return results.of_message(answer.status, body, answer.headers.get("Retry-After"))
        except (aiohttp.ClientError, TimeoutError):
            return results.NO_ANSWER

    def close(self) -> None:
        self._runner.run(self._http.close())
        self._runner.close()


def over_quota(result: Result) -> bool:
    """Whether the whole project has to wait, and not only this message."""
    return result.code == "RESOURCE_EXHAUSTED"


async def _open() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {config.FCM_ACCESS_TOKEN}", "Content-Type": "application/json"},
        connector=aiohttp.TCPConnector(limit=config.FCM_CONCURRENCY),
        timeout=aiohttp.ClientTimeout(total=config.FCM_TIMEOUT),
    )


@cache
def courier() -> Courier:
    """Return this process's courier, made when first asked for: neither its loop nor its connections survive a fork."""
    return Courier()


@worker_process_shutdown.connect
def close_courier(**_) -> None:
    if courier.cache_info().currsize:
        courier().close()

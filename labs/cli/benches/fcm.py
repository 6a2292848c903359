"""The mock push server's throughput, beside the same HTTP server with nothing behind it, and beside a client.

Server and client share this machine's cores, so a plain rate would measure both. What one core does in a second is
the rate divided by the processor time used, the server's for the server and the client's for the client: it holds on a
busy machine too.
"""

import asyncio
import json
import time
from urllib.parse import urlsplit

import psutil
import uvloop

from labs.cli.benches import Row
from labs.fcm.admin import Admin
from labs.fcm.process import Served, serve

SECONDS = 3.0
IN_FLIGHT = 64  # requests under way, each on a connection of its own
PROJECT_ID = "bench"
PATH = f"/v1/projects/{PROJECT_ID}/messages:send"


def throughput() -> list[Row]:
    """Return sends a second of one core: the mock (its latency set to 0), a static server, an aiohttp client."""
    with serve(module="labs.fcm.static") as static:
        bare = _sends_a_core(static)
    with serve() as mock:
        with Admin(mock.url, PROJECT_ID) as admin:
            admin.set(latency_ms=0, quota_per_minute=100_000_000)
        served = _sends_a_core(mock)
        client = uvloop.run(_aiohttp(mock.url))
    return [
        Row("mock push server, sends a second of one core", served, "/s", "the same server, a static answer", bare),
        Row("mock push server, sends a second of one core", served, "/s", "aiohttp as a client", client, least=3.0),
    ]


def _sends_a_core(server: Served) -> float:
    """Return how many sends ``server`` answers in a second of its own processor time."""
    process = psutil.Process(server.pid)
    before = sum(process.cpu_times()[:2])
    answers = uvloop.run(_raw(server.url))
    return answers / (sum(process.cpu_times()[:2]) - before)


def _body(number: int) -> dict:
    return {"message": {"token": f"device-{number}", "notification": {"title": "New post", "body": "Hello"}}}


def _requests(host: str) -> list[bytes]:
    """A round of sends to different devices, as they go over the wire."""
    made = []
    for number in range(1000):
        body = json.dumps(_body(number)).encode()
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer bench\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


class _Line(asyncio.Protocol):
    """One connection that sends its next request when the last is answered: the cheapest client there is."""

    def __init__(self, requests: list[bytes], first: int) -> None:
        self.requests, self.next = requests, first
        self.answers = self.refused = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        transport.write(self.requests[self.next])

    def data_received(self, data: bytes) -> None:
        self.answers += 1  # an answer is a few hundred bytes: it arrives in one piece
        self.refused += not data.startswith(b"HTTP/1.1 200")
        self.next = (self.next + 1) % len(self.requests)
        self.transport.write(self.requests[self.next])


async def _raw(url: str) -> int:
    """Send for SECONDS with bytes made beforehand; return how many were answered. Raises RuntimeError on a refusal."""
    place = urlsplit(url)
    requests = _requests(place.netloc)
    loop = asyncio.get_running_loop()
    lines = [_Line(requests, first) for first in range(IN_FLIGHT)]
    for line in lines:
        await loop.create_connection(lambda line=line: line, place.hostname, place.port)
    await asyncio.sleep(SECONDS)
    for line in lines:
        line.transport.abort()
    if refused := sum(line.refused for line in lines):
        raise RuntimeError(f"{refused} sends were refused")
    return sum(line.answers for line in lines)


async def _aiohttp(url: str) -> float:
    """Return how many sends aiohttp makes in a second of this process's processor time, IN_FLIGHT under way."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    headers = {"Authorization": "Bearer bench"}
    sent, used = 0, time.process_time()
    ends = time.monotonic() + SECONDS

    async with aiohttp.ClientSession(url, connector=connector, headers=headers) as session:

        async def keep_sending(number: int) -> None:
            nonlocal sent
            while time.monotonic() < ends:
                async with session.post(PATH, json=_body(number)) as answer:
                    answer.raise_for_status()
                    await answer.read()
                sent += 1

        await asyncio.gather(*(keep_sending(number) for number in range(IN_FLIGHT)))
    return sent / (time.process_time() - used)

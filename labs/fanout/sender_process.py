"""One way of sending notifications, in a process of its own: ``python -m labs.fanout.sender_process KIND PARENT``.

It gets ready, says so on standard output, and waits on standard input. A line with a number has it send that many
notifications, each to a phone of its own; it answers with the wall seconds from the first request begun to the last
answer read. The address, the project and the access token come from the environment, as for the system's own workers.
"""

import asyncio
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from labs.fanout.social import config, push
from labs.kit.parentage import die_with_parent

TITLE, BODY = "New post", "Our new dashboard is live. Tell me what you think."
CALL = 500  # the most that one send_each takes, and what a worker gets at a time
PATIENCE = 60.0  # seconds for a chunk

Send = Callable[[list[str]], None]


@contextmanager
def courier() -> Iterator[Send]:
    """Send as the last step's workers do."""
    from labs.fanout.social.courier import Courier

    def send(tokens: list[str]) -> None:
        for chunk in _chunks(tokens):
            _refuse({result.code for result in own.send(chunk, TITLE, BODY, within=PATIENCE)} - {"OK"})

    with closing(Courier()) as own:
        yield send


@contextmanager
def courier_at_once() -> Iterator[Send]:
    """Send with the last step's courier, everything in one call: no message waits for the last answer of a chunk."""
    from labs.fanout.social.courier import Courier

    def send(tokens: list[str]) -> None:
        _refuse({result.code for result in own.send(tokens, TITLE, BODY, within=PATIENCE)} - {"OK"})

    with closing(Courier()) as own:
        yield send


@contextmanager
def send_each() -> Iterator[Send]:
    """Send with Google's client for Python."""
    from firebase_admin import messaging

    warnings.filterwarnings("ignore", "Message.token is deprecated", DeprecationWarning)
    with official_client(config.FCM_URL, config.FCM_PROJECT) as app:

        def send(tokens: list[str]) -> None:
            about = messaging.Notification(title=TITLE, body=BODY)
            for chunk in _chunks(tokens):
                messages = [messaging.Message(token=token, notification=about) for token in chunk]
                answers = messaging.send_each(messages, app=app).responses
                _refuse({str(answer.exception) for answer in answers if not answer.success})

        yield send


@contextmanager
def official_client(url: str, project: str) -> Iterator[Any]:
    """Give an app of Google's client that talks to ``url``, over as many connections as it would use to Google."""
    import firebase_admin
    from firebase_admin import credentials, messaging
    from google.oauth2.credentials import Credentials

    class Token(credentials.Base):
        def get_credential(self) -> Credentials:
            return Credentials(token=config.FCM_ACCESS_TOKEN)

    service = messaging._MessagingService
    before, service.FCM_URL = service.FCM_URL, url + "/v1/projects/{0}/messages:send"
    app = firebase_admin.initialize_app(Token(), {"projectId": project}, name=f"{project} at {url}")
    try:
        session = messaging._get_messaging_service(app)._client.session
        session.mount(url, session.get_adapter("https://fcm.googleapis.com"))
        yield app
    finally:
        firebase_admin.delete_app(app)
        service.FCM_URL = before


@contextmanager
def httpx_10() -> Iterator[Send]:
    """Send with one httpx.AsyncClient, 10 requests in flight."""
    with _httpx(10) as send:
        yield send


@contextmanager
def httpx_100() -> Iterator[Send]:
    """Send with one httpx.AsyncClient, 100 requests in flight."""
    with _httpx(100) as send:
        yield send


@contextmanager
def _httpx(in_flight: int) -> Iterator[Send]:
    import httpx

    headers = {"Authorization": f"Bearer {config.FCM_ACCESS_TOKEN}"}
    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    client = httpx.AsyncClient(
        base_url=config.FCM_URL, headers=headers, limits=limits, timeout=PATIENCE, trust_env=False
    )
    path = f"/v1/projects/{config.FCM_PROJECT}/messages:send"

    async def work_off(waiting: Iterator[str]) -> None:
        for token in waiting:
            (await client.post(path, json={"message": push.message(token, TITLE, BODY)})).raise_for_status()

    async def send_all(tokens: list[str]) -> None:
        waiting = iter(tokens)
        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(work_off(waiting))

    with asyncio.Runner() as runner:
        try:
            yield lambda tokens: runner.run(send_all(tokens))
        finally:
            runner.run(client.aclose())


@contextmanager
def one_by_one() -> Iterator[Send]:
    """Send as the code that failed: ``requests.post``, and the next when it has answered."""

    def send(tokens: list[str]) -> None:
        for token in tokens:
            push.send(token, TITLE, BODY).raise_for_status()

    yield send


KINDS = {kind.__name__: kind for kind in (courier, courier_at_once, send_each, httpx_10, httpx_100, one_by_one)}


def _chunks(tokens: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(tokens), CALL):
        yield tokens[start : start + CALL]


def _refuse(failures: set[str]) -> None:
    if failures:
        raise RuntimeError(f"Some messages failed: {', '.join(sorted(failures))}")


def main(kind: str, parent: int) -> None:
    """Serve the process ``parent`` on standard input and output until it closes them."""
    die_with_parent(parent)
    with KINDS[kind]() as send:
        send(["device-warm-up"])  # a worker has its libraries loaded and its client made long before a post comes
        print(json.dumps({"ready": kind}), flush=True)
        for line in sys.stdin:
            tokens = [f"device-{number}" for number in range(int(line))]
            started = time.perf_counter()
            send(tokens)
            print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

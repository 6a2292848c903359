"""The mock's own HTTP/1.1 side: what a connection does with bytes that come in any shape."""

import asyncio
import time

import pytest

from labs.fcm import answers
from labs.fcm.alarm import LoopAlarm, alarm, until
from labs.fcm.http1 import Connection

GET = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"


class Transport:
    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


class Echo:
    """Answers with method, path, query, headers and body; ``latency`` in seconds from arrival."""

    latency = 0.0

    def respond(self, request, body):
        if request.path == "/break":
            raise RuntimeError("a fault of our own")
        said = f"{request.method} {request.path} {request.query_string} {request.headers} {body.decode()}"
        return answers.Answer(200, answers.JSON_HEADERS, said.encode()), self.latency


class HandAlarm:
    """Rings when the test says so."""

    def __init__(self) -> None:
        self.set: list[tuple] = []

    def call_at(self, instant, call, *arguments) -> None:
        self.set.append((instant, call, arguments))

    def ring(self) -> None:
        _, call, arguments = self.set.pop(0)
        call(*arguments)


class Links:
    """Stands for the HTTP/2 side: keeps what is passed on."""

    def __init__(self) -> None:
        self.passed = b""

    def pass_on(self, transport):
        return self

    def write(self, data: bytes) -> None:
        self.passed += data

    def close(self) -> None:
        self.passed += b"<closed>"


class Client:
    def __init__(self, latency: float = 0.0) -> None:
        self.app, self.alarm, self.links, self.transport = Echo(), HandAlarm(), Links(), Transport()
        self.app.latency = latency
        self.connection = Connection(self.app, self.alarm, self.links)
        self.connection.connection_made(self.transport)

    def send(self, *pieces: bytes) -> bytes:
        for piece in pieces:
            self.connection.data_received(piece)
        return self.transport.written


POST = (
    b"POST /v1/send?a=b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 5\r\n\r\nhello"
)
HEARD = b"POST /v1/send a=b {'authorization': 'Bearer t', 'content-type': 'text/plain', 'content-length': '5'} hello"


def test_a_request_is_heard_whole_whatever_pieces_it_comes_in():
    whole = Client().send(POST)
    assert whole.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=UTF-8\r\n")
    assert whole.endswith(b"\r\n\r\n" + HEARD)
    assert b"content-length: %d\r\n" % len(HEARD) in whole
    assert Client().send(*(bytes([byte]) for byte in POST)).endswith(HEARD)


def test_a_chunked_body_is_put_together():
    chunked = POST.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked").replace(
        b"hello", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    )
    answer = Client().send(chunked)
    assert b"POST /v1/send" in answer
    assert answer.endswith(b" hello")


def test_a_client_that_asks_whether_to_go_on_is_told_to():
    head, _, body = POST.replace(b"Host: x", b"Host: x\r\nExpect: 100-continue").partition(b"\r\n\r\n")
    client = Client()
    assert client.send(head + b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert client.send(body).endswith(HEARD)


def test_a_connection_is_kept_unless_the_client_wants_it_closed():
    client = Client()
    assert client.send(GET % 1, GET % 2).count(b"HTTP/1.1 200") == 2
    assert not client.transport.closed
    assert b"connection: close" in client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert client.transport.closed
    old = Client()
    old.send(b"GET / HTTP/1.0\r\n\r\n")
    assert old.transport.closed


def test_an_answer_is_set_for_its_latency_after_arrival():
    client = Client(latency=0.25)
    before = time.monotonic()
    assert client.send(GET % 1) == b""
    assert before + 0.25 <= client.alarm.set[0][0] <= time.monotonic() + 0.25
    client.alarm.ring()
    assert b"GET /1 " in client.transport.written


def test_requests_sent_without_waiting_are_answered_in_their_order():
    client = Client(latency=0.25)
    client.send(GET % 1 + GET % 2 + GET % 3)
    while client.alarm.set:
        client.alarm.ring()
    written = client.transport.written
    assert written.index(b"GET /1 ") < written.index(b"GET /2 ") < written.index(b"GET /3 ")


def test_a_client_that_has_gone_is_not_answered():
    client = Client(latency=0.25)
    client.send(GET % 1)
    client.transport.close()
    client.connection.connection_lost(None)
    client.alarm.ring()
    assert client.transport.written == b""


def test_what_is_no_http_is_a_bad_request():
    client = Client()
    assert client.send(b"hello\r\n\r\n").startswith(b"HTTP/1.1 400 Bad Request")
    assert client.transport.closed


def test_an_offer_to_upgrade_is_passed_over():
    offer = b"GET /1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
    assert Client().send(offer, GET % 2).count(b"HTTP/1.1 200 OK") == 2
    with_body = POST.replace(b"Host: x", b"Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c")
    assert Client().send(with_body).endswith(HEARD)
    assert Client().send(*(bytes([byte]) for byte in with_body)).endswith(HEARD)
    assert Client().send(with_body + with_body).count(HEARD) == 2


def test_a_proxys_connect_is_a_bad_request():
    assert Client().send(b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_a_head_request_is_answered_without_its_body():
    assert Client().send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").endswith(b"\r\n\r\n")


def test_a_fault_of_the_servers_own_is_an_internal_error_and_the_connection_goes_on(capsys):
    client = Client()
    assert client.send(b"GET /break HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 500 ")
    assert "a fault of our own" in capsys.readouterr().err
    assert b"GET /1 " in client.send(GET % 1)


@pytest.mark.parametrize("pieces", [1, 7, 100])
def test_http2_is_passed_on_unread_from_its_first_byte(pieces):
    sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00more"
    client = Client()
    client.send(*(sent[first : first + pieces] for first in range(0, len(sent), pieces)))
    client.connection.connection_lost(None)
    assert client.links.passed == sent + b"<closed>"
    assert client.transport.written == b""


def test_a_method_that_begins_like_http2_is_still_http1():
    assert b"PUT /1 " in Client().send(b"P", b"UT /1 HTTP/1.1\r\nHost: x\r\n\r\n")


@pytest.mark.parametrize("make", [alarm, LoopAlarm])
def test_an_alarm_wakes_everyone_and_nobody_early(make):
    delays = [0.03, 0.01, 0.02, 0.0, -1.0, 0.01]

    async def wait_for_all() -> list[float]:
        waits = make(asyncio.get_running_loop())
        started = time.monotonic()

        async def wait(delay: float) -> float:
            await until(waits, started + delay)
            return time.monotonic() - started

        return await asyncio.gather(*map(wait, delays))

    took = asyncio.run(wait_for_all())
    assert all(seconds > delay - 0.001 for seconds, delay in zip(took, delays, strict=True))


def test_one_failing_call_does_not_keep_an_alarm_from_the_others():
    async def ring_both() -> bool:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        waits, rung = alarm(loop), asyncio.Event()
        now = time.monotonic()
        waits.call_at(now + 0.001, lambda: 1 / 0)
        waits.call_at(now + 0.002, rung.set)
        return await asyncio.wait_for(rung.wait(), 60)

    assert asyncio.run(ring_both())

"""HTTP/1.1 on the event loop, as short a way as Python has: httptools parses, the application answers in a plain call.

Most of the workbook's sends come this way, and the mock must never be what limits them. A connection that opens with
HTTP/2's preface is passed on, byte for byte, to the server that speaks it.
"""

import asyncio
import time
import traceback
from collections import deque
from email.utils import formatdate
from functools import lru_cache
from http.client import responses as reasons
from typing import Any

import httptools

from labs.fcm import answers
from labs.fcm.alarm import Alarm
from labs.fcm.answers import Answer, Headers
from labs.fcm.http2 import Http2, Link

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_KEPT_HEADERS = frozenset(
    (b"authorization", b"content-type", b"x-goog-user-project", b"content-length", b"transfer-encoding")
)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Request:
    """One request as the application sees it: what it reads of an RSGI scope, and the body."""

    __slots__ = ("arrived", "body", "headers", "keep_alive", "method", "path", "query_string")

    def __init__(self) -> None:
        self.arrived = time.monotonic()
        self.path = ""
        self.query_string = ""
        self.body = b""
        self.headers: dict[str, str] = {}


class Connection(asyncio.Protocol):
    """One client's connection: its requests are answered in their order, each when its latency is over."""

    __slots__ = (
        "_alarm", "_app", "_http2", "_parser", "_passing_on", "_request", "_seen", "_target", "_transport", "_waiting",
    )  # fmt: skip

    def __init__(self, app: Any, alarm: Alarm, http2: Http2) -> None:
        self._app = app
        self._alarm = alarm
        self._http2 = http2
        self._parser: httptools.HttpRequestParser | None = None
        self._passing_on: Link | None = None
        self._seen = b""
        self._waiting: deque[Request] = deque()  # the first is being answered; more than one only when pipelined

    # -- the transport's side ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        if self._passing_on is not None:
            self._passing_on.close()

    def data_received(self, data: bytes) -> None:
        if self._parser is None and not self._recognised(data):
            return
        if self._seen:
            data, self._seen = self._seen, b""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        except httptools.HttpParserError:
            self._refuse()

    def _recognised(self, data: bytes) -> bool:
        """True once this is known to be HTTP/1. HTTP/2 is passed on; the first few bytes may fit both."""
        if self._passing_on is not None:
            self._passing_on.write(data)
            return False
        self._seen += data
        if PREFACE.startswith(self._seen[: len(PREFACE)]):
            if len(self._seen) >= len(PREFACE):
                self._passing_on = self._http2.pass_on(self._transport)
                self._passing_on.write(self._seen)
            return False
        self._parser = httptools.HttpRequestParser(self)
        return True

    def _decline(self, rest: bytes) -> None:
        """Pass over an offer to upgrade: read the request again as if it had none, then ``rest``, which is its body."""
        if self._request.method == "CONNECT":
            self._refuse()
            return
        lines = [b"%b %b HTTP/1.1" % (self._request.method.encode(), self._target)]
        lines += [f"{name}: {value}".encode("latin-1") for name, value in self._request.headers.items()]
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def _refuse(self) -> None:
        self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self._transport.close()

    # -- the parser's side ------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._request = Request()
        self._target = b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _KEPT_HEADERS:
            self._request.headers[name.decode()] = value.decode("latin-1")
        elif name == b"expect" and value.lower() == b"100-continue":
            self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        self._request.body += body

    def on_message_complete(self) -> None:
        request = self._request
        target = self._target.decode("latin-1")
        request.path, _, request.query_string = target.partition("?")
        request.method = self._parser.get_method().decode()
        if self._parser.should_upgrade():
            return  # the parser is about to say so, and takes no body
        request.keep_alive = self._parser.should_keep_alive()
        self._waiting.append(request)
        if len(self._waiting) == 1:
            self._serve(request)

    # -- the application's side -------------------------------------------------------------------------------------

    def _serve(self, request: Request) -> None:
        try:
            answer, latency = self._app.respond(request, request.body)
        except Exception:
            traceback.print_exc()
            answer, latency = answers.internal(), 0.0
        if latency:
            self._alarm.call_at(request.arrived + latency, self._answer, answer)
        else:
            self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        request = self._waiting.popleft()
        if self._transport.is_closing():
            return  # a client that has given up is no longer there to be answered
        body = b"" if request.method == "HEAD" else answer.body
        head = _head(answer.status, answer.headers, request.keep_alive)
        date = _date(int(time.time()))
        self._transport.write(b"%bcontent-length: %d\r\ndate: %b\r\n\r\n%b" % (head, len(answer.body), date, body))
        if not request.keep_alive:
            self._transport.close()
        elif self._waiting:
            self._alarm.call_at(0, self._serve, self._waiting[0])


@lru_cache(maxsize=256)
def _head(status: int, headers: Headers, keep_alive: bool) -> bytes:
    lines = [f"HTTP/1.1 {status} {reasons[status]}", *(f"{name}: {value}" for name, value in headers)]
    if not keep_alive:
        lines.append("connection: close")
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")


@lru_cache(maxsize=2)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()

"""Runs an application on one event loop in one process: HTTP/1.1 and HTTP/2 on one port, in the clear or over TLS."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import uvloop

from labs.fcm.alarm import Alarm, alarm, until
from labs.fcm.answers import Answer
from labs.fcm.http1 import Connection
from labs.fcm.http2 import Http2
from labs.kit import control

CONNECTIONS = 65_536
BACKLOG = 4096  # connections waiting to be accepted; the kernel may allow fewer (net.core.somaxconn)
PARENT_CHECK_S = 0.25


class Application(Protocol):
    """What is served: a plain call from request to answer, and the seconds from arrival at which it is to be given."""

    def respond(self, request: Any, body: bytes) -> tuple[Answer, float]:
        """Answer ``request``, which has method, path, query_string and headers (a mapping) as RSGI's scope has them."""


def run(
    app: Application,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    ready_file: Path | None = None,
    tls: tuple[Path, Path] | None = None,
    outlive_parent: bool = False,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve ``app`` until SIGTERM, SIGINT or, unless ``outlive_parent``, the end of the parent process.

    ``port`` 0 takes a free one. ``ready_file`` receives ``{"url", "pid"}`` once connections are accepted; ``on_ready``
    is then called with the URL. ``tls`` is (certificate, key), both PEM. Raises OSError when the address is taken.
    """
    parent = os.getppid()
    _allow_connections()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    authority = f"[{host}]" if ":" in host else host
    url = f"{'https' if tls else 'http'}://{authority}:{listener.getsockname()[1]}"

    def told() -> None:
        if ready_file:
            control.write(ready_file, {"url": url, "pid": os.getpid()})
        if on_ready:
            on_ready(url)

    async def serve() -> None:
        leave = _leave_signal()
        await _listen(app, listener, _tls_context(tls))
        told()
        await (leave.wait() if outlive_parent else _either(leave, parent))
        if ready_file:
            _forget(ready_file)
        os._exit(0)  # all state is in memory; neither open requests nor the threads under HTTP/2 must delay the end

    uvloop.run(serve())


def _allow_connections() -> None:
    """Raise this process's own limit on open files, one a connection, as far as the system lets it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS if most == resource.RLIM_INFINITY else min(CONNECTIONS, most)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _tls_context(tls: tuple[Path, Path] | None) -> ssl.SSLContext | None:
    if tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def _leave_signal() -> asyncio.Event:
    leave = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, leave.set)
    return leave


async def _either(leave: asyncio.Event, parent: int) -> None:
    """Wait to be told to leave, or for the parent process to end: its number is looked at, on every platform alike."""
    while not leave.is_set() and os.getppid() == parent:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(leave.wait(), PARENT_CHECK_S)


async def _listen(app: Application, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    waits = alarm(loop)
    http2 = Http2(partial(_respond_to_rsgi, app, waits))
    await loop.create_server(lambda: Connection(app, waits, http2), sock=listener, ssl=tls, backlog=BACKLOG)


async def _respond_to_rsgi(app: Application, waits: Alarm, scope: Any, protocol: Any) -> None:
    arrived = time.monotonic()
    answer, latency = app.respond(scope, await protocol())
    if latency:
        await until(waits, arrived + latency)
    # A client that has given up is no longer there to be answered.
    with contextlib.suppress(RuntimeError):
        protocol.response_bytes(answer.status, list(answer.headers), answer.body)


def _forget(ready_file: Path) -> None:
    """Remove the ready file if it is still ours."""
    with contextlib.suppress(OSError, json.JSONDecodeError):
        if control.read(ready_file).get("pid") == os.getpid():
            ready_file.unlink()

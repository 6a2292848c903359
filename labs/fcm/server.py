"""Runs an application on one event loop in one process: granian, embedded, so that it leaves no worker behind.

granian's HTTP side is written in Rust and speaks HTTP/1.1 and HTTP/2, in the clear (prior knowledge) and over TLS
(ALPN).
"""

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
from granian.constants import Interfaces
from granian.http import HTTP2Settings
from granian.net import SocketHolder
from granian.server.embed import Server

from labs.kit import control

CONNECTIONS = 65_536
BACKLOG = 4096  # connections waiting to be accepted; the kernel may allow fewer (net.core.somaxconn)
IN_FLIGHT = 1_000_000  # requests answered at once: no limit in practice
STREAMS = 100  # concurrent HTTP/2 streams a connection, as Google's front ends allow
PARENT_CHECK_S = 0.25


class _Listening(Server):
    """granian's embedded server on a socket that listens already: its port is known, and a taken port is an error.

    granian itself would bind with SO_REUSEPORT, which lets two servers share a port in silence.
    """

    def __init__(self, *args: Any, listener: socket.socket, **options: Any) -> None:
        super().__init__(*args, **options)
        self._listener = listener

    def _init_shared_socket(self) -> None:
        self._sfd = self._listener.fileno()
        self._shd = SocketHolder(self._sfd, False, BACKLOG)


def run(
    app: Any,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    ready_file: Path | None = None,
    tls: tuple[Path, Path] | None = None,
    outlive_parent: bool = False,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve ``app`` (RSGI) until SIGTERM, SIGINT or, unless ``outlive_parent``, the end of the parent process.

    ``port`` 0 takes a free one. ``ready_file`` receives ``{"url", "pid"}`` once connections are accepted; ``on_ready``
    is then called with the URL. ``tls`` is (certificate, key), both PEM. Raises OSError when the address is taken.
    """
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

    uvloop.run(_serve(_server(app, listener, tls), told, partial(_leave, ready_file), outlive_parent))


def _allow_connections() -> None:
    """Raise this process's own limit on open files, one a connection, as far as the system lets it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS if most == resource.RLIM_INFINITY else min(CONNECTIONS, most)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _server(app: Any, listener: socket.socket, tls: tuple[Path, Path] | None) -> Server:
    return _Listening(
        app,
        listener=listener,
        interface=Interfaces.RSGI,
        backlog=BACKLOG,
        backpressure=IN_FLIGHT,
        http2_settings=HTTP2Settings(max_concurrent_streams=STREAMS),
        websockets=False,
        log_enabled=False,
        ssl_cert=tls and tls[0],
        ssl_key=tls and tls[1],
    )


async def _serve(server: Server, told: Callable[[], None], leave: Callable[[], None], outlive_parent: bool) -> None:
    loop = asyncio.get_running_loop()
    # In-flight answers are not waited for: a push server that goes down takes them with it.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)
    serving = asyncio.create_task(server.serve())
    await asyncio.sleep(0)  # the worker starts in the task's first step; connections wait in the backlog until then
    told()
    if not outlive_parent:
        await _end_of_parent(os.getppid())
        leave()
    await serving


async def _end_of_parent(parent: int) -> None:
    """Wait for the process that started this one to end, by a look at its number: that works on every platform."""
    while os.getppid() == parent:
        await asyncio.sleep(PARENT_CHECK_S)


def _leave(ready_file: Path | None) -> None:
    """End the process at once: all state is in memory, and worker threads must not delay the end."""
    if ready_file:
        _forget(ready_file)
    os._exit(0)


def _forget(ready_file: Path) -> None:
    """Remove the ready file if it is still ours."""
    try:
        if control.read(ready_file).get("pid") == os.getpid():
            ready_file.unlink()
    except (OSError, json.JSONDecodeError):
        return

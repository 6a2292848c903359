"""HTTP/2, spoken by granian: embedded in this process, on this event loop, started when a client first asks for it.

The server's own port is the only one clients know. A connection that turns out to be HTTP/2 is joined to granian's, on
a loopback port of its own, and bytes go through unread; with TLS they have been decrypted before.
"""

import asyncio
import socket
from typing import Any

STREAMS = 100  # concurrent streams a connection, as Google's front ends allow
IN_FLIGHT = 1_000_000  # requests answered at once: no limit in practice
BACKLOG = 4096


class Http2:
    """granian, and the way to it."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._address: tuple[str, int] | None = None
        self._tasks: set[asyncio.Task] = set()

    def pass_on(self, client: asyncio.Transport) -> "Link":
        """Join ``client`` to granian; what it has sent already is to be written to the link first."""
        link = Link(client)
        self._keep(self._join(link))
        return link

    async def _join(self, link: "Link") -> None:
        if self._address is None:
            self._start()
        await asyncio.get_running_loop().create_connection(lambda: link, *self._address)

    def _start(self) -> None:
        from granian.constants import HTTPModes, Interfaces
        from granian.http import HTTP2Settings
        from granian.net import SocketHolder
        from granian.server.embed import Server

        class OnOurSocket(Server):
            """granian on a socket that listens already: it names no port it has taken itself."""

            def _init_shared_socket(self) -> None:
                self._sfd = listener.fileno()
                self._shd = SocketHolder(self._sfd, False, BACKLOG)

        listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        server = OnOurSocket(
            self._app,
            interface=Interfaces.RSGI,
            http=HTTPModes.http2,
            backlog=BACKLOG,
            backpressure=IN_FLIGHT,
            http2_settings=HTTP2Settings(max_concurrent_streams=STREAMS),
            websockets=False,
            log_enabled=False,
        )
        self._address = listener.getsockname()
        self._keep(server.serve())

    def _keep(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Link(asyncio.Protocol):
    """Two connections made one: a client's and ours to granian."""

    def __init__(self, client: asyncio.Transport) -> None:
        self._client = client
        self._server: asyncio.Transport | None = None
        self._held: list[bytes] = []
        self._closed = False

    def write(self, data: bytes) -> None:
        """Send what the client sent; it is held until granian has answered the connection."""
        if self._server is None:
            self._held.append(data)
        else:
            self._server.write(data)

    def close(self) -> None:
        """End it: the client has gone."""
        self._closed = True
        if self._server is not None:
            self._server.close()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._server = transport
        transport.writelines(self._held)
        self._held.clear()
        if self._closed:
            transport.close()

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._client.close()

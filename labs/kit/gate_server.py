"""The gate's own process: carries bytes to a server and back, and can be as dead as a server that is down.

``python -m labs.kit.gate_server CONTROL_FILE`` listens on a free port of 127.0.0.1 and follows its control file:

    {"to": {"host": "127.0.0.1", "port": 5432} or {"path": "/socket/of/the/server"},
     "order": 1, "shut": false, "answer": "where/to/answer.json"}

Each order that has been carried out is answered with {"order", "shut", "port"}.

While it is shut the port stays taken, by a socket that is bound and never listens: to connect there is refused, as
where a server has died, and no other process can have the port meanwhile.
"""

import asyncio
import contextlib
import resource
import signal
import socket
import struct
import sys
from typing import Any

import uvloop

from labs.kit import control

HOST = "127.0.0.1"
LOOK = 0.01  # wall seconds between looks at the control file
BACKLOG = 1024  # connections waiting to be accepted; the kernel may allow fewer
BREATH = 0.1  # wall seconds until the next try where no connection can be accepted, for want of descriptors
CONNECTIONS = 8192
RESET, IN_ORDER = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)


class Side(asyncio.Protocol):
    """One of the two sockets of a carried connection. What it hears goes to ``other``, as fast as that one takes it.

    The side to the server comes first and has no other one yet: what is said meanwhile it keeps.
    """

    def __init__(self, other: "Side | None" = None) -> None:
        self.closed = asyncio.get_running_loop().create_future()
        self.other = other
        self._early: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._heard_all = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be the other side of the one that was there first."""
        self._transport = transport
        with contextlib.suppress(OSError):  # a Unix socket knows no delay
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.other is not None:
            self.other.join(self)

    def join(self, other: "Side") -> None:
        """Pass on to ``other`` what came in so far, and what comes in from now on."""
        self.other = other
        for data in self._early:
            other._transport.write(data)
        if self._heard_all:
            other._transport.write_eof()
        if self.closed.done():
            other.close()

    def read(self, more: bool) -> None:
        """Take in more, or no more for the moment."""
        if not self._transport.is_closing():
            (self._transport.resume_reading if more else self._transport.pause_reading)()

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        if self.other is None:
            self._early.append(data)
        else:
            self.other._transport.write(data)

    def pause_writing(self) -> None:
        """Have the other side wait: this one's reader is slow."""
        if self.other is not None:
            self.other.read(False)

    def resume_writing(self) -> None:
        """Let the other side go on."""
        if self.other is not None:
            self.other.read(True)

    def eof_received(self) -> bool:
        """Pass the end of this side's words on; the answer may still come. After both ends the connection is over."""
        self._heard_all = True
        if self.other is not None:
            if self.other._heard_all:
                self.close()
                self.other.close()
            elif not self.other._transport.is_closing():
                self.other._transport.write_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """Break the other side in the same manner: in order, or by a reset."""
        if not self.closed.done():
            self.closed.set_result(None)
        if self.other is not None:
            self.other.reset() if error is not None else self.other.close()

    def close(self) -> None:
        """Close once all is written."""
        self._transport.close()

    def reset(self) -> None:
        """Close at once and have the peer see "connection reset"."""
        if not self.closed.done():
            when_closed(self._transport.get_extra_info("socket"), RESET)
            self._transport.abort()


def when_closed(open_socket: Any, how: bytes) -> None:
    """Have ``open_socket`` send RST (RESET) or FIN (IN_ORDER) when it is closed."""
    with contextlib.suppress(OSError):
        open_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)


class Gate:
    """Listens in front of the server at ``to``, or refuses."""

    def __init__(self, to: dict[str, Any]) -> None:
        self._to = to
        self._loop = asyncio.get_running_loop()
        self._holder: socket.socket | None = bound(0)  # keeps the port while nobody listens
        self.port = self._holder.getsockname()[1]
        self._listener: socket.socket | None = None
        self._carried: set[asyncio.Task[None]] = set()
        self._complaint = ""

    def open(self) -> None:
        """Accept connections. They are accepted when this returns."""
        if self._listener is None:
            self._listener = bound(self.port)
            self._listener.listen(BACKLOG)
            self._listen()
            self._holder.close()
            self._holder = None

    async def shut(self) -> None:
        """Refuse connections and reset those there are. None is left when this returns."""
        if self._listener is not None:
            self._holder = bound(self.port)
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
        while self._carried:
            for task in self._carried:
                task.cancel()
            await asyncio.wait(self._carried)

    def _listen(self) -> None:
        if self._listener is not None:
            self._loop.add_reader(self._listener.fileno(), self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            while True:
                client, _ = listener.accept()
                client.setblocking(False)
                when_closed(client, RESET)  # until it is carried, whatever ends it resets it
                task = self._loop.create_task(self._carry(client))
                self._carried.add(task)
                task.add_done_callback(self._carried.discard)
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:
            self._complain(f"no connection can be accepted: {error}")
            self._loop.remove_reader(listener.fileno())
            self._loop.call_later(BREATH, self._listen)

    async def _carry(self, client: socket.socket) -> None:
        """Carry one connection to its end, or until this is cancelled."""
        sides: list[Side] = []
        try:
            sides.append(await self._dial())
            when_closed(client, IN_ORDER)
            taken = self._loop.create_task(self._loop.connect_accepted_socket(lambda: Side(sides[0]), client))
            try:
                await asyncio.shield(taken)  # cut off in here the loop would close it in order, and not reset it
            finally:
                sides.append((await taken)[1])
            await asyncio.wait([side.closed for side in sides])
        except OSError as error:
            self._complain(f"no connection to {self._to}: {error}")
        finally:
            # Whatever is still open here is so because the gate is shut, or the server cannot be reached.
            if len(sides) < 2:
                when_closed(client, RESET)
                client.close()
            for side in sides:
                side.reset()
            if sides:
                await asyncio.wait([side.closed for side in sides])

    async def _dial(self) -> Side:
        if "path" in self._to:
            return (await self._loop.create_unix_connection(Side, self._to["path"]))[1]
        return (await self._loop.create_connection(Side, self._to["host"], self._to["port"]))[1]

    def _complain(self, complaint: str) -> None:
        """Write to the log what is wrong, once and not for each connection."""
        if complaint != self._complaint:
            self._complaint = complaint
            print(complaint, file=sys.stderr, flush=True)


def bound(port: int) -> socket.socket:
    """Return a socket bound to ``port`` of 127.0.0.1 that another one of this process may share."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((HOST, port))
    return made


async def serve(path: str) -> None:
    """Follow the control file at ``path`` until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    watcher, gate = control.Watcher(path), None
    while not stop.is_set():
        if (values := watcher.changed()) is not None:
            gate = gate or Gate(values["to"])
            if values["shut"]:
                await gate.shut()
            else:
                gate.open()
            answer = {"order": values["order"], "shut": values["shut"], "port": gate.port}
            control.write(values["answer"], answer)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK)
    if gate is not None:
        await gate.shut()


def main() -> None:
    """Serve as the control file named by the first argument says."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS if most == resource.RLIM_INFINITY else min(CONNECTIONS, most)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    uvloop.run(serve(sys.argv[1]))


if __name__ == "__main__":
    main()

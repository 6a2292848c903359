"""The wire to the recorder: JSON objects, one a line, sent from a thread so that the sender never waits."""

import contextlib
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

MOST = 200_000
"""Lines kept while the recorder cannot be reached; past that the oldest go, since a system must not fill up memory."""


class LineSender:
    """Sends lines to ``address`` ("host:port") every ``every`` wall seconds. Never raises, never blocks the sender.

    ``tick`` is called before each round in the sending thread, which is where a probe takes its snapshot.
    ``hello`` is sent first on every connection.
    """

    def __init__(
        self,
        address: str | None,
        every: float = 0.1,
        tick: Callable[[], None] | None = None,
        hello: dict[str, Any] | None = None,
    ) -> None:
        self._address = address
        self._every = every
        self._tick = tick
        self._hello = hello
        self._lines: deque[bytes] = deque(maxlen=MOST)
        self._unsent = b""
        self._socket: socket.socket | None = None
        self._next_try = 0.0
        self._sending = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="labs lines", daemon=True)
        self._thread.start()

    def send(self, line: dict[str, Any]) -> None:
        """Queue one line."""
        self._lines.append(json.dumps(line, separators=(",", ":")).encode())

    def flush(self) -> bool:
        """Send what is queued now. Returns whether all of it went out."""
        with self._sending:
            return self._send_all()

    def close(self, timeout: float = 0.3) -> None:
        """Send what is queued, for at most about ``timeout`` wall seconds, and hang up."""
        self._stop.set()
        self._thread.join(timeout)
        self.flush()
        with self._sending:
            self._hang_up()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            if self._tick is not None:
                with contextlib.suppress(Exception):
                    self._tick()
            self.flush()

    def _send_all(self) -> bool:
        if self._address is None:
            self._lines.clear()
            return True
        if not self._connect():
            return False
        batch = [self._unsent] if self._unsent else []
        with contextlib.suppress(IndexError):
            while True:
                batch.append(self._lines.popleft() + b"\n")
        self._unsent = b"".join(batch)
        try:
            if self._unsent:
                self._socket.sendall(self._unsent)
        except OSError:
            # Half a line may have gone out: the recorder drops that with the connection, and the batch goes again.
            self._hang_up()
            return False
        self._unsent = b""
        return True

    def _connect(self) -> bool:
        if self._socket is not None:
            return True
        if time.monotonic() < self._next_try:
            return False
        self._next_try = time.monotonic() + 1.0
        host, _, port = self._address.rpartition(":")
        try:
            self._socket = socket.create_connection((host, int(port)), timeout=1.0)
            if self._hello is not None:
                self._socket.sendall(json.dumps(self._hello).encode() + b"\n")
        except OSError:
            self._hang_up()
            return False
        return True

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

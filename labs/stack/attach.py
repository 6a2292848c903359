"""How a process gets at its workbook's servers, and lets go of them."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import labs
from labs.stack import files, processes, workbook
from labs.stack.model import (
    MODES,
    SERVICES,
    Service,
    Stack,
    StackError,
    database_name,
    project_name,
    stopped,
)

Progress = Callable[[str], None] | None

START_SECONDS = 120.0
STOP_SECONDS = 40.0
ANSWER_SECONDS = 30.0  # the keeper answers in milliseconds; a machine that is busy beyond measure may take longer
COMPOSE_SECONDS = 900.0  # the first start may pull and build images

_guard = threading.RLock()
_lease: "_Lease | None" = None
_url_stack: Stack | None = None


class _Lease:
    """This process's open connection to the keeper."""

    def __init__(self, home: Path, connection: socket.socket, keeper: int) -> None:
        self.home, self.connection, self.keeper = home, connection, keeper

    def adopt(self, pid: int) -> None:
        """Have the keeper end process ``pid`` when this lease ends."""
        self.connection.sendall(json.dumps({"adopt": pid}).encode() + b"\n")

    def close(self) -> None:
        """Give the lease up."""
        with contextlib.suppress(OSError):
            self.connection.close()


def _forget_after_fork() -> None:
    """A forked child has no lease: its copy of the connection must not keep the servers alive."""
    global _lease, _url_stack, _guard
    _guard = threading.RLock()
    if _lease is not None:
        _lease.close()
    _lease = _url_stack = None


os.register_at_fork(after_in_child=_forget_after_fork)


def up(services: str | None = None, progress: Progress = None) -> Stack:
    """Attach to this workbook's servers, starting them if need be, and hold a lease until this process ends.

    ``services`` is "embedded", "compose" or "url"; by default ``$LABS_SERVICES``, else whatever runs, else embedded.
    ``progress`` is called with one line at a time. May be called as often as you like, from any thread.
    Raises StackError, with one sentence and the remedy, when the servers cannot be used.
    """
    with _guard:
        home = labs.home()
        mode = _mode(services)
        if mode == "url":
            return _attach_by_url(home, progress)
        return _attach(home, mode, progress)


def current() -> Stack | None:
    """Return what runs for this home, without starting or leasing anything; None when nothing does."""
    home = labs.home()
    if _mode(None) == "url":
        return _url_stack if _url_stack and _url_stack.home == home else _look_by_url(home)
    answer = _ask(home, "status")
    return _stack(home, answer) if answer else None


def release() -> None:
    """Give up this process's lease. The servers stop within seconds if it was the last."""
    global _lease, _url_stack
    with _guard:
        if _lease is not None:
            _lease.close()
        _lease = _url_stack = None


def _release(home: Path) -> None:
    """Give up this process's lease if it is one of ``home``; that of another workbook stays."""
    with _guard:
        if any(held is not None and held.home == home for held in (_lease, _url_stack)):
            release()


def down() -> None:
    """Stop whatever runs for this home, and wait until it has stopped. Shared servers (mode url) are left alone."""
    home = labs.home()
    _release(home)
    known = _keeper_file(home)
    _ask(home, "stop", timeout=STOP_SECONDS)
    if keeper := processes.alive(known.get("keeper")):
        # It has stopped the servers and is about to exit; one that has not answered is made to.
        processes.end(processes.wait([keeper], ANSWER_SECONDS), patience=STOP_SECONDS)
    if (home / "stack" / "compose.json").exists():
        from labs.stack.compose import remove_leftovers

        remove_leftovers(home)


def reset(progress: Progress = None) -> None:
    """Return this workbook to a clean state: empty database, empty Redis database, push server's counters at zero.

    A server that has died is started again first. Where nothing runs, the old data folder is removed instead.
    Raises StackError when a server cannot be used.
    """
    home = labs.home()
    if _mode(None) == "url":
        workbook.clean(home, *_given_urls())
        return
    answer = _ask(home, "status")
    if answer is None:
        _remove_data(home)
        return
    if any(service["state"] != "running" for service in answer["services"].values()):
        (progress or _silent)("Starting what has stopped")
    answer = _ask(home, "reset", timeout=START_SECONDS) or {"error": "The servers have just been stopped; try again."}
    if "error" in answer:
        raise StackError(answer["error"])


def adopt(pid: int) -> None:
    """Have process ``pid`` ended when this process's lease ends. Does nothing without a lease."""
    with _guard:
        if _lease is not None:
            _lease.adopt(pid)


def _silent(_: str) -> None:
    return None


def _mode(services: str | None) -> str:
    asked = services or os.environ.get("LABS_SERVICES") or ""
    if asked and asked not in MODES:
        raise StackError(f"services is {asked!r}; it can be {', '.join(MODES)}.")
    return asked


def _attach(home: Path, mode: str, progress: Progress) -> Stack:
    say = progress or _silent
    lock = files.folder(home) / "start.lock"
    patience = COMPOSE_SECONDS if mode == "compose" else START_SECONDS
    answer = _lease_now(home)
    if answer is None:
        with files.locked(lock, patience, "Another process has been starting the servers for too long; try again."):
            answer = _lease_now(home)
            if answer is None:
                _start_keeper(home, mode or "embedded", say)
                answer = _lease_now(home)
    if answer is None:
        raise StackError(f"The servers stopped again at once; see {files.logs(home) / 'keeper.log'}.")
    if mode and answer["mode"] != mode:
        release()
        raise StackError(f"The {answer['mode']} servers are running; `python3 -m labs stop` stops them first.")
    for name in SERVICES:
        if answer["services"][name]["state"] != "running":
            raise stopped(name)
    return _stack(home, answer)


def _lease_now(home: Path) -> dict[str, Any] | None:
    """Return the keeper's status with this process holding a lease; None where no keeper answers."""
    global _lease
    if _lease is not None and _lease.home == home:
        answer = _ask(home, "status")
        if answer is not None and answer["pid"] == _lease.keeper:
            return answer
    if _lease is not None:
        _lease.close()
        _lease = None
    opened = _open(home, "lease", ANSWER_SECONDS)
    if opened is None:
        return None
    connection, answer = opened
    connection.settimeout(None)
    _lease = _Lease(home, connection, answer["pid"])
    return answer


def _keeper_file(home: Path) -> dict[str, Any]:
    return files.read(home / "stack" / "keeper.json")


def _ask(home: Path, what: str, timeout: float = ANSWER_SECONDS) -> dict[str, Any] | None:
    opened = _open(home, what, timeout)
    if opened is None:
        return None
    connection, answer = opened
    connection.close()
    return answer


def _open(home: Path, what: str, timeout: float) -> tuple[socket.socket, dict[str, Any]] | None:
    """Ask the keeper of ``home`` one thing; return the open connection and the answer, or None if nobody answers."""
    known = _keeper_file(home)
    if not known or processes.alive(known.get("keeper")) is None:
        return None
    connection = None
    try:
        connection = socket.create_connection(("127.0.0.1", known["port"]), timeout=timeout)
        line = {"token": known["token"], "ask": what, "pid": os.getpid()}
        connection.sendall(json.dumps(line).encode() + b"\n")
        with connection.makefile("rb") as incoming:
            answer = json.loads(incoming.readline())
    except (OSError, ValueError, KeyError):
        if connection is not None:
            connection.close()
        return None
    return connection, answer


def _start_keeper(home: Path, mode: str, say: Callable[[str], None]) -> None:
    """Start the keeper and wait until its servers answer. Raises StackError with the keeper's own sentence."""
    say("Starting PostgreSQL, Redis and the push server")
    environment = {**os.environ, "PYTHONPATH": str(labs.PROJECT)}
    log = files.logs(home) / "keeper.log"
    with log.open("ab") as sink:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "labs.stack.keeper", str(home), mode],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sink,
            env=environment,
            cwd=home,
            start_new_session=True,
        )
    # Nobody waits for the keeper: it outlives us as a rule. This collects it if it does not.
    threading.Thread(target=keeper.wait, name="labs-keeper", daemon=True).start()
    try:
        with keeper.stdout:
            for line in keeper.stdout:
                told = json.loads(line)
                if "progress" in told:
                    say(told["progress"])
                if "error" in told:
                    raise StackError(told["error"])
                if "ready" in told:
                    return
    except KeyboardInterrupt:
        keeper.terminate()
        raise
    raise StackError(f"The servers did not start: {files.last_line(log)} (whole log: {log}).")


def _stack(home: Path, answer: dict[str, Any]) -> Stack:
    services = answer["services"]
    urls = {
        "postgres": workbook.postgres_url(services["postgres"]["url"], database_name(home)),
        "redis": workbook.redis_url(services["redis"]["url"], workbook.redis_number(home)),
        "fcm": services["fcm"]["url"],
    }
    made = {
        name: Service(
            name,
            urls[name],
            services[name]["version"],
            services[name]["pid"],
            services[name]["origin"],
            services[name]["state"],
        )
        for name in SERVICES
    }
    return Stack(**made, mode=answer["mode"], home=home, database=database_name(home), project=project_name(home))


def _given_urls() -> tuple[str, str, str]:
    names = ("LABS_POSTGRES_URL", "LABS_REDIS_URL", "LABS_FCM_URL")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise StackError(f"Services by URL need {' and '.join(missing)}; set it to the shared server's address.")
    return tuple(os.environ[name] for name in names)


def _attach_by_url(home: Path, progress: Progress) -> Stack:
    global _url_stack
    if _url_stack is not None and _url_stack.home == home:
        return _url_stack
    (progress or _silent)("Attaching to the servers at the given addresses")
    postgres, redis, fcm = _given_urls()
    answer = _answer_by_url(postgres, redis, fcm)
    workbook.claim(home, postgres, redis)
    _url_stack = _stack(home, answer)
    return _url_stack


def _look_by_url(home: Path) -> Stack | None:
    with contextlib.suppress(StackError):
        return _stack(home, _answer_by_url(*_given_urls()))
    return None


def _answer_by_url(postgres: str, redis: str, fcm: str) -> dict[str, Any]:
    versions = (workbook.postgres_version(postgres), workbook.redis_version(redis), workbook.fcm_version(fcm))
    facts = zip(SERVICES, (postgres, redis, fcm), versions, strict=True)
    services = {
        name: {
            "url": url,
            "version": version,
            "pid": None,
            "origin": f"LABS_{name.upper()}_URL",
            "state": "running",
        }
        for name, url, version in facts
    }
    return {"mode": "url", "services": services}


def _remove_data(home: Path) -> None:
    """Remove the data folder of servers that do not run; the next start makes a new one."""
    from labs.stack.embedded import end_leftovers

    folder = files.folder(home)
    with (
        files.locked(folder / "start.lock", START_SECONDS, "The servers are being started; try again."),
        files.locked(folder / "keeper.lock", STOP_SECONDS, "The servers are being stopped; try again."),
    ):
        end_leftovers(home)
        shutil.rmtree(folder / "postgres", ignore_errors=True)

"""The folder ``<home>/stack``: its files, its locks and its secrets.

Everything that holds a password or a token is readable by its owner only.
"""

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labs.stack.model import StackError

LOG_LIMIT = 5_000_000  # bytes


def folder(home: Path) -> Path:
    """Return ``<home>/stack``, made if it is missing."""
    return _make(home / "stack")


def logs(home: Path) -> Path:
    """Return ``<home>/logs``, made if it is missing."""
    return _make(home / "logs")


def _make(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(
            f"The folder {path} cannot be made ({error.strerror}); make room or set LABS_HOME to a folder you own."
        ) from error
    return path


def shorten_logs(home: Path) -> None:
    """Empty each log that has grown beyond LOG_LIMIT bytes. For a moment when nobody writes to them."""
    for log in logs(home).glob("*.log"):
        with contextlib.suppress(OSError):
            if log.stat().st_size > LOG_LIMIT:
                os.truncate(log, 0)


def write_private(path: Path, values: dict[str, Any]) -> None:
    """Replace ``path`` by ``values`` as JSON in one step, readable by the owner only.

    Raises StackError where the disk or the folder does not allow it.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(values, file)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StackError(
            f"{path} cannot be written ({error.strerror}); make room on the disk and try again."
        ) from error


def read(path: Path) -> dict[str, Any]:
    """Return the JSON object in ``path``; an empty one where the file is missing or damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def secret(home: Path) -> str:
    """Return the random password of this home's servers, made on first use."""
    path = folder(home) / "secret.json"
    kept = read(path).get("password")
    if not kept:
        kept = secrets.token_hex(16)
        write_private(path, {"password": kept})
    return kept


@contextlib.contextmanager
def locked(path: Path, timeout: float, message: str) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; raise StackError with ``message`` after ``timeout`` seconds.

    The lock goes with the process: no lock is left behind, whatever happens to its holder.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StackError(f"{path} cannot be opened ({error.strerror}); set LABS_HOME to a folder you own.") from error
    try:
        deadline = time.monotonic() + timeout
        while not _try(descriptor):
            if time.monotonic() > deadline:
                raise StackError(message)
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def last_line(path: Path, start: int = 0) -> str:
    """Return the last telling line written to the log ``path`` after byte ``start``: an error if there is one."""
    try:
        text = path.read_bytes()[start:].decode("utf-8", "replace")
    except OSError:
        return "no log was written"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if any(word in line for word in ("FATAL", "PANIC", "ERROR", "rror:"))]
    return (errors or lines or ["its log is empty"])[-1]

"""The words of the stack: a service, the three together, and what can go wrong with them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

MODES = ("embedded", "compose", "url")
SERVICES = ("postgres", "redis", "fcm")
TITLES = {"postgres": "PostgreSQL", "redis": "Redis", "fcm": "The push server"}


class StackError(RuntimeError):
    """The servers cannot be used. The message is one sentence and the remedy."""


@dataclass(frozen=True)
class Service:
    """One server of the stack.

    ``url`` is ready to use (SQLAlchemy's form for PostgreSQL), ``pid`` is None where the server is not our process,
    ``origin`` says where the server comes from, ``state`` is "running" or "stopped".
    """

    name: str
    url: str
    version: str
    pid: int | None
    origin: str
    state: str = "running"


@dataclass(frozen=True)
class Stack:
    """The three servers as one workbook sees them: its own database, its own Redis database, its own FCM project."""

    postgres: Service
    redis: Service
    fcm: Service
    mode: str
    home: Path
    database: str
    project: str

    @property
    def services(self) -> tuple[Service, Service, Service]:
        """The three servers in the order they are always listed in."""
        return self.postgres, self.redis, self.fcm


def workbook_id(home: Path) -> str:
    """Return the eight hexadecimal digits that name this workbook on a server it shares with others."""
    return hashlib.sha256(str(home).encode()).hexdigest()[:8]


def database_name(home: Path) -> str:
    """Return the name of this workbook's own database."""
    return f"labs_{workbook_id(home)}"


def project_name(home: Path) -> str:
    """Return this workbook's own FCM project id."""
    return f"labs-{workbook_id(home)}"


def stopped(service: str) -> StackError:
    """Return the error for a server that has died in mid-life."""
    return StackError(f"{TITLES[service]} has stopped unexpectedly; `python3 -m labs reset` starts it again.")

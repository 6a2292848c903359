"""What a running ``labs start`` leaves for the other commands to find: who it is and where its JupyterLab listens."""

import contextlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labs.stack import files, processes

SHARED = ("LABS_SERVICES", "LABS_POSTGRES_URL", "LABS_REDIS_URL", "LABS_FCM_URL")


@dataclass(frozen=True)
class Session:
    """A running JupyterLab: its address with the token, version, and the processes behind it."""

    url: str
    version: str
    pid: int
    origin: str
    owner: dict[str, float]
    jupyter: dict[str, float]
    services: dict[str, str]

    @classmethod
    def running(cls, home: Path) -> "Session | None":
        """Return the session of ``home``, if its JupyterLab still runs."""
        known = files.read(_path(home))
        with contextlib.suppress(TypeError):
            session = cls(**known)
            return session if processes.alive(session.jupyter) else None
        return None

    @classmethod
    def owner_of(cls, home: Path) -> Any:
        """Return the process of a ``labs start`` that runs for ``home``; None where there is none."""
        return processes.alive(files.read(_path(home)).get("owner"))

    @staticmethod
    def begin(home: Path) -> None:
        """Say that this process is starting one, so that it can be stopped before it is ready."""
        files.write_private(_path(home), {"owner": processes.identity(os.getpid())})

    def save(self, home: Path) -> None:
        """Write it where the other commands look."""
        files.write_private(_path(home), asdict(self))

    @staticmethod
    def forget(home: Path) -> None:
        """Remove it."""
        _path(home).unlink(missing_ok=True)


def chosen_services() -> dict[str, str]:
    """Return the variables by which this process was told where its servers are."""
    return {name: os.environ[name] for name in SHARED if os.environ.get(name)}


def follow(home: Path) -> None:
    """Look at the servers that the running session of ``home`` uses, unless this shell says otherwise."""
    session = Session.running(home)
    if session and not os.environ.get("LABS_SERVICES"):
        os.environ.update(session.services)


def _path(home: Path) -> Path:
    return home / "stack" / "session.json"

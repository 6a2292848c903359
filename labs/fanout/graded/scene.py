"""What the graders share: waiting for events, the learner's program among the pods, the system's own database."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from labs import PROJECT, home
from labs.fanout.system import System
from labs.kit.samplers import APPLICATION_NAME, libpq_url
from labs.stack import Stack, StackError

PATIENCE = 60.0  # wall seconds: a loaded machine is slow, not wrong
LOOK = 0.02  # wall seconds between two looks


class AnswerError(ValueError):
    """An answer cannot be used. The message is one sentence for the learner."""


def until(reached: Callable[[], Any], system: System, patience: float = PATIENCE) -> bool:
    """Wait until ``reached()`` is true, at most ``patience`` wall seconds; return whether it came to that.

    Raises StackError when a server dies meanwhile.
    """
    deadline = time.monotonic() + patience
    while not reached():
        if time.monotonic() > deadline:
            return False
        system.check()
        time.sleep(LOOK)
    return True


def wait_for(what: str, reached: Callable[[], Any], system: System) -> None:
    """Wait until ``reached()`` is true; raises StackError, saying ``what`` did not come, after PATIENCE."""
    if not until(reached, system):
        raise StackError(f"{what} did not come within {PATIENCE:.0f} s; the machine is too busy, run the cell again.")


@contextmanager
def database(stack: Stack, **options: Any) -> Iterator[psycopg.Connection]:
    """Open a connection of the laboratory's own to the system's database, committing each statement."""
    settings = {"application_name": APPLICATION_NAME, "autocommit": True, **options}
    with psycopg.connect(libpq_url(stack.postgres.url), **settings) as connection:
        yield connection


@contextmanager
def program(**modules: str) -> Iterator[dict[str, str]]:
    """Write ``modules``, name to source, where pods find them; yield the environment that lets them be imported."""
    home().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="answer-", dir=home()) as folder:
        for name, source in modules.items():
            Path(folder, f"{name}.py").write_text(source, encoding="utf-8")
        yield {"PYTHONPATH": f"{folder}:{PROJECT}"}


def entries(answer: Mapping[str, Any], *names: str) -> list[Any]:
    """Return the entries of a dictionary by name; raises AnswerError when one is missing or unknown."""
    unknown = [str(name) for name in answer if name not in names]
    missing = [name for name in names if name not in answer]
    if unknown or missing:
        got = ", ".join(map(str, answer)) or "nothing"
        raise AnswerError(f"The answer must have the entries {', '.join(names)}, not {got}.")
    return [answer[name] for name in names]

"""A system on trial: post, wait for what must come, and read what the push server, the logs and the database say."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg

from labs.fanout.dataset import INFLUENCER
from labs.fanout.experiment import quiet_system
from labs.fanout.steps import step_of
from labs.fanout.system import System
from labs.kit.samplers import APPLICATION_NAME, libpq_url
from labs.stack import StackError

PATIENCE = 60.0  # wall seconds, at most, that a trial waits for what must come
LOOK = 0.02  # wall seconds between two looks
SPEED = 20
RETRY_DELAY = 0.1  # wall seconds: a worker that tries again sits idle meanwhile, and nothing is learned from that

PUBLISHED = step_of("published fix")
COUNTED = re.compile(r"post (\d+): (\d+) notifications in (\d+) batches")  # the published worker, when it is done
GIVEN_UP = re.compile(r"notify_followers\[.*raised unexpected")  # Celery, after the last retry
COMPLAINT = re.compile(r"[:\[] ?(WARNING|ERROR|CRITICAL)\b")
PHONES_OPEN = "SELECT coalesce(sum(cardinality(device_ids)), 0) FROM deliveries WHERE state <> 'finished'"


@dataclass(frozen=True)
class Seen:
    """What one program made of one post.

    ``told_ok``: whether the author's phone had a good answer. ``requests``: to the push server. ``refused``: what
    it refused, by error. ``reached``: phones that got the post. ``twice``: notifications beyond the first to a phone.
    ``complaints``: warnings and errors that the program logged. ``waiting``: phones that it knows are still to be
    called; 0 where nothing is written down. ``counted``: notifications that the published worker's log counts as sent.
    """

    told_ok: bool
    requests: int
    refused: Mapping[str, int]
    reached: int
    twice: int
    complaints: int
    waiting: int
    counted: int = 0

    @property
    def refusals(self) -> int:
        """How many requests or messages the push server refused, for whatever reason."""
        return sum(self.refused.values())


class Trial:
    """One running system, and what can be seen of it since the last post."""

    def __init__(self, system: System, database: psycopg.Connection) -> None:
        self.system = system
        self._database = database
        self._told_ok = False
        self._read_from: dict[str, int] = {}

    def post(self, author: str = INFLUENCER) -> None:
        """Have ``author`` post, with nobody else about; counting and reading begin here."""
        self.begin()
        try:
            self.system.create_post(author)
            self._told_ok = True
        except httpx.HTTPStatusError:
            self._told_ok = False

    def begin(self) -> None:
        """Count what the push server gets, and read the logs, from here on."""
        self.system.start_count()
        logs = self.system.run_dir / "logs"
        self._read_from = {log.name: log.stat().st_size for log in logs.glob("*.log")}

    def seen(self) -> Seen:
        """Return what has become of the last post so far."""
        counters = self.counters()
        return Seen(
            self._told_ok,
            counters["requests"],
            counters["rejected_by"],
            counters["devices"],
            counters["duplicates"],
            len(COMPLAINT.findall(self.log("api-1") + self.log("worker"))),
            self.ask(PHONES_OPEN)[0],
            sum(int(notifications) for _, notifications, _ in COUNTED.findall(self.log("worker"))),
        )

    def counters(self) -> dict[str, Any]:
        """Return the push server's counters since the last post."""
        return self.system.push.counters()

    def log(self, name: str) -> str:
        """Return what ``name``, a pod or the worker, has logged since the last post."""
        path = self.system.run_dir / "logs" / f"{name}.log"
        if not path.exists():
            return ""
        with path.open("rb") as log:
            log.seek(self._read_from.get(path.name, 0))
            return log.read().decode(errors="replace")

    def ask(self, question: str, **values: Any) -> tuple:
        """Return the first row of a query."""
        return self._database.execute(question, values).fetchone()

    def wait_for(self, reached: Callable[[], Any], what: str) -> Any:
        """Wait until ``reached()`` is true and return its value.

        Raises StackError, saying ``what`` did not happen, after a minute, or when a server has died.
        """
        until = time.monotonic() + PATIENCE
        while not (value := reached()):
            self.system.check()
            if time.monotonic() > until:
                raise StackError(f"Not within {PATIENCE:.0f} s: {what}; see {self.system.run_dir}/logs.")
            time.sleep(LOOK)
        return value

    def wait_until_given_up(self) -> None:
        """Wait until Celery has tried for the last time."""
        self.wait_for(lambda: GIVEN_UP.search(self.log("worker")), "the worker's last attempt")

    def wait_until_counted(self) -> re.Match[str]:
        """Wait until the published worker has logged that it is done; return its line, matched by COUNTED."""
        return self.wait_for(lambda: COUNTED.search(self.log("worker")), "the worker's line that all is sent")

    def wait_until_put_off(self) -> None:
        """Wait until a chunk of phones has failed, and is to be tried again."""
        put_off = "SELECT count(*) FROM deliveries WHERE attempts > 0 AND state <> 'finished'"
        self.wait_for(lambda: self.ask(put_off)[0], "a chunk that is to be tried again")

    def wait_until_sent(self) -> None:
        """Wait until the database knows of nothing that is still to be sent."""
        self.wait_for(lambda: self.system.unsent() == 0, "the last notification")


@contextmanager
def trial(title: str, *, env: Mapping[str, object] | None = None, **knobs: Any) -> Iterator[Trial]:
    """Run a system without readers for the length of a ``with`` block. ``env`` and ``knobs`` are those of ``System``.

    The worker logs what it does, and not only what goes wrong.
    """
    settings = {"CELERY_WORKER_LOGLEVEL": "INFO", "FANOUT_RETRY_DELAY": RETRY_DELAY} | dict(env or {})
    knobs = {"speed": SPEED, "client_retries": False, "trace": False} | knobs
    with quiet_system(title, env=settings, **knobs) as system:
        url = libpq_url(system.stack.postgres.url)
        with psycopg.connect(url, autocommit=True, application_name=APPLICATION_NAME) as database:
            on_trial = Trial(system, database)
            if system.module == PUBLISHED.module:
                on_trial.wait_until_counted()  # the warm-up's line, which would be taken for the first post's
            yield on_trial

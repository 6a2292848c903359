"""The scene of a crash: one system that is hurt, asked whether it is done, counted, and put back for the next crash.

What is lost is what never came although nothing is left that could still bring it: so the scene waits for the end, an
event, and never for a while.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import celery
import httpx
import psycopg

from labs.fanout import dataset
from labs.fanout.experiment import quiet_system
from labs.fanout.steps import Step, step_with
from labs.fanout.system import CREATE_PATH, QUEUE, System
from labs.kit.samplers import APPLICATION_NAME, libpq_url

PATIENCE = 60.0  # wall seconds, at most, until what must come has come
LOOK = 0.01  # wall seconds between two looks
WORKER = "worker@labs"
SHUTDOWN = "Warm shutdown"  # Celery, when it has been asked to stop
UNACKED = "unacked"  # Celery's list of tasks handed to a worker that has not yet said it has begun; retries wait there
POST_CREATE = f"POST {CREATE_PATH}"
NO_ANSWER = "none"
CHUNK_SIZE = 500
CHUNK_TIMEOUT = 2.0  # wall seconds until an unfinished chunk is handed out again
# Waits in wall seconds that are shorter than production's, beyond what the run's speed makes of them: a crash test
# waits them out.
SETTINGS: Mapping[str, object] = {
    "CHUNK_SIZE": CHUNK_SIZE,
    "CHUNK_TIMEOUT": CHUNK_TIMEOUT,
    "VISIBILITY_TIMEOUT": 2 * CHUNK_TIMEOUT,
    "FANOUT_RETRY_DELAY": 0.5,
    "PUSH_BACKOFF": 0.5,
    "FOLLOWER_COUNTS_REFRESH": 3600,  # the counts do not change here, and a refresh would be one more task to wait for
}


class CrashError(RuntimeError):
    """A crash could not be brought about or did not come to an end; the sentence says which and where to look."""


class Scene:
    """One system under trial. ``system``: it, with gates before its PostgreSQL and Redis."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.push = system.push
        self.answer = NO_ANSWER
        self.halts_seen = 0
        self._broker = celery.Celery(broker=system.stack.redis.url)
        self._database = psycopg.connect(
            libpq_url(system.stack.postgres.url), autocommit=True, application_name=APPLICATION_NAME
        )
        self.last_post: int = self.ask("SELECT max(id) FROM posts")[0][0]  # of those before the trial

    def close(self) -> None:
        """Let go of the servers."""
        self._database.close()
        self._broker.close()

    # -- what happens -------------------------------------------------------------------------------------------------

    def post(self, author: str = dataset.INFLUENCER) -> None:
        """Post once as ``author`` and note the answer: the status in words, "none" where the connection broke."""
        try:
            self.system.create_post(author)
            self.answer = "201"
        except httpx.HTTPStatusError as error:
            self.answer = str(error.response.status_code)
        except httpx.TransportError:
            self.answer = NO_ANSWER

    def brake(self, wall_seconds: float) -> None:
        """Have FCM take in a request at once and answer it ``wall_seconds`` later: a fan-out that begins stays open."""
        self.push.set(latency_ms=wall_seconds * 1000)

    def release(self) -> None:
        """Have FCM answer as fast as the knobs say, from the next request on."""
        knobs = self.system.knobs
        self.push.set(latency_ms=knobs.fcm_latency_ms / knobs.speed)

    def until_some_accepted(self) -> None:
        """Wait until FCM has accepted a notification; raises CrashError if it then has all of them."""
        self.until(lambda: self.push.counters()["accepted"], "FCM accepts a first notification")
        if self.push.counters()["devices"] >= self.system.knobs.followers:
            raise CrashError("The fan-out was over before it could be disturbed; run it with more followers.")

    def stop_worker(self) -> None:
        """Ask the worker to stop, as a deployment does, and see it begin to: it takes no new task from then on."""
        worker = self.system.fleet["worker"]
        begun = worker.log.read_text(errors="replace").count(SHUTDOWN)
        os.kill(worker.pid, signal.SIGTERM)  # the parent alone: its children would die of it at once

        def begins() -> bool:
            return worker.log.read_text(errors="replace").count(SHUTDOWN) > begun

        self.until(begins, "the worker begins its warm shutdown")

    def until_worker_stopped(self) -> None:
        """Wait until the worker has finished what it was doing and has ended."""
        worker = self.system.fleet["worker"]
        self.until(lambda: not worker.alive, "the end of the worker's warm shutdown")

    def terminate_backends(self) -> int:
        """End the sessions of pods and worker as a restart of PostgreSQL does; return how many there were."""
        ended = self._database.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name IN ('social-api', 'social-worker')"
        )
        return ended.fetchone()[0]

    def pause(self, wall_seconds: float) -> None:
        """Let time pass: the length of an outage."""
        time.sleep(wall_seconds)

    # -- how it stands ------------------------------------------------------------------------------------------------

    def posts_committed(self) -> int:
        """Return how many posts the database has that were not there at the start."""
        return self.ask("SELECT count(*) FROM posts WHERE id > %s", self.last_post)[0][0]

    def ask(self, question: str, *values: Any) -> list[tuple]:
        """Return the rows that answer ``question``."""
        return self._database.execute(question, values).fetchall()

    def over(self) -> bool:
        """Whether nothing is left that could still send a notification."""
        if self.system.step.outbox:
            return self.system.unsent() == 0
        # A task moves on from the queue to a worker's hands, to work, and if it is tried again to the queue: read in
        # this order, and twice, none is overlooked on its way. A worker that does not answer has not said it is idle.
        return all(self._waiting() == 0 and self._at_work() == 0 and self._waiting() == 0 for _ in range(2))

    def _waiting(self) -> int:
        """Return how many tasks are queued, or with a worker and not begun: scheduled for a retry, for instance."""
        with self.system._redis() as client:
            return client.llen(QUEUE) + client.hlen(UNACKED)

    def _at_work(self) -> int | None:
        """Return how many tasks are running, as `celery inspect active` says; None when the worker does not answer."""
        active = self._broker.control.inspect(destination=[WORKER], timeout=1.0).active()
        return None if active is None else len(active.get(WORKER, []))

    def until(self, reached: Callable[[], Any], what: str) -> None:
        """Wait until ``reached``; raises CrashError, naming ``what``, where that does not come."""
        until = time.monotonic() + PATIENCE
        while not reached():
            if time.monotonic() > until:
                raise CrashError(f"Not within {PATIENCE:g} s: {what}; see {self.system.run_dir}/logs.")
            self.system.check()
            time.sleep(LOOK)

    def until_over(self) -> None:
        """Wait until nothing is left that could still send a notification."""
        self.until(self.over, "the end of the fan-out")

    # -- before the next ----------------------------------------------------------------------------------------------

    def fresh(self) -> None:
        """Start pods and worker anew, on data, a broker and an FCM that know nothing of what was before."""
        system = self.system
        system.kill_worker()
        system.kill_pods()
        system.fleet.tell_probes(halt=None)
        self.halts_seen = len(system.recorder.live()["halted"])
        self.empty_redis()
        dataset.restore(system.stack)
        self.last_post = dataset.POSTS
        self.push.set(error_rates={}, fail_batches=[])
        self.release()
        self.push.reset(keep_settings=True)
        self.answer = NO_ANSWER
        system.start_worker()
        system.start_pods()

    def empty_redis(self) -> None:
        """Take everything out of Redis, as where one that keeps nothing on disk has been started again."""
        self.system._clear_queue()


def step_that_finishes(step: int | str) -> Step:
    """Return the step with this number or name. Raises ValueError for one whose fan-out takes hours."""
    return step_with(step, lambda each: each.finishes, "a fan-out that comes to an end")


@contextmanager
def scene(
    title: str, step: int | str, followers: int, seed: int = 1, *, gates: bool = True, **knobs: Any
) -> Iterator[Scene]:
    """Bring up a system of ``step`` to be hurt, with nobody about but the author, whose phone is patient.

    Raises ValueError for a step whose fan-out takes hours.
    """
    step_that_finishes(step)
    usual = {"client_retries": False, "workers": 1, "fcm_latency_ms": 45, "trace": False}
    env = SETTINGS | knobs.pop("env", {})
    wanted = usual | {"step": step, "followers": followers, "seed": seed} | knobs
    with quiet_system(title, env=env, gates=gates, **wanted) as system:
        made = Scene(system)
        try:
            yield made
        finally:
            made.close()

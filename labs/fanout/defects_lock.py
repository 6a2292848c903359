"""The per-author lock under three authors with very many followers, who post at the same moment."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

from labs.fanout import dataset
from labs.fanout.defects import Defect, side_by_side
from labs.fanout.defects_trial import COUNTED, Trial, trial
from labs.kit.table import Table, seconds
from labs.kit.verdict import Fact

LARGE = (dataset.INFLUENCER, "author-0002", "author-0003")
WORKERS = 2
CHUNKS_IN_FLIGHT = 8  # of all authors together, as the steps with an outbox have it by default
# While the authors press Post a batch takes 0.2 wall seconds, and the smallest of the large fan-outs five: none can be
# over before the last of them has pressed, also when the machine pauses.
SLOW, USUAL = 4_000, 45  # incident ms

# Nothing dies here, so nothing needs to be handed out again, however slow the machine.
SETTINGS = {"CHUNKS_IN_FLIGHT": CHUNKS_IN_FLIGHT, "CHUNK_TIMEOUT": 60, "VISIBILITY_TIMEOUT": 120}

RECEIVED = re.compile(r"notify_followers\[\S+\] received")  # Celery, for each task that the queue held
LARGE_BEGUN = """
    SELECT count(*) FROM fanouts JOIN users ON users.id = author_id WHERE username = ANY(%(large)s)
"""
UNDER_WAY = "SELECT count(*) FROM deliveries WHERE state IN ('issued', 'sending') AND due_at > clock_timestamp()"
EVERYDAY_SENT = """
    SELECT bool_and(state = 'finished') FROM deliveries JOIN fanouts ON fanouts.id = fanout_id
    JOIN users ON users.id = author_id WHERE username = %(everyday)s
"""
# A worker that takes a chunk sets the time at which it would be overdue: the order of these times is the order in which
# chunks were sent.
LARGE_STILL_RUNNING = """
    WITH chunks AS (
        SELECT username, state, due_at FROM deliveries JOIN fanouts ON fanouts.id = fanout_id
        JOIN users ON users.id = author_id
    )
    SELECT count(DISTINCT username) FROM chunks WHERE username = ANY(%(large)s)
    AND (state <> 'finished' OR due_at > (SELECT max(due_at) FROM chunks WHERE username = %(everyday)s))
"""


@dataclass(frozen=True)
class Crowd:
    """Three large authors at once, and then an author with few followers.

    ``let_through``: of the three, by the limit. ``over_first``: large fan-outs that ended before the everyday author's
    followers were reached. ``waited``: for how long these were waiting, in incident seconds. ``under_way``: the most
    chunks of all authors that were found under way at once; None where work is not divided into chunks.
    """

    let_through: int
    over_first: int
    waited: float
    under_way: int | None = None


@dataclass(frozen=True, repr=False)
class LockPerAuthor(Defect):
    """What a limit for each author does when several authors post at once."""

    published: Crowd
    nothing_lost: Crowd

    title: ClassVar[str] = "The lock is per author"

    @property
    def before(self) -> str:
        through = f"{self.published.let_through} large fan-outs at once"
        return f"{through}; the everyday author's followers waited for {self.published.over_first} of them"

    @property
    def after(self) -> str:
        most = self.nothing_lost.under_way
        return f"at most {most} chunks under way, of all together; nobody waits for the end of a large fan-out"

    @property
    def waited(self) -> str:
        """How long the everyday author's followers waited, as published, in words."""
        return seconds(self.published.waited)

    @property
    def waited_less(self) -> str:
        """How long they waited when it was put right, in words."""
        return seconds(self.nothing_lost.waited)

    def table(self) -> Table:
        both = (self.published, self.nothing_lost)
        rows = [
            ("large fan-outs let through", [crowd.let_through for crowd in both]),
            ("chunks of all authors under way, at most", [crowd.under_way for crowd in both]),
            ("large fan-outs over before the everyday author's", [crowd.over_first for crowd in both]),
            ("the everyday author's followers waited", [seconds(crowd.waited) for crowd in both]),
        ]
        caption = f"{self.title}: {', '.join('@' + author for author in LARGE)} at once, then an everyday author"
        return side_by_side(("published fix", "nothing lost"), rows, caption)

    def facts(self) -> Iterator[Fact]:
        yield Fact("published fix: large fan-outs let through", self.published.let_through)
        everyday_first = "the everyday author's followers are reached while all large fan-outs run"
        yield Fact(f"published fix: {everyday_first}", self.published.over_first == 0)
        # The third may end before or after: that depends on the machine.
        yield Fact("published fix: at least two of the three are over first", self.published.over_first >= 2)
        yield Fact("nothing lost: large fan-outs let through", self.nothing_lost.let_through)
        yield Fact("nothing lost: chunks under way at once, at most", self.nothing_lost.under_way)
        yield Fact(f"nothing lost: {everyday_first}", self.nothing_lost.over_first == 0)


def lock_per_author() -> LockPerAuthor:
    """Have three authors with very many followers post at once, and an everyday author when they are under way.

    The lock lets one fan-out of each author through, so it lets all three through, and they take both processes of the
    worker. The step that loses nothing has the same batches to send, and bounds the chunks of all authors together.
    """
    with trial("three large authors at once", step="published fix", workers=WORKERS, env=SETTINGS) as on_trial:
        published = _with_the_lock(on_trial)
        on_trial.system.change(step="nothing lost")
        return LockPerAuthor(published, _with_chunks(on_trial))


def _with_the_lock(on_trial: Trial) -> Crowd:
    _large_authors_post(on_trial)
    on_trial.wait_for(lambda: on_trial.counters()["batches"] >= WORKERS, "the first batches")
    posted = _everyday_author_posts(on_trial)
    (over_first,) = on_trial.wait_for(lambda: _over_before_everyday(on_trial), "the everyday author's fan-out")
    waited = _since(on_trial, posted)
    received = len(RECEIVED.findall(on_trial.log("worker")))
    return Crowd(received - 1, over_first, waited)  # the everyday author's is one of them


def _large_authors_post(on_trial: Trial) -> None:
    """Have them all press Post at the same moment, and wait for the answers: their fan-outs are queued then."""
    on_trial.system.change(fcm_latency_ms=SLOW)
    on_trial.begin()
    with ThreadPoolExecutor(len(LARGE)) as phones:
        list(phones.map(on_trial.system.create_post, LARGE))


def _everyday_author_posts(on_trial: Trial) -> float:
    """Post as the everyday author and let the push server have its usual pace; return the wall time of the post."""
    posted = time.time()
    on_trial.system.create_post(dataset.everyday_author())
    on_trial.system.change(fcm_latency_ms=USUAL)
    return posted


def _over_before_everyday(on_trial: Trial) -> tuple[int] | None:
    """Return how many fan-outs the worker says were over before the everyday author's; None until that is."""
    sizes = [int(notifications) for _, notifications, _ in COUNTED.findall(on_trial.log("worker"))]
    return (sizes.index(dataset.EVERYDAY_FOLLOWERS),) if dataset.EVERYDAY_FOLLOWERS in sizes else None


def _since(on_trial: Trial, posted: float) -> float:
    return on_trial.system.clock.incident(time.time() - posted)


def _with_chunks(on_trial: Trial) -> Crowd:
    authors = {"large": list(LARGE), "everyday": dataset.everyday_author()}
    most = 0

    def look(question: str) -> int | bool | None:
        nonlocal most
        (under_way,), (answer,) = on_trial.ask(UNDER_WAY), on_trial.ask(question, **authors)
        most = max(most, under_way)
        return answer

    _large_authors_post(on_trial)
    on_trial.wait_for(lambda: look(LARGE_BEGUN) == len(LARGE), "the beginning of three fan-outs")
    on_trial.wait_for(lambda: look(UNDER_WAY) >= CHUNKS_IN_FLIGHT, "as many chunks under way as may be")
    posted = _everyday_author_posts(on_trial)
    on_trial.wait_for(lambda: look(EVERYDAY_SENT), "the everyday author's fan-out")
    waited = _since(on_trial, posted)
    over_first = len(LARGE) - look(LARGE_STILL_RUNNING)
    return Crowd(look(LARGE_BEGUN), over_first, waited, most)

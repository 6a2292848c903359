"""Crash tests: what each version of the code loses, and what it sends twice, when something dies in the middle.

    published = crash_course("published fix")
    today = crash_course("today")
    crash_tests(*published, *today).table()
"""

from collections.abc import Sequence
from dataclasses import dataclass

from labs.fanout import crash_scene
from labs.fanout.crash_faults import FAULTS, Fault, fault_of
from labs.fanout.crash_scene import CHUNK_SIZE, Scene
from labs.fanout.steps import step_of
from labs.kit.table import Table, count
from labs.kit.verdict import Fact, Verdict

FOLLOWERS = 4_000  # eight batches: enough for a middle, and over in a second

# Where it happens, by construction: FCM keeps back its answer to the first request until the damage is done.
MIDDLE = f'In mid fan-out: FCM has the first {CHUNK_SIZE}, or of "today" the first requests, and has not answered.'


@dataclass(frozen=True)
class Crash:
    """What became of one post, one fault and one version of the code.

    ``answer``: what the author's phone was told ("201", "500", "none" where the connection broke). ``delivered``:
    phones that got a notification. ``sent_twice``: notifications beyond one a phone, whether of the same post or of
    the one that a phone that retries has made beside it.
    """

    fault: str
    step: str
    followers: int
    answer: str
    posts_committed: int
    delivered: int
    sent_twice: int

    @property
    def lost(self) -> int:
        """Phones that ought to have got a notification and never will: nothing is left that could still send it."""
        return self.followers - self.delivered if self.posts_committed else 0

    @property
    def lost_some(self) -> bool:
        """Whether any notification is lost."""
        return self.lost > 0

    @property
    def lost_all(self) -> bool:
        """Whether the post is there and not one follower hears of it."""
        return self.posts_committed > 0 and self.delivered == 0

    @property
    def lost_in_words(self) -> str:
        """How many that is, in words that survive another machine: none, some, or every one."""
        return "every one" if self.lost_all else "some" if self.lost_some else "none"

    @property
    def beyond_the_chunk_in_flight(self) -> int:
        """Notifications sent twice beyond those of the one chunk that can have been in flight."""
        return max(0, self.sent_twice - CHUNK_SIZE)

    def __repr__(self) -> str:
        return (
            f"{self.step}, {self.fault}: {count(self.lost)} of {count(self.followers)} notifications lost, "
            f"{count(self.sent_twice)} sent twice"
        )


def crash(
    fault: str, step: int | str = "published fix", followers: int = FOLLOWERS, seed: int = 1, **knobs: object
) -> Crash:
    """Have one post made while ``fault`` happens, wait until nothing is left to send, and count.

    ``fault``: the name of one of ``crash_faults.FAULTS``. ``followers``: 10 to 1,000,000; two thousand or more for a
    fan-out that has a middle. ``knobs``: others of ``Knobs``, in incident units. Times are compressed as the knob
    ``speed`` says, ten times by default; servers are away for ten seconds of the incident.
    Raises ValueError for a fault or step that does not exist.
    """
    return _crashes([fault_of(fault)], step, followers, seed, knobs)[0]


def crash_course(
    step: int | str,
    followers: int = FOLLOWERS,
    faults: Sequence[str] | None = None,
    seed: int = 1,
    **knobs: object,
) -> list[Crash]:
    """Have all ``faults`` (every one of FAULTS by default) happen to ``step``, one post each, one after another.

    The processes are started anew before each, on the same data. For the rest as ``crash``.
    """
    wanted = FAULTS if faults is None else [fault_of(name) for name in faults]
    return _crashes(wanted, step, followers, seed, knobs)


def _crashes(
    faults: Sequence[Fault], step: int | str, followers: int, seed: int, knobs: dict[str, object]
) -> list[Crash]:
    title = f"crash tests, {crash_scene.step_that_finishes(step).name}"
    with crash_scene.scene(title, step, followers, seed, **knobs) as scene:
        done = []
        for number, fault in enumerate(faults, 1):
            scene.system.say(f"{number} of {len(faults)}, {fault.name}")
            done.append(_one(scene, fault))
        return done


def _one(scene: Scene, fault: Fault) -> Crash:
    scene.fresh()
    fault.happens(scene)
    scene.until_over()
    counters, knobs = scene.push.counters(), scene.system.knobs
    return Crash(
        fault=fault.name,
        step=scene.system.step.name,
        followers=knobs.followers,
        answer=scene.answer,
        posts_committed=scene.posts_committed(),
        delivered=counters["devices"],
        sent_twice=counters["accepted"] - counters["devices"],
    )


class CrashTests:
    """Several crashes beside each other: a row a fault, for each step what was lost and what was sent twice."""

    def __init__(self, crashes: Sequence[Crash]) -> None:
        if not crashes:
            raise ValueError("crashes must be one or more, as crash() or crash_course() return them; got none.")
        self.crashes = tuple(crashes)
        self.steps = tuple(dict.fromkeys(crash.step for crash in crashes))
        self.faults = tuple(dict.fromkeys(crash.fault for crash in crashes))
        self._at = {(crash.fault, crash.step): crash for crash in crashes}
        if len(self._at) < len(crashes):
            raise ValueError("crashes must not hold the same fault of the same step twice: a row has room for one.")

    def table(self) -> Table:
        """Return what each fault cost each step."""
        rows = [[fault, *(_cost(self._at.get((fault, step))) for step in self.steps)] for fault in self.faults]
        return Table(("what goes wrong", *self.steps), rows, caption=self._caption())

    def _caption(self) -> str:
        followers = " and ".join(dict.fromkeys(count(crash.followers) for crash in self.crashes))
        words = f"What it costs: notifications of one post to {followers} followers."
        if any("mid fan-out" in fault for fault in self.faults):
            words += f" {MIDDLE}"
        if "one batch fails once" in self.faults and "today" in self.steps:
            words += f' "today" has no batches: FCM refuses messages instead, until it has refused {CHUNK_SIZE}.'
        return words

    def verdict(self) -> Verdict:
        """Return what each step loses and sends twice, in words that are the same on every machine."""
        return Verdict("Crash tests", [fact for step in self.steps for fact in self._facts(step)])

    def _facts(self, step: str) -> list[Fact]:
        ours = [self._at[fault, step] for fault in self.faults if (fault, step) in self._at]
        if step_of(step).outbox:
            facts = [Fact(f"{step}, {crash.fault}: notifications lost", crash.lost) for crash in ours]
            beyond = sum(crash.beyond_the_chunk_in_flight for crash in ours)
            return [*facts, Fact(f"{step}: sent twice beyond the chunk in flight", beyond)]
        return [
            fact
            for crash in ours
            for fact in (
                Fact(f"{step}, {crash.fault}: notifications lost", crash.lost_in_words),
                Fact(f"{step}, {crash.fault}: some sent twice", crash.sent_twice > 0),
            )
        ]


def crash_tests(*crashes: Crash) -> CrashTests:
    """Put crashes of one or several steps beside each other. Raises ValueError for none, or two of the same."""
    return CrashTests(crashes)


def _cost(crash: Crash | None) -> str | None:
    """What a crash cost, in words: "3,500 lost", "500 sent twice", "nothing"."""
    if crash is None:
        return None
    costs = {"lost": crash.lost, "sent twice": crash.sent_twice}
    return ", ".join(f"{count(number)} {what}" for what, number in costs.items() if number) or "nothing"

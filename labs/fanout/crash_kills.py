"""Many `kill -9` at random moments of a fan-out, and a proof from the books of what was sent twice, and why.

    kills = random_kills("today", kills=20)
    kills.verdict()

The books are the database's own: a delivery in state "sending" when its worker died is the chunk that was in flight. A
phone may have been called once more than it ought for each time that its chunk was in flight at a kill, and not once
more than that.
"""

import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from labs.fanout import crash_scene, dataset
from labs.fanout.crash_scene import CHUNK_SIZE, Scene
from labs.fanout.steps import step_with
from labs.kit import charts
from labs.kit.clock import Clock
from labs.kit.style import VERMILION
from labs.kit.table import Table, count, seconds
from labs.kit.verdict import Fact, Verdict

FOLLOWERS = 12_000  # about as many as one worker process tells in the time that twenty kills take
LONGEST_DELAY = 0.12  # wall seconds: a kill comes at a random moment up to so long after the fan-out has gone on
POST_EVERY = 4  # every fourth kill takes the API with it, while somebody else is posting
POST_AGE = (-0.01, 0.06)  # wall seconds since that post was due: the kill comes before or after its commit
# More chunks than twenty kills can leave overdue, so that the worker never waits for a dead one's; and time enough for
# a chunk that a busy machine does not hand it to another worker while it is being sent.
SETTINGS = {"CHUNK_TIMEOUT": 5.0, "VISIBILITY_TIMEOUT": 10.0, "CHUNKS_IN_FLIGHT": 24, "FCM_RAMP_UP": 0.5}

CROSSES = {"color": VERMILION, "marker": "x", "ms": 7, "mew": 2, "ls": "none", "zorder": 3}


@dataclass(frozen=True)
class Kill:
    """One `kill -9` of the worker. ``at``: incident seconds since the post. ``accepted``: notifications that FCM had
    accepted by then. ``in_flight``: device ids of the chunk that was being sent, none between two chunks. ``api``:
    whether the API pod was killed as well."""

    number: int
    at: float
    accepted: int
    in_flight: tuple[int, ...]
    api: bool


@dataclass(frozen=True)
class Kills:
    """What the kills left behind.

    ``posts_committed``: posts that are in the database. ``posts_cut_off``: posts whose API was killed before that.
    ``wanted``: notifications that the committed posts call for, one a post and follower. ``delivered``: of these,
    those that came. ``twice``: for each phone called more often than it ought (device id), how much more often.
    ``accepted_at`` and ``accepted``: the push server's counter over the run, incident seconds since the post.
    """

    step: str
    followers: int
    kills: tuple[Kill, ...]
    posts_committed: int
    posts_cut_off: int
    wanted: int
    delivered: int
    twice: Mapping[int, int]
    accepted_at: np.ndarray = field(repr=False)
    accepted: np.ndarray = field(repr=False)

    @property
    def lost(self) -> int:
        """Notifications that never came."""
        return self.wanted - self.delivered

    @property
    def sent_twice(self) -> int:
        """Notifications sent beyond those wanted."""
        return sum(self.twice.values())

    @property
    def beyond_the_chunks_in_flight(self) -> int:
        """Notifications sent twice that no chunk in flight at a kill explains, phone by phone."""
        allowed = Counter(device for kill in self.kills for device in kill.in_flight)
        return sum(max(0, more - allowed[device]) for device, more in self.twice.items())

    @property
    def most_in_flight(self) -> int:
        """The most phones that were being called at one kill."""
        return max((len(kill.in_flight) for kill in self.kills), default=0)

    @property
    def called_again(self) -> tuple[int, ...]:
        """For each kill, how many of the phones in flight were called once more for it.

        A phone in flight at several kills, and called again less often than that, counts at the first of them: each
        call too many counts once.
        """
        left = Counter(self.twice)
        again = []
        for kill in self.kills:
            phones = [device for device in kill.in_flight if left[device] > 0]
            left.subtract(phones)
            again.append(len(phones))
        return tuple(again)

    def table(self) -> Table:
        """Return the kills: when, what was in flight, and how many of these phones were called once more for it.

        The last column adds up to ``sent_twice``, less what is beyond the chunks in flight.
        """
        rows = [
            (kill.number, seconds(kill.at), "both" if kill.api else "worker", kill.accepted, len(kill.in_flight), again)
            for kill, again in zip(self.kills, self.called_again, strict=True)
        ]
        columns = ("kill", "after the post", "killed", "accepted by then, repeated ones too", "phones in flight",
                   "of these called once more")  # fmt: skip
        return Table(columns, rows, caption=self._caption())

    def _caption(self) -> str:
        """What was lost and sent twice, of which posts."""
        lost, wanted, twice = count(self.lost), count(self.wanted), count(self.sent_twice)
        words = f"{lost} of {wanted} notifications lost, {twice} sent twice"
        if self.beyond_the_chunks_in_flight:
            words += f", {count(self.beyond_the_chunks_in_flight)} of these in flight at no kill"
        words += f". {_posts(self.posts_committed)} committed"
        if self.posts_cut_off:
            words += f", {self.posts_cut_off} cut off before the commit"
        return words + "."

    def chart(self) -> charts.Chart:
        """Draw the notifications accepted over the incident's time, with the kills on the line."""
        lost, twice = count(self.lost), count(self.sent_twice)
        chart = charts.line_chart(
            self.accepted_at.tolist(),
            {"accepted": self.accepted.tolist()},
            title=f"{len(self.kills)} kills: {lost} notifications lost, {twice} sent twice",
            x_label="seconds of the incident after the post",
            y_label="notifications accepted by FCM, a cross for each kill -9",
            points=False,
        )
        (axes,) = chart.figure.axes
        axes.plot([kill.at for kill in self.kills], [kill.accepted for kill in self.kills], **CROSSES)
        return chart

    def verdict(self) -> Verdict:
        """Return what holds on every machine, whatever the moments of the kills."""
        return Verdict(
            f"{len(self.kills)} kills, {self.step}",
            [
                Fact("kills", len(self.kills)),
                Fact("notifications lost", self.lost),
                Fact(f"at most {CHUNK_SIZE} phones in flight at a kill", self.most_in_flight <= CHUNK_SIZE),
                Fact("sent twice beyond the chunk in flight", self.beyond_the_chunks_in_flight),
            ],
        )


def _posts(number: int) -> str:
    return "1 post was" if number == 1 else f"{number} posts were"


def random_kills(
    step: int | str = "today",
    kills: int = 20,
    followers: int = FOLLOWERS,
    seed: int | None = None,
    **knobs: object,
) -> Kills:
    """Kill the worker ``kills`` times, each at a random moment of a fan-out under way, and start it again each time.

    Every fourth kill takes the API pod too, while the author with the fewest followers is posting. ``step``: one with
    an outbox. ``followers``: of @techinfluencer, 10 to 1,000,000; where the fan-out is over before the last kill,
    @techinfluencer posts again. ``seed``: of the moments; None draws new ones each time. ``knobs``: others of
    ``Knobs``, in incident units. Raises ValueError for a step without an outbox or fewer than one kill.
    """
    name = step_with(step, lambda each: each.outbox, "an outbox, which keeps books").name
    if not isinstance(kills, int) or isinstance(kills, bool) or kills < 1:
        raise ValueError(f"kills must be a whole number from 1 up, not {kills!r}.")
    title = f"{kills} kills, {name}"
    with crash_scene.scene(title, step, followers, gates=False, env=SETTINGS, **knobs) as scene:
        return _Killing(scene, random.Random(seed)).run(kills)


class _Killing:
    """The killing of one system's worker, and the books that are kept of it."""

    def __init__(self, scene: Scene, dice: random.Random) -> None:
        self.scene = scene
        self.system = scene.system
        self.dice = dice
        self.clock = Clock(self.system.knobs.speed)
        self.kills: list[Kill] = []
        self.posts = 0
        self.posts_meanwhile = 0
        self.written_down: set[tuple[int, int]] = set()  # (delivery, issue) of chunks whose worker has died
        self.curve: list[tuple[float, int]] = []

    def run(self, kills: int) -> Kills:
        self.clock = Clock(self.system.knobs.speed, time.time())
        self._post()
        for number in range(1, kills + 1):
            self.system.say(f"kill {number} of {kills}")
            self._until_it_goes_on()
            time.sleep(self.dice.uniform(0, LONGEST_DELAY))
            self._kill(number, api=number % POST_EVERY == 0)
            self.system.start_worker()
        self.system.say("waiting for the last notification")
        self.scene.until(self._over, "the last notification")
        return self._count()

    def _until_it_goes_on(self) -> None:
        """Wait until FCM has accepted more than at the last kill; if nothing is left to send, have another post."""
        before = self._accepted()

        def goes_on() -> bool:
            if self._accepted() > before:
                return True
            if self.system.unsent() == 0:
                self._post()
            return False

        self.scene.until(goes_on, "the new worker sends a notification")

    def _post(self) -> None:
        self.scene.post()
        self.posts += 1

    def _kill(self, number: int, api: bool) -> None:
        if api:
            self._post_meanwhile()
        at = time.time()
        self.system.kill_worker()
        if api:
            self.system.kill_pods()
        sending = self._sending()
        in_flight = tuple(device for devices in sending for device in devices)
        self.kills.append(Kill(number, self.clock.since_start(at), self._accepted(), in_flight, api))
        if api:
            self.system.start_pods()

    def _post_meanwhile(self) -> None:
        """Have the author with the fewest followers post, and come to a moment just before or after it arrives."""
        due = time.time() + 0.15
        self.system.post(author=dataset.everyday_author(), at=due)
        self.posts += 1
        self.posts_meanwhile += 1
        time.sleep(max(0.0, due + self.dice.uniform(*POST_AGE) - time.time()))

    def _sending(self) -> list[list[int]]:
        """Return the phones of each chunk that the worker who has just died was sending.

        Nobody is left who could change the books. A chunk whose worker died earlier may still be in them, until it is
        overdue: it was written down then.
        """
        rows = self.scene.ask("SELECT id, issue, device_ids FROM deliveries WHERE state = 'sending'")
        found = [devices for delivery, issue, devices in rows if (delivery, issue) not in self.written_down]
        self.written_down |= {(delivery, issue) for delivery, issue, _ in rows}
        return found

    def _accepted(self) -> int:
        accepted = self.scene.push.counters()["accepted"]
        self.curve.append((self.clock.since_start(time.time()), accepted))
        return accepted

    def _over(self) -> bool:
        """Whether nothing is left to send, and no post that the API was killed at is still on its way."""
        self._accepted()
        outcomes = self.system.recorder.live()["counts_by_who"].get("author", {})
        return sum(outcomes.values()) >= self.posts_meanwhile and self.scene.over()

    def _count(self) -> Kills:
        wanted, committed = self._wanted(), self.scene.posts_committed()
        called = {entry["token"]: entry["accepted"] for entry in self.scene.push.tokens(least=1, limit=10**7)}
        came = {device: called.get(token, 0) for device, token, _ in wanted}
        at, accepted = np.array(self.curve).T
        return Kills(
            step=self.system.step.name,
            followers=self.system.knobs.followers,
            kills=tuple(self.kills),
            posts_committed=committed,
            posts_cut_off=self.posts - committed,
            wanted=sum(calls for *_, calls in wanted),
            delivered=sum(min(came[device], calls) for device, _, calls in wanted),
            twice={device: came[device] - calls for device, _, calls in wanted if came[device] > calls},
            accepted_at=at,
            accepted=accepted,
        )

    def _wanted(self) -> list[tuple[int, str, int]]:
        """Return (device id, token, notifications) for each phone: one for each new post of those its owner follows.

        Posts of authors with very many followers may share a notification: @techinfluencer only posts when nothing is
        left to send, so that here none does.
        """
        return self.scene.ask(
            "SELECT devices.id, devices.token, count(*) FROM posts JOIN follows ON followee_id = author_id"
            " JOIN devices ON devices.user_id = follower_id WHERE posts.id > %s GROUP BY devices.id",
            self.scene.last_post,
        )

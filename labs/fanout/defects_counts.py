"""Defects of counting: how many phones a follower is called on, and how many batches a log line says there were."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from labs.fanout.defects import Defect, side_by_side
from labs.fanout.defects_trial import Trial, trial
from labs.kit.table import Table, count
from labs.kit.verdict import Fact

FOLLOWERS = 100
SECOND_DEVICES = 0.3  # share of followers who carry two phones
BATCH_SIZE = 500
SIZES = (45_312, 45_000)  # the published number of followers, and an exact multiple of BATCH_SIZE
NO_THROTTLE = 0.001  # wall seconds


# -- 3: one phone of each follower, or all ----------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class PhonesOfFollowers(Defect):
    """Notifications that one post sends to ``followers``, some of whom carry two phones, by program."""

    followers: int
    as_it_failed: int
    published: int
    newest_phone: int
    every_phone: int

    title: ClassVar[str] = "LIMIT 1 against all devices"

    @property
    def before(self) -> str:
        return f"{self.as_it_failed} notifications before the fix, {self.published} after it; nobody chose"

    @property
    def after(self) -> str:
        return f"a setting: {self.newest_phone} or {self.every_phone}"

    @property
    def sent(self) -> dict[str, int]:
        """Notifications by program."""
        return {
            "as it failed": self.as_it_failed,
            "published fix": self.published,
            "today, NOTIFY_EVERY_PHONE=no": self.newest_phone,
            "today, NOTIFY_EVERY_PHONE=yes": self.every_phone,
        }

    def per_follower(self, notifications: int) -> float:
        """Return ``notifications`` divided by the followers."""
        return notifications / self.followers

    def table(self) -> Table:
        numbers = list(self.sent.values())
        rows = [
            ("notifications", numbers),
            ("for each follower", [f"{self.per_follower(number):.2f}" for number in numbers]),
        ]
        return side_by_side(list(self.sent), rows, f"{self.title}: one post to {self.followers} followers")

    def facts(self) -> Iterator[Fact]:
        for name, number in self.sent.items():
            yield Fact(f"{name}: notifications", number)


def phones_of_followers(followers: int = FOLLOWERS, second_devices: float = SECOND_DEVICES) -> PhonesOfFollowers:
    """Post to ``followers`` of whom the share ``second_devices`` (0 to 1) carries two phones.

    The old loop takes one token of each follower (``LIMIT 1``), and not a particular one; the joined query that
    replaced it takes all. The last step has a setting for it.
    """
    with trial("two phones", step="as it failed", followers=followers, second_devices=second_devices) as on_trial:
        on_trial.post()
        as_it_failed = on_trial.counters()["devices"]
        on_trial.system.change(step="published fix")
        on_trial.post()
        on_trial.wait_until_counted()
        published = on_trial.counters()["devices"]
        on_trial.system.change(step="today")
        newest_phone = _sent_by_today(on_trial)
        on_trial.system.deploy(NOTIFY_EVERY_PHONE="yes")
        every_phone = _sent_by_today(on_trial)
        return PhonesOfFollowers(followers, as_it_failed, published, newest_phone, every_phone)


def _sent_by_today(on_trial: Trial) -> int:
    on_trial.post()
    on_trial.wait_until_sent()
    return on_trial.counters()["devices"]


# -- 4: the number of batches -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batches:
    """One post: the batches that the published worker logs, those that the push server had, and the chunks that the
    last steps divide the same followers into."""

    followers: int
    logged: int
    received: int
    chunks: int

    @property
    def rounded_up(self) -> int:
        """The followers in batches of 500, the last one perhaps not full."""
        return -(-self.followers // BATCH_SIZE)


@dataclass(frozen=True, repr=False)
class BatchCount(Defect):
    """``len // 500 + 1`` in a log line, for each number of followers."""

    posts: tuple[Batches, ...]

    title: ClassVar[str] = "One batch too many at exact multiples of 500"

    @property
    def wrong(self) -> tuple[Batches, ...]:
        """The posts whose log line is wrong."""
        return tuple(post for post in self.posts if post.logged != post.received)

    @property
    def before(self) -> str:
        said = [f"{post.logged} for {post.received} at {post.followers:,} followers" for post in self.wrong]
        return f"the log says {', '.join(said)}" if said else "the log is right"

    @property
    def after(self) -> str:
        return ", ".join(f"{post.chunks} at {post.followers:,}" for post in self.posts)

    def table(self) -> Table:
        rows = [
            ("batches as the published worker logs them (len // 500 + 1)", [post.logged for post in self.posts]),
            ("batches that arrived at the push server", [post.received for post in self.posts]),
            ("put right (-(-len // 500))", [post.rounded_up for post in self.posts]),
            ("chunks of the step that loses nothing", [post.chunks for post in self.posts]),
        ]
        return side_by_side([f"{count(post.followers)} followers" for post in self.posts], rows, self.title)

    def facts(self) -> Iterator[Fact]:
        for post in self.posts:
            yield Fact(f"{post.followers:,} followers: batches in the log", post.logged)
            yield Fact(f"{post.followers:,} followers: batches at the push server", post.received)
            yield Fact(f"{post.followers:,} followers: batches, put right", post.rounded_up)
            yield Fact(f"{post.followers:,} followers: chunks", post.chunks)


def batch_count(followers: Sequence[int] = SIZES) -> BatchCount:
    """Post once to each number of ``followers``, and compare the worker's own log line with what the push server got.

    The push server answers at once, and the throttle is off: neither has a part in a count.
    """
    knobs = {"followers": followers[0], "fcm_latency_ms": 0}
    with trial("counting batches", step="published fix", env={"THROTTLE_SECONDS": NO_THROTTLE}, **knobs) as on_trial:
        published = {number: _published_batches(on_trial, number) for number in followers}
        on_trial.system.change(step="nothing lost")
        chunks = {number: _chunks(on_trial, number) for number in reversed(followers)}
        return BatchCount(tuple(Batches(number, *published[number], chunks[number]) for number in followers))


def _published_batches(on_trial: Trial, followers: int) -> tuple[int, int]:
    """Post, and return the batches that the worker logged and those that the push server had."""
    on_trial.system.change(followers=followers)
    on_trial.post()
    _, _, batches = on_trial.wait_until_counted().groups()
    return int(batches), on_trial.counters()["batches"]


def _chunks(on_trial: Trial, followers: int) -> int:
    """Post, and return how many chunks the fan-out is divided into: all of them are written at once, at its start."""
    on_trial.system.change(followers=followers)
    (last,) = on_trial.ask("SELECT coalesce(max(id), 0) FROM fanouts")
    on_trial.post()
    begun = "SELECT count(*) FROM deliveries WHERE fanout_id > %(last)s"
    return on_trial.wait_for(lambda: on_trial.ask(begun, last=last)[0], "the beginning of the fan-out")

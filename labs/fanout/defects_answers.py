"""Defects of a program that does not look at what the push service answers.

Four ways for the push service to say no: the credentials are wrong, it is overloaded, some phones are gone, the
address is gone. The failing route reads no answer; the published worker reads the answer to a batch, and not those to
the messages in it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from labs.fanout.defects import Defect, side_by_side
from labs.fanout.defects_trial import Seen, Trial, trial
from labs.fanout.system import PUSH_TOKEN
from labs.kit.table import Table
from labs.kit.verdict import Fact

FOLLOWERS = 50
CHUNKS = 1_000  # followers for what happens inside a batch: two of them
DEAD = 0.05  # share of phones on which the app was removed
AS_IT_FAILED, PUBLISHED, NOTHING_LOST, TODAY = "as it failed", "published fix", "nothing lost", "today"


def _rows(columns: tuple[Seen, ...]) -> Iterator[tuple[str, list]]:
    yield "the author is told ok", [seen.told_ok for seen in columns]
    yield "requests to the push service, in all", [seen.requests for seen in columns]
    reasons = dict.fromkeys(error for seen in columns for error in seen.refused)
    if reasons:  # an address that is gone gives none: it answers with a page of HTML
        yield f"refused ({', '.join(reasons)})", [seen.refusals for seen in columns]
    yield "warnings and errors logged", [seen.complaints for seen in columns]
    yield "phones reached", [seen.reached for seen in columns]
    yield "phones known to be waiting", [seen.waiting for seen in columns]
    yield "notifications sent twice", [seen.twice for seen in columns]


# -- 1: the literal $ -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class LiteralDollar(Defect):
    """A header with a ``$`` too many: ``right`` is the failing route with the correct header.

    ``waiting`` is the last step while the header is still wrong, ``sent`` the same post after the next deployment.
    """

    followers: int
    right: Seen
    as_it_failed: Seen
    published: Seen
    waiting: Seen
    sent: Seen

    title: ClassVar[str] = "A dollar sign before the token"

    @property
    def before(self) -> str:
        return f"the author is told ok, {self.as_it_failed.reached} of {self.followers} phones reached"

    @property
    def after(self) -> str:
        return f"{self.sent.reached} of {self.followers}: they waited until the header was right"

    def table(self) -> Table:
        names = ("as it failed, header right", "as it failed, with $", "published fix, with $", "today, with $",
                 "today, put right")  # fmt: skip
        columns = (self.right, self.as_it_failed, self.published, self.waiting, self.sent)
        return side_by_side(names, _rows(columns), f"{self.title}: one post to {self.followers} followers")

    def facts(self) -> Iterator[Fact]:
        yield Fact("as it failed, header right: phones reached", self.right.reached)
        yield Fact("as it failed, with $: the author is told ok", self.as_it_failed.told_ok)
        yield Fact("as it failed, with $: refused with 401", self.as_it_failed.refused.get("UNAUTHENTICATED", 0))
        yield Fact("as it failed, with $: anything logged", self.as_it_failed.complaints > 0)
        yield Fact("as it failed, with $: phones reached", self.as_it_failed.reached)
        yield Fact("published fix, with $: attempts", self.published.requests)
        yield Fact("published fix, with $: anything logged", self.published.complaints > 0)
        yield Fact("published fix, with $: phones reached", self.published.reached)
        yield Fact("today, with $: phones known to be waiting", self.waiting.waiting)
        yield Fact("today, put right: phones reached", self.sent.reached)
        yield Fact("today, put right: sent twice", self.sent.twice)


def literal_dollar(followers: int = FOLLOWERS) -> LiteralDollar:
    """Post with the published header and with the right one.

    The published code reads ``f"Bearer ${token}"``. JavaScript would put the token in the place of ``${token}``; in
    Python the ``$`` is a letter like any other, and "Bearer $ya29..." goes out. The access token is set to begin with
    a ``$`` here, which puts the same bytes on the wire and leaves the team's code as it is. The push server is as
    strict as the real one: it answers 401.
    """
    with trial("the header", step=AS_IT_FAILED, followers=followers) as on_trial:
        system = on_trial.system
        on_trial.post()
        right = on_trial.seen()
        system.deploy(FCM_ACCESS_TOKEN=f"${PUSH_TOKEN}")
        on_trial.post()
        as_it_failed = on_trial.seen()
        published = _published_gives_up(on_trial)
        waiting = _waits(on_trial, TODAY)
        system.deploy(FCM_ACCESS_TOKEN=PUSH_TOKEN)
        on_trial.wait_until_sent()
        return LiteralDollar(followers, right, as_it_failed, published, waiting, on_trial.seen())


def _published_gives_up(on_trial: Trial) -> Seen:
    on_trial.system.change(step=PUBLISHED)
    on_trial.post()
    on_trial.wait_until_given_up()
    return on_trial.seen()


def _waits(on_trial: Trial, step: str) -> Seen:
    """Post, and see the phones wait for their next attempt."""
    on_trial.system.change(step=step)
    on_trial.post()
    on_trial.wait_until_put_off()
    return on_trial.seen()


# -- 2: the status is never looked at ---------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class IgnoredStatus(Defect):
    """A push service that refuses everything: ``waiting`` is the last step meanwhile, ``sent`` once it is over."""

    followers: int
    as_it_failed: Seen
    published: Seen
    waiting: Seen
    sent: Seen

    title: ClassVar[str] = "The answers are never looked at"

    @property
    def before(self) -> str:
        return f"{self.as_it_failed.reached} of {self.followers} phones reached, nothing logged"

    @property
    def after(self) -> str:
        return f"{self.sent.reached} of {self.followers}: they waited until the push service was back"

    def table(self) -> Table:
        names = (AS_IT_FAILED, PUBLISHED, "today, meanwhile", "today, when it is over")
        columns = (self.as_it_failed, self.published, self.waiting, self.sent)
        rows = [*_rows(columns), ("counted as sent in the log", [None, self.published.counted, None, None])]
        return side_by_side(names, rows, f"{self.title}: each push to {self.followers} followers is answered 503")

    def facts(self) -> Iterator[Fact]:
        yield Fact("as it failed: the author is told ok", self.as_it_failed.told_ok)
        yield Fact("as it failed: refused with 503", self.as_it_failed.refused.get("UNAVAILABLE", 0))
        yield Fact("as it failed: anything logged", self.as_it_failed.complaints > 0)
        yield Fact("as it failed: phones reached", self.as_it_failed.reached)
        yield Fact("published fix: phones reached", self.published.reached)
        yield Fact("published fix: counted as sent", self.published.counted)
        yield Fact("published fix: attempts", self.published.requests)
        yield Fact("today, meanwhile: phones known to be waiting", self.waiting.waiting)
        yield Fact("today, when it is over: phones reached", self.sent.reached)
        yield Fact("today, when it is over: sent twice", self.sent.twice)


def ignored_status(followers: int = FOLLOWERS) -> IgnoredStatus:
    """Post while the push service answers 503 to every message, and let it recover for the last step."""
    with trial("a push service that says no", step=AS_IT_FAILED, followers=followers) as on_trial:
        on_trial.system.push.set(error_rates={"UNAVAILABLE": 1.0})
        on_trial.post()
        as_it_failed = on_trial.seen()
        on_trial.system.change(step=PUBLISHED)
        on_trial.post()
        on_trial.wait_until_counted()
        published = on_trial.seen()
        waiting = _waits(on_trial, TODAY)
        on_trial.system.push.set(error_rates={})
        on_trial.wait_until_sent()
        return IgnoredStatus(followers, as_it_failed, published, waiting, on_trial.seen())


# -- 6: the results inside a batch ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TwoPosts:
    """Two posts to phones of which some are gone, and how many tokens were forgotten after the first."""

    first: Seen
    second: Seen
    forgotten: int

    @property
    def counted(self) -> int | None:
        """Notifications of the first post that the published worker's log counts as sent; None for other programs."""
        return self.first.counted or None

    @property
    def gone(self) -> int:
        """Phones of the first post on which the app was removed."""
        return self.first.refused.get("UNREGISTERED", 0)

    @property
    def gone_again(self) -> int:
        """Phones of the second post on which the app was removed."""
        return self.second.refused.get("UNREGISTERED", 0)


@dataclass(frozen=True, repr=False)
class UnreadResults(Defect):
    """Phones that are gone, in a batch that succeeds."""

    followers: int
    published: TwoPosts
    today: TwoPosts

    title: ClassVar[str] = "The results inside a batch are never read"

    @property
    def before(self) -> str:
        return f"{self.published.gone_again} phones that are gone are called again with each post"

    @property
    def after(self) -> str:
        return f"{self.today.forgotten} tokens forgotten, {self.today.gone_again} called again"

    def table(self) -> Table:
        both = (self.published, self.today)
        rows = [
            ("first post: phones reached", [posts.first.reached for posts in both]),
            ("first post: app removed (UNREGISTERED)", [posts.gone for posts in both]),
            ("counted as sent in the log", [posts.counted for posts in both]),
            ("tokens forgotten", [posts.forgotten for posts in both]),
            ("second post: app removed (UNREGISTERED)", [posts.gone_again for posts in both]),
        ]
        return side_by_side((PUBLISHED, TODAY), rows, f"{self.title}: two posts to {self.followers:,} followers")

    def facts(self) -> Iterator[Fact]:
        for name, posts in ((PUBLISHED, self.published), (TODAY, self.today)):
            yield Fact(f"{name}: phones reached", posts.first.reached)
            yield Fact(f"{name}: phones that are gone", posts.gone)
            if posts.counted:
                yield Fact(f"{name}: counted as sent", posts.counted)
            yield Fact(f"{name}: tokens forgotten", posts.forgotten)
            yield Fact(f"{name}: gone, and called again by the second post", posts.gone_again)


def unread_results(followers: int = CHUNKS, dead: float = DEAD) -> UnreadResults:
    """Post twice to ``followers`` of whose phones the share ``dead`` (0 to 1) is gone: it is always the same ones."""
    with trial("phones that are gone", step=PUBLISHED, followers=followers) as on_trial:
        on_trial.system.push.set(dead_fraction=dead)
        published = _two_posts(on_trial, on_trial.wait_until_counted)
        on_trial.system.change(step=TODAY)
        today = _two_posts(on_trial, on_trial.wait_until_sent)
        return UnreadResults(followers, published, today)


def _two_posts(on_trial: Trial, wait: Callable[[], object]) -> TwoPosts:
    first = _post_and_wait(on_trial, wait)
    (forgotten,) = on_trial.ask("SELECT count(*) FROM devices WHERE token IS NULL")
    return TwoPosts(first, _post_and_wait(on_trial, wait), forgotten)


def _post_and_wait(on_trial: Trial, wait: Callable[[], object]) -> Seen:
    on_trial.post()
    wait()
    return on_trial.seen()


# -- 7: the batch endpoint as it answers now --------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class RetiredEndpoint(Defect):
    """The batch endpoint as it answers today: ``waiting`` is the step that loses nothing, ``sent`` the same post
    after the step that sends one message a request was deployed."""

    followers: int
    published: Seen
    waiting: Seen
    sent: Seen

    title: ClassVar[str] = "The batch endpoint is gone"

    @property
    def before(self) -> str:
        return f"{self.published.reached} of {self.followers} phones reached, given up after {self.published.requests}"

    @property
    def after(self) -> str:
        return f"{self.sent.reached} of {self.followers}: they waited for the program that sends them one by one"

    def table(self) -> Table:
        names = (PUBLISHED, f"{NOTHING_LOST}, in batches", f"{TODAY}, one a request")
        rows = _rows((self.published, self.waiting, self.sent))
        caption = f"{self.title}: it answers 404 and a page of HTML; one post to {self.followers} followers"
        return side_by_side(names, rows, caption)

    def facts(self) -> Iterator[Fact]:
        yield Fact("published fix: attempts", self.published.requests)
        yield Fact("published fix: phones reached", self.published.reached)
        yield Fact("published fix: phones known to be waiting", self.published.waiting)
        yield Fact("nothing lost: phones reached", self.waiting.reached)
        yield Fact("nothing lost: phones known to be waiting", self.waiting.waiting)
        yield Fact("today: phones reached", self.sent.reached)
        yield Fact("today: sent twice", self.sent.twice)


def retired_endpoint(followers: int = FOLLOWERS) -> RetiredEndpoint:
    """Post with FCM's batch endpoint retired, as it has been since 2024, and then deploy what needs none."""
    with trial("the batch endpoint is gone", step=PUBLISHED, followers=followers) as on_trial:
        on_trial.system.push.set(retired=True)
        on_trial.post()
        on_trial.wait_until_given_up()
        published = on_trial.seen()
        waiting = _waits(on_trial, NOTHING_LOST)
        on_trial.system.change(step=TODAY)
        on_trial.wait_until_sent()
        return RetiredEndpoint(followers, published, waiting, on_trial.seen())

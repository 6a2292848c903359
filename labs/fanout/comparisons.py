"""Runs beside each other: the three stories, the ladder of fixes, and the published results."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from labs.fanout import published
from labs.fanout.outcome import Outcome
from labs.fanout.steps import RELEASE_EARLY, step_of
from labs.kit import charts
from labs.kit.table import Table, count, percent, seconds
from labs.kit.verdict import Fact, Verdict


def hypotheses(alone: Outcome, retried: Outcome, opened: Outcome) -> Verdict:
    """Return which of the three stories takes the API down; the same lines on every machine."""
    return Verdict(
        "Which story takes the API down?",
        [
            Fact("one post and a patient phone: API down", alone.down),
            Fact("one post and a patient phone: connections held by the post", alone.connections_by_post),
            Fact("one post and a phone that retries: API down", retried.down),
            Fact("one post and a phone that retries: connections held by the post", retried.connections_by_post),
            Fact("one post and followers who come back at once: API down", opened.down),
        ],
    )


@dataclass(frozen=True)
class Ladder:
    """The steps of the fix, each run against the same outage."""

    outcomes: tuple[Outcome, ...]

    def table(self) -> Table:
        """Return what each step did for the author, the connections, the readers and the followers."""
        columns = ("step", "author's answer", "connection held", "readers not served", "threads at work",
                   "last push", "delivered", "twice", "lost")  # fmt: skip
        speeds = " and ".join(dict.fromkeys(f"{each.knobs.speed:g}" for each in self.outcomes))
        caption = f"Times of the incident. Compression enlarges our processor's own share of them {speeds} times."
        return Table(columns, [_row(outcome) for outcome in self.outcomes], caption=caption)

    def chart(self) -> charts.Chart:
        """Draw the pool of each step on the same axes."""
        labels = [outcome.label if outcome.knobs.step else "as it failed" for outcome in self.outcomes]
        recordings = [outcome.recording for outcome in self.outcomes]
        held = ", ".join(count(outcome.connections_by_post) for outcome in self.outcomes)
        title = f"Connections that the post holds at most, step by step: {held}"
        return charts.shared_axes(recordings, show=("pool", "requests"), title=title, labels=labels)

    def verdict(self) -> Verdict:
        """Return what each step changes; the same lines on every machine."""
        return Verdict("The ladder", [fact for each in self.outcomes for fact in _facts(each)])


def ladder(*outcomes: Outcome) -> Ladder:
    """Put the outcomes of several steps beside each other, in the order given."""
    return Ladder(outcomes)


def _facts(outcome: Outcome) -> list[Fact]:
    step = step_of(outcome.knobs.step)
    calls_out = outcome.calls_out_with_connection
    facts = [] if calls_out is None else [Fact(f"{step.name}: holds a connection while it calls out", calls_out)]
    if step.holds_connection:
        facts.append(Fact(f"{step.name}: the post takes every connection", outcome.pool_exhausted))
    if step.number != RELEASE_EARLY:
        facts.append(Fact(f"{step.name}: API down", outcome.down))
    if step.finishes:
        facts.append(Fact(f"{step.name}: fan-out over", outcome.finished))
        facts.append(Fact(f"{step.name}: notifications lost", outcome.lost))
        facts.append(Fact(f"{step.name}: notifications duplicated", outcome.duplicated))
    return facts


def _row(outcome: Outcome) -> Sequence[str]:
    answer = outcome.response()
    return (
        step_of(outcome.knobs.step).name,
        f"none in {seconds(outcome.after_post)}" if math.isnan(answer) else seconds(answer),
        seconds(outcome.longest_hold),
        percent(outcome.failed_of_all),
        count(outcome.busy_threads),
        outcome.last_notification,
        count(outcome.delivered),
        count(outcome.duplicated),
        count(outcome.lost) if outcome.finished else "open",
    )


def beside_published(outcome: Outcome) -> Table:
    """Return the published results of the fix beside ours; run it at life speed, or the clocks differ."""
    pushes = outcome.recording.fcm[-1:]
    batches = int(pushes.batches[0]) if len(pushes) else 0
    rows = [
        ("the author's answer", published.figure("F21"), seconds(outcome.response())),
        ("longest hold of a connection", published.figure("F19"), seconds(outcome.longest_hold)),
        ("batches", published.figure("F22"), count(batches)),
        ("last notification after the post", published.figure("F23"), outcome.last_notification),
        ("readers' requests that failed", published.figure("F24"), count(outcome.failed_requests)),
        ("notifications delivered", count(published.value("followers")), count(outcome.delivered)),
    ]
    return Table(("what", "published", "here, in this run"), rows)

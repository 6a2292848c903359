"""What one run of incident 1 came to: figures, the verdict, and views of what was recorded.

All times and durations are incident seconds.
"""

import math
from functools import cached_property
from typing import Any

import numpy as np

from labs.fanout.knobs import Knobs
from labs.fanout.steps import step_of
from labs.fanout.system import CREATE_PATH, SERVER_STATEMENTS
from labs.kit import charts, server_statements
from labs.kit.history import step_sum
from labs.kit.recording import Recording
from labs.kit.table import Table, count, seconds
from labs.kit.traces import Trace
from labs.kit.verdict import Fact, Verdict, share_in_words

CREATE = f"POST {CREATE_PATH}"
FEED = "GET /api/v1/feed"
PUSH_PATHS = ("messages:send", "/batch")
PATIENCE = 5.0  # incident seconds: a feed that is blank for longer counts as not served
LAST_PART = 10.0  # incident seconds: "down" is judged by who asks in this time, after as long again


class Outcome:
    """One finished run. ``recording`` holds everything observed; ``knobs`` what it was run with."""

    def __init__(
        self, recording: Recording, knobs: Knobs, posted_at: float, *, fanouts: int = 0, left_over: int = 0
    ) -> None:
        self.recording = recording
        self.knobs = knobs
        self.posted_at = posted_at
        self.fanouts = fanouts
        """Notifications that were begun, where the step has an outbox; a throttled author's posts share one."""
        self.left_over = left_over
        """What was still to be sent as the run ended, where the step has an outbox: posts and chunks."""

    def __repr__(self) -> str:
        state = "down" if self.down else "up"
        return f"{step_of(self.knobs.step).name}, {self.knobs.followers:,} followers: the API is {state} at the end"

    # -- the users' side ------------------------------------------------------------------------------------------

    @cached_property
    def _readers(self) -> Any:
        """Readers' requests that were due early enough for their patience to be over before the run was."""
        requests = self.recording.requests.where(who="reader")
        return requests.between(before=self.recording.seconds - PATIENCE)

    @cached_property
    def _unserved(self) -> np.ndarray:
        """Which of the readers' requests got no good answer within their patience; booleans."""
        readers = self._readers
        return ~(readers.ok & (readers.latency <= PATIENCE))

    @property
    def sent_requests(self) -> int:
        """How many requests readers sent and could have had an answer to."""
        return len(self._readers)

    @property
    def failed_requests(self) -> int:
        """How many of them got no good answer within five seconds."""
        return int(self._unserved.sum())

    @property
    def failed_of_all(self) -> float:
        """The share of readers' requests that were not served, over the whole run, 0 to 1."""
        return float(self._unserved.mean()) if self.sent_requests else math.nan

    @property
    def failed_at_end(self) -> float:
        """The share of readers asking late in the run who had no good answer when it ended, 0 to 1.

        They had at least ten seconds, so a slow answer counts as one; who is refused or still waits had none.
        """
        end = self.recording.seconds
        part = min(LAST_PART, end / 3)
        late = self.recording.requests.where(who="reader").between(end - 2 * part, end - part)
        return float((~late.ok).mean()) if len(late) else math.nan

    @property
    def down(self) -> bool:
        """Whether more than half of the readers who asked late in the run had no good answer."""
        return self.failed_at_end > 0.5

    def response(self, who: str = "author") -> float:
        """Return the median seconds until a good answer, of the author or of readers; NaN when there was none."""
        answered = self.recording.answered(who=who)
        return float(np.median(answered.latency)) if len(answered) else math.nan

    @property
    def feed_p50(self) -> str:
        """The feed's median time to answer, in words."""
        answered = self.recording.answered(endpoint=FEED, who="reader")
        return seconds(float(np.median(answered.latency))) if len(answered) else "no time: it was never answered"

    @property
    def visits_per_second(self) -> str:
        """How many visits a second the pushes caused, from the post to the end."""
        opened = self.recording.requests.where(who="opener")
        return f"{len(opened) / self.after_post:.1f}"

    # -- the connections ------------------------------------------------------------------------------------------

    @property
    def after_post(self) -> float:
        """Seconds from the post to the end of the run."""
        return self.recording.seconds - self.posted_at

    @property
    def all_connections(self) -> int:
        """Connections of all pods' pools together."""
        return self.knobs.pool_size * self.knobs.pods

    @property
    def all_threads(self) -> int:
        """Threads of all pods together."""
        return self.knobs.threads * self.knobs.pods

    @cached_property
    def _held_by_posts(self) -> tuple[np.ndarray, np.ndarray]:
        """(times, connections held by the route that creates posts), all pods together; shapes (n,)."""
        pool = self.recording.pool
        return step_sum(pool.at, pool.pod, pool.held_by(CREATE), self._restarts())

    def _restarts(self) -> list[tuple[float, str]]:
        gone = self.recording.fleet.where(event=("stopped", "killed", "exited"))
        return list(zip(gone.at.tolist(), gone.name.tolist(), strict=True))

    @property
    def connections_by_post(self) -> int:
        """The most connections that the route held at one time."""
        return int(self._held_by_posts[1].max(initial=0))

    @property
    def most_connections(self) -> int:
        """The most connections in use at one time, by anybody."""
        return int(self.recording.pool.in_use.max(initial=0))

    @property
    def connections_at_end(self) -> int:
        """Connections in use when the run ended."""
        held = self.recording.pool.at_time(self.recording.seconds)
        return int(held.in_use.sum())

    @property
    def pool_full_at(self) -> float:
        """When the route held every connection for the first time; NaN if it never did."""
        return self._first_full(after=0.0)

    def _first_full(self, after: float) -> float:
        times, held = self._held_by_posts
        full = times[(held >= self.all_connections) & (times >= after)]
        return float(full[0]) if len(full) else math.nan

    @property
    def pool_exhausted(self) -> bool:
        """Whether the route held every connection at some time."""
        return not math.isnan(self.pool_full_at)

    @property
    def full_after(self) -> str:
        """How long after the post the last connection was gone, in words."""
        return seconds(self.pool_full_at - self.posted_at) if self.pool_exhausted else "never"

    @property
    def attempts_until_full(self) -> int:
        """How often the author's phone had sent the post when the last connection was gone."""
        sent = self.recording.requests.where(who="author").sent
        return int((sent <= self.pool_full_at).sum()) if self.pool_exhausted else 0

    @property
    def recovery(self) -> str:
        """How long after the restart the pool was full again, in words."""
        again = self._first_full(after=self.recording.mark("restart") + 1)
        return "no time at all" if math.isnan(again) else seconds(again - self.recording.mark("restart"))

    @cached_property
    def calls_out_with_connection(self) -> bool | None:
        """Whether any call to the push service was made while its own request or task held a connection.

        None where no call was traced: the last step makes too many of them for a span each.
        """
        calling = [trace for trace in self.traces if _pushes_of(trace)]
        return any(map(_calls_out_with_connection, calling)) if calling else None

    @property
    def statements(self) -> int:
        """How many SQL statements the system ran, from its warm-up on."""
        return sum(statement.calls for statement in self.recording.statements)

    @property
    def longest_hold(self) -> float:
        """The longest that one request held a connection, ended or not; seconds, 0 when none was held."""
        finished = self.recording.holds.where(by=CREATE).held.max(initial=0.0)
        last = self.recording.pool.at_time(self.recording.seconds)
        open_since = [slot.since for slots in last.slots for slot in slots if slot and slot.by == CREATE]
        return float(max([finished, *(self.recording.seconds - since for since in open_since)]))

    @property
    def threads_full_after(self) -> str:
        """How long after the post every thread was at work, in words."""
        pool = self.recording.pool
        full = pool.at[pool.serving >= self.knobs.threads]
        return seconds(float(full[0]) - self.posted_at) if len(full) else "never"

    @property
    def busy_threads(self) -> int:
        """Threads at work at the end of the run."""
        return int(np.nansum(self.recording.pool.at_time(self.recording.seconds).serving))

    @property
    def failed_share(self) -> str:
        """The share of readers not served at the end, in words."""
        return share_in_words(self.failed_at_end)

    # -- the notifications ----------------------------------------------------------------------------------------

    @cached_property
    def _pushes(self) -> dict[str, float]:
        """The push server's last word: accepted, devices, duplicates, rejected and when the last was accepted."""
        fcm = self.recording.fcm
        return next(iter(fcm[-1:]), {}) if len(fcm) else {}

    @property
    def delivered(self) -> int:
        """How many phones received the post at least once."""
        return int(self._pushes.get("devices", 0))

    @property
    def accepted(self) -> int:
        """How many notifications the push server accepted in all."""
        return int(self._pushes.get("accepted", 0))

    @property
    def duplicated(self) -> int:
        """Notifications beyond the ones that were meant: one a follower a post."""
        return max(0, self.accepted - self.wanted) if self.knobs.posts > 1 else int(self._pushes.get("duplicates", 0))

    @property
    def wanted(self) -> int:
        """Notifications that were meant to go out: one a follower a post; posts that were merged are one."""
        return self.knobs.followers * (self.fanouts if self._has_outbox else self.knobs.posts)

    @property
    def _has_outbox(self) -> bool:
        return step_of(self.knobs.step).outbox

    @property
    def merged(self) -> int:
        """Posts that went out in the notification of another one."""
        return self.knobs.posts - self.fanouts if self._has_outbox and self.finished else 0

    @property
    def finished(self) -> bool:
        """Whether the fan-out was over: everybody reached, or nothing sent for the last part of the run."""
        if self._has_outbox:
            return self.left_over == 0
        last = self._pushes.get("last_accepted_at", math.nan)
        return self.accepted >= self.wanted or bool(last < self.recording.seconds - PATIENCE)

    @property
    def lost(self) -> int:
        """Notifications that will never come; 0 while the fan-out still runs."""
        if not self.finished:
            return 0
        return max(0, self.wanted - (self.accepted if self.knobs.posts > 1 else self.delivered))

    @property
    def pace(self) -> float:
        """Notifications a second that reached a phone for the first time, from the first to the last one seen."""
        first, last = (self._pushes.get(name, math.nan) for name in ("first_accepted_at", "last_accepted_at"))
        return (self.accepted - self.duplicated) / (last - first) if last > first else math.nan

    @property
    def pushes_per_second(self) -> str:
        """The pace, in words."""
        return "no" if math.isnan(self.pace) else f"{self.pace:.0f}"

    @property
    def last_after(self) -> float:
        """Seconds from the post to the last notification: measured when the fan-out ended, else at this pace."""
        if self.finished and self.accepted:
            return self._pushes["last_accepted_at"] - self.posted_at
        return self.wanted / self.pace if self.pace > 0 else math.inf

    @property
    def last_notification(self) -> str:
        """The same in words; "about" where the run ended before it."""
        if math.isinf(self.last_after):
            return "never"
        return seconds(self.last_after) if self.finished else f"about {seconds(self.last_after)}"

    # -- views ----------------------------------------------------------------------------------------------------

    def clock(self, at: float) -> str:
        """Return what the clock on the wall showed, "15:21:00"."""
        return "never" if math.isnan(at) else self.recording.clock_at(at)

    @property
    def traces(self) -> Any:
        """The requests of the run as traces."""
        return self.recording.traces

    @property
    def label(self) -> str:
        """What tells this run from its neighbours, in two or three words."""
        knobs = self.knobs
        if knobs.step:
            return step_of(knobs.step).name
        if knobs.posts != 1:
            return f"{knobs.posts} posts at once" if knobs.posts else "no post"
        if knobs.open_rate:
            return "followers come back"
        return "the phone retries" if knobs.client_retries else "the phone waits"

    @property
    def title(self) -> str:
        """The finding, as a chart's title states it."""
        step = step_of(self.knobs.step)
        if not step.holds_connection and not step.worker and self.knobs.posts:
            state = "Down" if self.down else "Up"
            return f"{state} at the end, with {self.busy_threads} of {self.all_threads} threads at work"
        if self.down and self.pool_exhausted:
            return f"Down: the post holds all {self.all_connections} connections"
        if self.down:
            return f"Down, with {self.connections_at_end} of {self.all_connections} connections in use"
        if not self.connections_by_post:
            return "Up, and no connection waits for the push service"
        return f"Up: the post holds {self.connections_by_post} of {self.all_connections} connections"

    def chart(self, *show: str, beside: "Outcome | None" = None) -> charts.Chart:
        """Draw what happened on the incident's clock: by default the pool, the requests and the time to answer.

        ``show``: any of "pool", "threads", "requests", "latency", "cpu", "memory", "postgres", "redis", "fcm".
        ``beside``: an earlier run, drawn on the left on the same axes.
        """
        views = show or ("pool", "requests", "latency")
        if beside is None:
            return charts.run_chart(self.recording, views, title=self.title)
        labels = [beside.label, self.label]
        return charts.run_chart(beside.recording, views, beside=self.recording, title=self.title, labels=labels)

    def holders(self) -> Table:
        """Return who held the pool's connections at the end of the run, and who waited."""
        return self.recording.pool.holders(self.recording.seconds)

    def database_sessions(self) -> Table:
        """Return pg_stat_activity at the end of the run: sessions by application and state, with their oldest."""
        rows = self.recording.postgres[-1:].rows[0] if len(self.recording.postgres) else []
        groups: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            key = (row.get("application_name") or "(none)", row.get("state") or "(none)")
            groups.setdefault(key, []).append(row.get("transaction_age") or 0.0)
        cells = [
            (application, state, len(ages), seconds(max(ages)) if max(ages) else "no transaction")
            for (application, state), ages in sorted(groups.items(), key=lambda item: -len(item[1]))
        ]
        return Table(("application", "state", "sessions", "oldest transaction"), cells)

    def slow_queries(self, most: int = 6) -> Table:
        """Return the ``most`` expensive statements: calls and mean time as the application saw them.

        With pg_stat_statements the server's own mean and longest time stand beside them. Without it the caption says
        what the longest was that a look at pg_stat_activity ever found running.
        """
        by_server = {_head(each.text): each for each in self._server_statements or []}
        rows = []
        for statement in self.recording.statements[:most]:
            timed = by_server.get(_head(statement.text))
            on_server = tuple(
                seconds(self.recording.clock.incident(value)) for value in (timed.mean, timed.longest)
            ) if timed else ("–", "–")  # fmt: skip
            rows.append((_head(statement.text, 60), count(statement.calls), seconds(statement.mean), *on_server))
        columns = ("statement", "calls", "mean, in the application", "mean, on the server", "longest, on the server")
        if self._server_statements is None:
            columns, rows = columns[:3], [row[:3] for row in rows]
        return Table(columns, rows, caption=self._longest_seen())

    @cached_property
    def _server_statements(self) -> list[server_statements.ServerStatement] | None:
        return server_statements.load(self.recording.folder / SERVER_STATEMENTS)

    def _longest_seen(self) -> str:
        looks = self.recording.postgres.between(after=self.posted_at)
        running = [row["state_age"] for rows in looks.rows for row in rows if row["state"] == "active"]
        longest = f"the longest statement found running had taken {seconds(max(running, default=0.0))}"
        found = longest if running else "none was ever found running"
        return f"In {len(looks)} looks at pg_stat_activity, {found}."

    def vitals(self) -> Table:
        """Return processor and memory of each process: median and most, as sampled through the run."""
        rows = []
        for name in dict.fromkeys(self.recording.processes.name.tolist()):
            seen = self.recording.processes.where(name=name).between(after=self.posted_at)
            if len(seen):
                cpu, memory = seen.cpu, seen.rss / 1e6
                cores = (f"{np.median(cpu):.2f}", f"{cpu.max():.2f}")
                rows.append((name, *cores, f"{memory[0]:.0f}", f"{memory[-1]:.0f}"))
        columns = ("process", "cores, median", "cores, most", "MB after the post", "MB at the end")
        return Table(columns, rows, caption=f"This machine has {self.recording.cores} cores.")

    @property
    def pod_cores(self) -> float:
        """Processors that one API pod kept busy after the post, median; one Python interpreter can use one."""
        seen = self.recording.processes.where(name="api-1").between(after=self.posted_at)
        return float(np.median(seen.cpu)) if len(seen) else math.nan

    def verdict(self) -> Verdict:
        """Return the facts of this run that are the same on every machine."""
        facts = [
            Fact("pool exhausted by the post", self.pool_exhausted),
            Fact("API down at the end", self.down),
        ]
        if step_of(self.knobs.step).finishes:
            facts += [
                Fact("fan-out over", self.finished),
                Fact("notifications lost", self.lost),
                Fact("notifications duplicated", self.duplicated),
            ]
        return Verdict(f"{step_of(self.knobs.step).name}, {count(self.knobs.followers)} followers", facts)


def _head(statement: str, width: int = 40) -> str:
    """Return the beginning of a statement on one line, which the application's and the server's text share."""
    line = " ".join(statement.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _pushes_of(trace: Trace) -> list[Any]:
    return [span for span in trace.spans if any(path in str(span.attributes) for path in PUSH_PATHS)]


def _calls_out_with_connection(trace: Trace) -> bool:
    """Whether a push in ``trace`` began while its own request or task, the parent of both spans, held a connection."""
    held = [span for span in trace.spans if span.name == "connection held"]
    pushes = _pushes_of(trace)
    return any(
        hold.start <= push.start < hold.start + hold.duration
        for push in pushes
        for hold in held
        if hold.parent == push.parent
    )

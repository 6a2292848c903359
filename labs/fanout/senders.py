"""Ways of sending notifications one request each, in one run: the last step's own, Google's client, httpx, requests.

    compared = compare_senders()
    compared.table()

Each way runs in a process of its own, started beforehand, against the mock push server at 45 ms a call on the wall
clock; one after another, so that none has to share the machine with another. A first round, of as many messages as it
has in flight, opens its connections and does not count; then come several such rounds that do.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any

from labs import PROJECT, stack
from labs.fanout import published
from labs.fcm import Admin
from labs.kit import charts, live_now
from labs.kit.progress import Progress
from labs.kit.table import Table, count, seconds
from labs.kit.verdict import Fact, Verdict

TOKEN = "ya29.a-service-account-token"
MESSAGES = (100, 20_000)  # the fewest and the most that may be asked for
OPEN = "Connections that are kept are open before the clock starts."


@dataclass(frozen=True)
class Way:
    """One way of sending. ``kind``: its name in ``sender_process``. ``in_flight``: requests under way at once.

    ``share``: how many times the messages it gets: a slow way gets fewer. ``rounds``: how many times the messages in
    flight it gets at least. With fewer, its end, when ever fewer are under way, would weigh too much.
    """

    name: str
    kind: str
    in_flight: int
    share: float
    rounds: int = 5

    def messages(self, wanted: int) -> int:
        """Return how many messages it gets when ``wanted`` are asked for."""
        return max(round(wanted * self.share), self.rounds * self.in_flight)


COURIER = Way("HTTP v1, 100 in flight (aiohttp)", "courier", 100, 0.5)
SEND_EACH = Way("firebase_admin send_each, 500 a call", "send_each", 500, 0.5, rounds=4)
COURIER_500 = Way("HTTP v1, 500 in flight (aiohttp)", "courier", 500, 1.0)  # as many as send_each has
HTTPX_100 = Way("httpx, 100 in flight", "httpx_100", 100, 0.075, rounds=4)
HTTPX_10 = Way("httpx, 10 in flight", "httpx_10", 10, 0.05)
ONE_BY_ONE = Way("requests, one after another", "one_by_one", 1, 0.005)
WAYS = (COURIER, COURIER_500, SEND_EACH, HTTPX_10, HTTPX_100, ONE_BY_ONE)


@dataclass(frozen=True)
class Sent:
    """What one way did: ``messages`` asked for, in ``seconds`` of the wall clock, from first request to last answer.

    ``accepted`` and ``duplicates`` are the push server's own counts.
    """

    way: Way
    messages: int
    seconds: float
    accepted: int
    duplicates: int

    @property
    def rate(self) -> float:
        """Messages accepted in a wall second."""
        return self.accepted / self.seconds

    @property
    def once_each(self) -> bool:
        """Whether the push server accepted every message, and none of them twice."""
        return self.accepted == self.messages and not self.duplicates


@dataclass(frozen=True)
class Senders:
    """All ways, each measured in the same run on the same machine."""

    sent: tuple[Sent, ...]

    def of(self, way: Way) -> Sent:
        """Return what one way did; raises KeyError when it was not measured."""
        for each in self.sent:
            if each.way == way:
                return each
        raise KeyError(f"{way.name} was not measured; there is: {', '.join(each.way.name for each in self.sent)}")

    @property
    def ratio(self) -> float:
        """How many times as many messages a second one worker of the last step sends as Google's client does."""
        return self.of(COURIER).rate / self.of(SEND_EACH).rate

    @property
    def ratio_as_many_in_flight(self) -> float:
        """The same with 500 requests in flight, which is what Google's client has."""
        return self.of(COURIER_500).rate / self.of(SEND_EACH).rate

    def table(self) -> Table:
        """Return each way's figures; the last but one column scales its rate to the post of the outage."""
        everybody = int(published.value("followers"))
        columns = ("sender", "in flight", "messages", "a second", f"{count(everybody)} take", "against send_each")
        rows = [
            (each.way.name, each.way.in_flight, each.messages, count(each.rate), seconds(everybody / each.rate),
             f"{each.rate / self.of(SEND_EACH).rate:.2g} ×")
            for each in self.sent
        ]  # fmt: skip
        call = seconds(published.value("fcm_call") / 1000)
        return Table(columns, rows, caption=f"Each call answered {call} after it arrives; your clock. {OPEN}")

    def chart(self) -> charts.Chart:
        """Draw the messages a second of each way; httpx stands out where more in flight made it slower."""
        collapsed = self.of(HTTPX_100).rate < self.of(HTTPX_10).rate
        return charts.bar_chart(
            {each.way.name: each.rate for each in self.sent},
            title=f"One message a request: {self.ratio:.1f} times Google's own client, "
            f"{self.ratio_as_many_in_flight:.1f} times with as many in flight",
            x_label="messages a second",
            words={each.way.name: f"{count(each.rate)}/s" for each in self.sent},
            highlight=(HTTPX_100.name,) if collapsed else (),
        )

    def verdict(self) -> Verdict:
        """Return what holds on every machine."""
        courier, official, single = self.of(COURIER), self.of(SEND_EACH), self.of(ONE_BY_ONE)
        return Verdict(
            "Today's FCM, one message a request",
            [
                Fact("accepted once each", all(each.once_each for each in self.sent)),
                Fact("many in flight faster than the official client's send_each", courier.rate > official.rate),
                Fact("many in flight faster than one after another", courier.rate > single.rate),
            ],
        )


def compare_senders(messages: int = 2_000) -> Senders:
    """Send with each way in turn and return what each did.

    ``messages``: the size of the trial, 100 to 20,000. Each way sends a fixed share of that, a slow one less, but
    always four or five times as many as it has in flight. A panel that is open is closed first: it would share the
    processor. Raises ValueError for a number out of range, StackError when a server is gone, RuntimeError with a
    sender's own words when it fails.
    """
    least, most = MESSAGES
    if not isinstance(messages, int) or isinstance(messages, bool) or not least <= messages <= most:
        raise ValueError(f"messages must be a whole number from {least:,} to {most:,}, not {messages!r}.")
    live_now.close()
    with Progress("ways of sending") as progress:
        servers = stack.up(progress=progress.say)
        with own_project(servers) as project, ExitStack() as processes:
            progress.say("starting a process for each")
            senders = [processes.enter_context(sending(way, project)) for way in WAYS]
            for sender in senders:
                sender.hear()
            return Senders(tuple(_measure(senders, project, messages, progress)))


def _measure(senders: Sequence["Sender"], push: Admin, messages: int, progress: Progress) -> Iterator[Sent]:
    for index, sender in enumerate(senders):
        progress.at(index / len(senders), sender.way.name)
        sender.send(sender.way.in_flight)  # opens its connections, just before: httpx closes what is idle for 5 s
        push.reset(keep_settings=True)
        wanted = sender.way.messages(messages)
        took = sender.send(wanted)
        counters = push.counters()
        yield Sent(sender.way, wanted, took, counters["accepted"], counters["duplicates"])


@contextmanager
def own_project(servers: stack.Stack) -> Iterator[Admin]:
    """Give a project of its own on the push server, so that nobody's counters and settings are touched."""
    with Admin(servers.fcm.url, f"{servers.project}-senders") as push:
        push.reset()
        push.set(latency_ms=published.value("fcm_call"))
        try:
            yield push
        finally:
            push.reset()


class Sender:
    """One process that sends: it is told how many and says how long it took."""

    def __init__(self, way: Way, process: subprocess.Popen, errors: IO[str]) -> None:
        self.way = way
        self._process = process
        self._errors = errors

    def send(self, messages: int) -> float:
        """Have it send so many; return the wall seconds it took. Raises RuntimeError when it fails."""
        self.begin(messages)
        return self.hear()["seconds"]

    def begin(self, messages: int) -> None:
        """Have it send so many, and do not wait: hear() tells."""
        with contextlib.suppress(BrokenPipeError):  # it has ended: hear() says why
            self._process.stdin.write(f"{messages}\n")
            self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for its next answer. Raises RuntimeError with the end of what it said when it ends instead."""
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines() or ["it said nothing"]
        raise RuntimeError(f"{self.way.name}: the sender ended before it had sent everything: {said[-1].strip()}")


@contextmanager
def sending(way: Way, push: Admin) -> Iterator[Sender]:
    """Start a process that sends in one way to the project of ``push``; it hears() once when it is ready."""
    settings = {
        "FCM_URL": push.url,
        "FCM_PROJECT": push.project,
        "FCM_ACCESS_TOKEN": TOKEN,
        "FCM_CONCURRENCY": str(way.in_flight),
    }
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "labs.fanout.sender_process", way.kind, str(os.getpid())],
            env={**os.environ, **settings},
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        try:
            yield Sender(way, process, errors)
        finally:
            process.kill()
            process.wait()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()

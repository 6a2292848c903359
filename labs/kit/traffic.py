"""Open-loop traffic: requests are sent when they are due, whatever the system does.

``python -m labs.kit.traffic CONTROL_FILE`` sends what the control file says, and follows it when it changes, within a
tenth of a second. Latency counts from the moment a request was due: a system that stalls cannot slow its own
questioner down and so look better than it is ("coordinated omission").

How the users behave is spelled out. A request that is not answered within its ``timeout`` is abandoned: the connection
is closed, the server is not told. Whoever has ``retries`` left tries again after ``backoff``, at the next target.
Every attempt is one line for the recorder.

    {"targets": ["http://127.0.0.1:8001"], "names": ["api-1"], "seed": 1,
     "streams": {"reader": {"rate": 100, "timeout": 3, "retries": 0, "backoff": 0, "headers": [{...}],
                            "requests": [{"method": "GET", "paths": ["/feed"], "weight": 7, "endpoint": "GET /feed"}]}},
     "shots": [{"id": "post-1", "who": "author", "at": EPOCH, "method": "POST", "path": "/posts", "json": {...},
                "headers": {...}, "endpoint": "POST /posts", "timeout": 3, "retries": -1, "backoff": 0}],
     "openers": {"fcm": URL, "project": "p", "rate": 0.2, "request": {...}, "headers": [{...}], "timeout": 3}}

Rates are a wall second, times wall seconds, ``retries`` -1 for ever. A stream's ``rate`` 0 pauses it. A shot is fired
once for each new ``id``; its retries follow the file, so that users can be told to be patient while they wait.
"""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from labs.kit import control
from labs.kit.arrivals import Alarm, Arrivals
from labs.kit.lines import LineSender

LOOK = 0.05
"""Wall seconds between looks at the control file, and at the push server for openers."""

KEEP_ALIVE = 1.0
"""Idle connections are given up before gunicorn does (2 s), so that no request meets a closing one."""

PAUSE = 0.05
"""Wall seconds, at least, before another attempt where nobody listens: it is refused at once, and would spin."""

OUTCOMES = {503: "unavailable"}


@dataclass
class Attempt:
    """One request on its way: what is asked, by whom, and how long they wait."""

    due: float
    endpoint: str
    who: str
    method: str
    path: str
    json: Any
    headers: dict[str, str]
    timeout: float
    number: int = 1
    sent: float | None = None
    pod: str = ""
    shot: str | None = None
    patience: dict[str, Any] = field(default_factory=dict)


class Traffic:
    """Sends what the control file at ``path`` says; ``tell`` takes the lines for the recorder."""

    def __init__(self, path: str, sender: LineSender) -> None:
        self._watcher = control.Watcher(path)
        self._sender = sender
        self._plan: dict[str, Any] = {}
        self._arrivals: dict[str, Arrivals] = {}
        self._random: dict[str, random.Random] = {}
        self._shots: dict[str, dict[str, Any]] = {}
        self._later: list[Attempt] = []
        self._in_flight: dict[int, Attempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tickets = itertools.count()
        self._turns = itertools.count()
        self._due: dict[str, int] = {}
        self._accepted: int | None = None
        self._owed = 0.0

    async def run(self) -> None:
        """Send until SIGTERM or SIGINT; then tell what is still in flight and return."""
        self._alarm, stop = Alarm(), asyncio.Event()

        def end() -> None:
            stop.set()
            self._alarm.wake()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, end)
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE)
        no_limit = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=no_limit, cookie_jar=aiohttp.DummyCookieJar()
        )
        openers = asyncio.create_task(self._follow_pushes())
        next_look = 0.0
        while not stop.is_set():
            now = time.time()
            if now >= next_look:
                self._look(now)
                next_look = now + LOOK
            self._send_due(time.time())
            next_due = min([arrivals.next for arrivals in self._arrivals.values()], default=next_look)
            next_due = min([next_due, next_look, *(attempt.due for attempt in self._later)])
            await self._alarm.sleep(next_due - time.time())
        openers.cancel()
        self._tell_pending()

    # What is due

    def _look(self, now: float) -> None:
        """Read the control file if it has changed, and tell how much was due since the last look."""
        try:
            plan = self._watcher.changed()
        except (OSError, ValueError):
            plan = None
        if plan is not None:
            self._follow(plan, now)
        for who, count in self._due.items():
            self._sender.send({"kind": "due", "at": now, "who": who, "count": count})
        self._due.clear()

    def _follow(self, plan: dict[str, Any], now: float) -> None:
        # What was due under the old plan is sent under the old plan.
        self._send_due(now)
        self._plan = plan
        streams = plan.get("streams") or {}
        for who in [who for who in self._arrivals if who not in streams]:
            del self._arrivals[who]
        for who, stream in streams.items():
            seed = f"{plan.get('seed', 0)}/{who}"
            if who not in self._arrivals:
                self._arrivals[who] = Arrivals(seed, now)
            self._random.setdefault(who, random.Random(f"{seed}/choices"))
            self._arrivals[who].change(float(stream.get("rate") or 0.0), now)
        for shot in plan.get("shots") or ():
            if shot["id"] not in self._shots:
                self._later.append(self._shot_attempt(shot, shot.get("at") or now))
            self._shots[shot["id"]] = shot

    def _send_due(self, now: float) -> None:
        for who, arrivals in self._arrivals.items():
            for at in arrivals.take(now):
                self._send(self._stream_attempt(who, at))
        if self._later:
            due = [attempt for attempt in self._later if attempt.due <= now]
            self._later = [attempt for attempt in self._later if attempt.due > now]
            for attempt in due:
                self._send(attempt)

    def _stream_attempt(self, who: str, at: float) -> Attempt:
        stream, draw = self._plan["streams"][who], self._random[who]
        requests = stream["requests"]
        request = draw.choices(requests, [request.get("weight", 1) for request in requests])[0]
        return self._attempt(who, at, request, stream, draw)

    def _attempt(
        self, who: str, at: float, request: dict[str, Any], stream: dict[str, Any], draw: random.Random
    ) -> Attempt:
        path = draw.choice(request["paths"]) if request.get("paths") else request["path"]
        method = request.get("method", "GET")
        headers = draw.choice(stream["headers"]) if stream.get("headers") else {}
        return Attempt(
            at, request.get("endpoint") or f"{method} {path}", who, method, path, request.get("json"), headers,
            float(stream.get("timeout") or 0.0), patience=stream,
        )  # fmt: skip

    def _shot_attempt(self, shot: dict[str, Any], at: float) -> Attempt:
        method = shot.get("method", "GET")
        return Attempt(
            at, shot.get("endpoint") or f"{method} {shot['path']}", shot.get("who", shot["id"]), method, shot["path"],
            shot.get("json"), shot.get("headers") or {}, float(shot.get("timeout") or 0.0), shot=shot["id"],
            patience=shot,
        )  # fmt: skip

    # On the way

    def _send(self, attempt: Attempt) -> None:
        self._due[attempt.who] = self._due.get(attempt.who, 0) + 1
        task = asyncio.create_task(self._ask(attempt))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, attempt: Attempt) -> None:
        attempt.sent = time.time()
        ticket = next(self._tickets)
        self._in_flight[ticket] = attempt
        status: int | None = None
        try:
            base, attempt.pod = self._next_target()
            async with asyncio.timeout(attempt.timeout or None):
                async with self._session.request(
                    attempt.method, base + attempt.path, json=attempt.json, headers=attempt.headers,
                    allow_redirects=False,
                ) as answer:  # fmt: skip
                    await answer.read()
                    status = answer.status
            outcome = "ok" if status < 300 else OUTCOMES.get(status, "error")
        except TimeoutError:
            outcome = "no_answer"
        except (aiohttp.ClientError, OSError):
            status, outcome = None, "refused"
        finally:
            self._in_flight.pop(ticket, None)
        done = time.time()
        self._tell(attempt, done, status, outcome)
        if outcome in ("no_answer", "refused", "unavailable"):
            self._try_again(attempt, done, at_least=PAUSE if outcome == "refused" else 0.0)

    def _next_target(self) -> tuple[str, str]:
        targets = self._plan.get("targets")
        if not targets:
            raise ConnectionRefusedError("there is no pod")
        turn = next(self._turns) % len(targets)
        base = targets[turn].rstrip("/")
        names = self._plan.get("names") or ()
        return base, names[turn] if turn < len(names) else urlsplit(base).netloc

    def _try_again(self, attempt: Attempt, now: float, at_least: float) -> None:
        patience = self._shots[attempt.shot] if attempt.shot else attempt.patience
        retries = int(patience.get("retries") or 0)
        if 0 <= retries < attempt.number:
            return
        due = now + max(at_least, float(patience.get("backoff") or 0.0))
        again = Attempt(
            due, attempt.endpoint, attempt.who, attempt.method, attempt.path, attempt.json, attempt.headers,
            float(patience.get("timeout") or 0.0), attempt.number + 1, shot=attempt.shot, patience=attempt.patience,
        )  # fmt: skip
        self._later.append(again)
        self._alarm.wake()

    def _tell(self, attempt: Attempt, done: float | None, status: int | None, outcome: str) -> None:
        self._sender.send(
            {
                "kind": "request", "due": attempt.due, "sent": attempt.sent, "done": done,
                "endpoint": attempt.endpoint, "who": attempt.who, "attempt": attempt.number, "status": status,
                "outcome": outcome, "pod": attempt.pod,
            }
        )  # fmt: skip

    def _tell_pending(self) -> None:
        for attempt in self._in_flight.values():
            self._tell(attempt, None, None, "pending")

    # Followers who open the app

    async def _follow_pushes(self) -> None:
        """Fire a request for a share of the pushes that the push server has newly accepted.

        The share adds up: at 0.2 every fifth push opens the app, whatever portions they come in. The requests of one
        look are spread evenly over the time until the next.
        """
        draw = random.Random("openers")
        while True:
            await asyncio.sleep(LOOK)
            openers = self._plan.get("openers")
            if not openers:
                self._accepted = None
                continue
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, KeyError, ValueError):
                count = self._to_open(await self._count_accepted(openers), float(openers.get("rate") or 0.0))
                now = time.time()
                for place in range(count):
                    at = now + LOOK * place / count
                    self._later.append(self._attempt("opener", at, openers["request"], openers, draw))
                self._alarm.wake()

    async def _count_accepted(self, openers: dict[str, Any]) -> int:
        address = f"{openers['fcm'].rstrip('/')}/admin/projects/{openers['project']}"
        async with asyncio.timeout(2), self._session.get(address) as answer:
            return int((await answer.json())["counters"]["accepted"])

    def _to_open(self, accepted: int, rate: float) -> int:
        """Return how many followers open the app now that ``accepted`` pushes have been taken in all."""
        # The first look only sets the mark; a smaller number than before means that the counters were reset.
        if self._accepted is None:
            self._accepted = accepted
        new = accepted - self._accepted if accepted >= self._accepted else accepted
        self._accepted = accepted
        self._owed += new * rate
        # A hair of tolerance: ten times 0.1 is one opener, although floating point says a little less.
        count = int(self._owed + 1e-9)
        self._owed -= count
        return count


def main() -> None:
    """Send traffic as the control file named by the first argument says, until SIGTERM."""
    sender = LineSender(os.environ.get("LABS_RECORDER"), every=LOOK)
    asyncio.run(_run(sys.argv[1], sender))


async def _run(path: str, sender: LineSender) -> None:
    await Traffic(path, sender).run()
    # What is in flight is abandoned, as a closed laptop would: no waiting for connections to wind down.
    sender.close()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()

"""A made-up run for tests of the reading side: one post, retries that fill a pool of 20, then 503s.

Nothing here is measured. The numbers are drawn from a seed so that every test sees the same run.

    run_dir = outage(tmp_path)             # a folder as the recorder writes it
    recording = Recording.open(run_dir)
"""

import heapq
import json
import random
from pathlib import Path
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, set_span_in_context

from labs.kit import otlp

STARTED = 1_800_000_000.0
SPEED = 10.0
FEED, POST = "GET /api/v1/feed", "POST /api/v1/posts/create"
SIZE, CLIENT_TIMEOUT, POOL_TIMEOUT = 20, 10.0, 30.0


def outage(
    folder: Path,
    name: str = "outage",
    *,
    retries: bool = True,
    seconds: float = 150.0,
    loop: int = 400,
    ended: bool = True,
    rate: float = 20.0,
    seed: int = 1,
) -> Path:
    """Write a run of ``seconds`` incident seconds under ``folder`` and return its run_dir.

    ``retries``: the post's client sends again each 5 s, and each attempt keeps a connection to the end. ``loop``:
    followers reached by the longest trace. ``ended``: False leaves a run that died (no end, half a last line).
    """
    run_dir = Path(folder) / name
    run_dir.mkdir(parents=True)
    made = _Outage(seconds, retries, rate, random.Random(seed))
    made.play()
    run = {
        "incident": "fanout",
        "knobs": {"pool_size": SIZE, "threads": 64, "pods": 1, "followers": 45_312},
        "speed": SPEED,
        "started": STARTED,
        "clock": "15:20:50",
        "cores": 2,
    }
    if ended:
        run["ended"] = STARTED + seconds / SPEED
    (run_dir / "run.json").write_text(json.dumps(run))
    lines = "\n".join(json.dumps(line) for line in made.lines) + "\n"
    (run_dir / "events.jsonl").write_text(lines if ended else lines + '{"kind":"pool","at":18000')
    otlp.write(run_dir / "traces.otlp", export_traces(made.posts, seconds, loop))
    return run_dir


def empty(folder: Path, name: str = "died") -> Path:
    """Write a run that died before anything was seen."""
    run_dir = Path(folder) / name
    run_dir.mkdir(parents=True)
    (run_dir / "run.json").write_text(
        json.dumps({"incident": "fanout", "speed": SPEED, "started": STARTED, "clock": "15:20:50"})
    )
    return run_dir


class _Outage:
    """Plays a pool of connections in incident seconds; writes the recorder's lines in wall time."""

    def __init__(self, seconds: float, retries: bool, rate: float, luck: random.Random) -> None:
        self.seconds, self.rate, self.luck = seconds, rate, luck
        last = seconds - 5 if retries else 30.1
        self.posts = [30 + 5 * n for n in range(int((last - 30) / 5) + 1)][:SIZE]
        self.lines: list[dict[str, Any]] = []
        self.slots: list[dict[str, Any] | None] = [None] * SIZE
        self.waiting: list[tuple[float, str]] = []

    def play(self) -> None:
        """Run the minute: readers arrive at random, posts keep what they get, a look every second."""
        self.say("mark", 30.0, label="post")
        self.say("fleet", 0.0, name="api-1", event="started", pid=11)
        events = [(at, 0, "post") for at in self.posts]
        at = 0.0
        while (at := at + self.luck.expovariate(self.rate)) < self.seconds:
            events.append((at, 1, "read"))
        events += [(float(at), 2, "look") for at in range(int(self.seconds) + 1)]
        heapq.heapify(events)
        while events:
            at, _, what = heapq.heappop(events)
            getattr(self, what)(at)

    def say(self, kind: str, at: float, **more: Any) -> None:
        self.lines.append({"kind": kind, "at": STARTED + at / SPEED, **more})

    def request(
        self, due: float, done: float | None, endpoint: str, *, who: str, status: int | None, outcome: str
    ) -> None:
        wall = None if done is None else STARTED + done / SPEED
        self.lines.append(
            {
                "kind": "request",
                "due": STARTED + due / SPEED,
                "sent": STARTED + due / SPEED,
                "done": wall,
                "endpoint": endpoint,
                "who": who,
                "attempt": 1,
                "status": status,
                "outcome": outcome,
                "pod": "api-1",
            }
        )

    def post(self, at: float) -> None:
        free = self.slots.index(None)
        self.slots[free] = {"since": at, "by": POST}
        given_up = at + CLIENT_TIMEOUT
        ended = given_up < self.seconds
        self.request(
            at,
            given_up if ended else None,
            POST,
            who="author",
            status=None,
            outcome="no_answer" if ended else "pending",
        )

    def read(self, at: float) -> None:
        took = self.luck.lognormvariate(-4.2, 0.5)
        busy = sum(slot is not None for slot in self.slots)
        if busy < SIZE:
            took *= 1 + (busy / SIZE) ** 8 * 20
            self.request(at, at + took, FEED, who="reader", status=200, outcome="ok")
            self.lines.append(
                {
                    "kind": "hold",
                    "at": STARTED + at / SPEED,
                    "pod": "api-1",
                    "slot": busy,
                    "by": FEED,
                    "waited": 0.0,
                    "held": took / SPEED,
                }
            )
        elif len(self.waiting) < 44:
            self.waiting.append((at, FEED))
            self._give_up(at)
        else:
            self._give_up(at)

    def _give_up(self, at: float) -> None:
        ended = at + CLIENT_TIMEOUT < self.seconds
        refused = self.luck.random() < 0.4
        took = 8.0 if refused else CLIENT_TIMEOUT
        status, outcome = (503, "unavailable") if refused else (None, "no_answer")
        self.request(
            at,
            at + took if ended else None,
            FEED,
            who="reader",
            status=status if ended else None,
            outcome=outcome if ended else "pending",
        )

    def look(self, at: float) -> None:
        self.waiting = [(since, by) for since, by in self.waiting if at - since < POOL_TIMEOUT]
        slots = [slot and {"since": STARTED + slot["since"] / SPEED, "by": slot["by"]} for slot in self.slots]
        free = slots.count(None)
        if free and self.luck.random() < 0.6:
            slots[slots.index(None)] = {"since": STARTED + (at - 0.01) / SPEED, "by": FEED}
        in_use = sum(slot is not None for slot in slots)
        waiting = [{"since": STARTED + since / SPEED, "by": by} for since, by in self.waiting]
        self.say(
            "pool",
            at,
            pod="api-1",
            size=SIZE,
            max_overflow=0,
            slots=slots,
            waiting=waiting,
            serving=in_use + len(waiting),
        )
        self.say(
            "process",
            at,
            name="api-1",
            pid=11,
            cpu=0.15 + 0.03 * in_use + self.luck.random() * 0.05,
            rss=61_000_000 + 90_000 * int(at),
        )
        self.say("process", at, name="traffic", pid=12, cpu=0.12, rss=48_000_000)
        self.say(
            "postgres",
            at,
            max_connections=200,
            total=in_use + 2,
            by_state={"active": 1, "idle": max(0, 21 - in_use), "idle in transaction": in_use},
            rows=[
                {
                    "pid": 100 + n,
                    "application_name": "api-1",
                    "state": "idle in transaction",
                    "state_age": 0.004,
                    "transaction_age": 3.0,
                    "query": "SELECT token FROM device_tokens",
                }
                for n in range(in_use)
            ],
        )
        self.say("redis", at, memory=1_300_000, max_memory=64_000_000, clients=3, queues={"fanout": int(at) % 7})
        sent = sum(max(0, int((at - since) * 22)) for since in self.posts)
        first = STARTED + 30.5 / SPEED if sent else None
        self.say(
            "fcm",
            at,
            accepted=sent,
            devices=min(sent, 45_312),
            duplicates=max(0, sent - 45_312),
            rejected=0,
            rejected_by={},
            requests=sent,
            batches=0,
            first_accepted_at=first,
            last_accepted_at=first,
        )
        calls = int(at * 40)
        self.say(
            "statements",
            at,
            pod="api-1",
            rows=[
                {
                    "text": "SELECT device_tokens.token\nFROM device_tokens WHERE user_id = %(user)s LIMIT 1",
                    "calls": sent,
                    "total": sent * 0.0006,
                    "max": 0.0031,
                    "rows": sent,
                },
                {
                    "text": "SELECT posts.id FROM posts ORDER BY id DESC LIMIT 20",
                    "calls": calls,
                    "total": calls * 0.0004,
                    "max": 0.0022,
                    "rows": calls * 20,
                },
            ],
        )


def export_traces(posts: list[float], seconds: float, loop: int) -> list[bytes]:
    """Return OTLP bodies: for each post ``loop`` token look-ups and pushes, cut off at the end; some feed reads."""
    exported = _Exported()
    for at in posts:
        exported.maker.post(at, seconds, loop)
    for number in range(40):
        exported.maker.feed(number * seconds / 40)
    return exported.bodies()


_DATABASE = {"db.system": "postgresql", "db.name": "labs"}


class _Spans:
    """Makes finished spans at given incident seconds."""

    def __init__(self, tracer: Any) -> None:
        self.tracer = tracer
        self.luck = random.Random(7)

    def open(self, name: str, start: float, parent: Any = None, kind: SpanKind = SpanKind.INTERNAL, **attributes: Any):
        context = set_span_in_context(parent) if parent is not None else None
        named = {key.replace("__", "."): value for key, value in attributes.items()}
        return self.tracer.start_span(name, context, kind, named, start_time=_ns(start))

    def call(self, name: str, start: float, took: float, parent: Any, **attributes: Any) -> None:
        self.open(name, start, parent, SpanKind.CLIENT, **attributes).end(_ns(start + took))

    def query(self, statement: str, start: float, took: float, parent: Any) -> None:
        verb = statement.split(maxsplit=1)[0]
        self.call(f"{verb} labs", start, took, parent, db__statement=statement, **_DATABASE)

    def post(self, at: float, end: float, loop: int) -> None:
        root = self.open(
            POST, at, kind=SpanKind.SERVER, http__method="POST", http__route="/api/v1/posts/create", labs__cut_off=True
        )
        held = self.open("connection held", at + 0.02, root, labs__cut_off=True)
        self.query(
            "INSERT INTO posts (author_id, content) VALUES (%(author)s, %(content)s) RETURNING posts.id",
            at + 0.03,
            0.02,
            root,
        )
        self.query(
            "SELECT follows.follower_id FROM follows WHERE follows.author_id = %(author)s", at + 0.06, 0.08, root
        )
        step = (end - at - 0.2) / loop
        for number in range(loop):
            began = at + 0.2 + number * step
            took = step * self.luck.uniform(0.1, 0.16)
            self.query(
                "SELECT device_tokens.token FROM device_tokens WHERE device_tokens.user_id = %(user)s LIMIT 1",
                began,
                took,
                root,
            )
            self.call(
                "POST",
                began + took,
                step * self.luck.uniform(0.7, 0.8),
                root,
                http__method="POST",
                http__url="http://127.0.0.1:9099/v1/projects/labs/messages:send",
                http__status_code=200,
            )
        held.end(_ns(end))
        root.end(_ns(end))

    def feed(self, at: float) -> None:
        root = self.open(FEED, at, kind=SpanKind.SERVER, http__method="GET", http__route="/api/v1/feed")
        held = self.open("connection held", at + 0.001, root)
        self.query("SELECT posts.id FROM posts ORDER BY id DESC LIMIT 20", at + 0.002, 0.004, root)
        held.end(_ns(at + 0.007))
        root.end(_ns(at + 0.009))


def _ns(incident: float) -> int:
    return round((STARTED + incident / SPEED) * 1e9)


def export_handed_off(batches: int = 91) -> list[bytes]:
    """Return OTLP bodies of one request that answers in 15 ms and leaves ``batches`` of 45 ms to a worker."""
    with_memory = _Exported()
    maker = with_memory.maker
    root = maker.open(POST, 30.0, kind=SpanKind.SERVER, http__method="POST")
    publish = maker.open("apply_async/notify", 30.01, root, SpanKind.PRODUCER)
    publish.end(_ns(30.011))
    root.end(_ns(30.015))
    run = maker.open("run/notify", 30.005, publish, SpanKind.CONSUMER)
    for number in range(batches):
        maker.call("POST", 30.005 + number * 0.045, 0.045, run, http__method="POST", http__url="http://127.0.0.1:1/batch")
    run.end(_ns(30.1 + batches * 0.044))
    return with_memory.bodies()


def export_many_kinds(kinds: int, name: str = "kind") -> list[bytes]:
    """Return OTLP bodies of one request with ``kinds`` different spans, each longer than the one before."""
    with_memory = _Exported()
    maker = with_memory.maker
    root = maker.open(name, 10.0, kind=SpanKind.SERVER)
    for number in range(kinds):
        maker.call(f"{name} {number}", 10.0 + number * 0.1, 0.01 * (number + 1), root)
    root.end(_ns(11 + kinds * 0.1))
    return with_memory.bodies()


class _Exported:
    """A tracer whose spans end up as OTLP bodies."""

    def __init__(self) -> None:
        provider = TracerProvider(resource=Resource.create({"service.name": "api-1"}))
        self.memory = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self.memory))
        self.maker = _Spans(provider.get_tracer("synthetic"))

    def bodies(self) -> list[bytes]:
        spans = list(self.memory.get_finished_spans())
        return [encode_spans(spans[at : at + 512]).SerializeToString() for at in range(0, len(spans), 512)]

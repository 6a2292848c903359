"""A driver without a system: plausible moving values, for looking at the panel and for its tests."""

import math
import random
import time
from collections import deque
from typing import Any

from labs.kit.panel import Action, Choice, Control, Option, Slider

STEPS = (
    Option("step0", "as it failed"),
    Option("step1", "bulk query"),
    Option("step2", "release early"),
    Option("step3", "hand off"),
    Option("step4", "published fix"),
    Option("lossless", "nothing lost"),
    Option("today", "today"),
)
CONTROLS: list[Control] = [
    Slider("pool_size", "Pool size", 1, 100, 20),
    Slider("followers", "Followers of @techinfluencer", 10, 1_000_000, 45_312, log=True, stops=(45_312,)),
    Slider("fcm_latency", "FCM answers in", 1, 2_000, 45, log=True, unit="ms", stops=(45,)),
    Slider("rate", "Traffic", 0, 200, 100, step=5, unit="requests/s"),
    Choice("clients", "Clients", (("wait", "wait"), ("retry", "time out and retry")), "retry"),
    Choice("step", "The code that is running", STEPS, "step0"),
    Action("post", "Post as @techinfluencer", primary=True),
    Action("restart", "Restart the pods"),
]
BUCKETS = 80
LIMIT = 30.0
POST = "POST /api/v1/posts/create"


class DemoDriver:
    """A pool that fills after a post, in simulated time ``speed`` times faster than this machine's."""

    def __init__(self, seed: int = 1, speed: float = 10, pods: int = 1) -> None:
        self.controls = CONTROLS
        self.values = {control.name: control.value for control in CONTROLS if hasattr(control, "value")}
        self.pressed: list[str] = []
        self.closed = False
        self.speed = speed
        self.pods = pods
        self.now = 0.0
        self.posts: list[float] = []
        self.waiting: deque[float] = deque()
        self.refused: deque[float] = deque()
        self.posted_at: float | None = None
        self.rows: deque[tuple[float, float, float | None, float | None, bool]] = deque(maxlen=BUCKETS)
        self.answered = self.failed = 0
        self._random = random.Random(seed)
        self._looked = time.monotonic()

    # What the panel calls.

    def change(self, name: str, value: Any) -> None:
        """Take the value as it is."""
        self.values[name] = value

    def press(self, name: str) -> None:
        """Post, or restart."""
        self.pressed.append(name)
        self.posts = []
        self.waiting.clear()
        self.posted_at = self.now if name == "post" else self.posted_at

    def close(self) -> None:
        """Remember that it was asked to."""
        self.closed = True

    def snapshot(self) -> dict[str, Any]:
        """Let the time that has passed pass in the simulation, and tell."""
        wall = time.monotonic()
        self.advance((wall - self._looked) * self.speed)
        self._looked = wall
        return self.picture()

    # The simulation.

    def advance(self, seconds: float) -> None:
        """Let incident ``seconds`` pass."""
        end = self.now + seconds
        while self.now + 2.5 <= end:
            self.now += 2.5
            self._bucket()
        self.now = max(self.now, end - 2.5) if seconds > 2.5 else end
        if not self.rows or self.now - self.rows[-1][0] >= 2.5:
            self._bucket()

    def _bucket(self) -> None:
        size, rate = self.values["pool_size"] * self.pods, self.values["rate"]
        lasts = self.values["followers"] * (0.006 + self.values["fcm_latency"] / 1000)
        self.posts = [began for began in self.posts if self.now - began < lasts]
        slow = self.values["step"] in {"step0", "step1"}
        clients = 1 if self.values["clients"] == "wait" else size
        newly = self.posted_at is not None and self.now - self.posted_at < 200
        if slow and newly and len(self.posts) < clients:
            due = int((self.now - self.posted_at) / 4) + 1
            while len(self.posts) < min(size, clients, due):
                self.posts.append(self.now)
        while self.waiting and self.now - self.waiting[0] > LIMIT:
            self.refused.append(self.waiting.popleft())
        while self.refused and self.now - self.refused[0] > LIMIT + 5:
            self.refused.popleft()
        due = rate * (0.92 + 0.16 * self._random.random())
        down = len(self.posts) >= size
        arrivals = round(due * 0.02 * 2.5) if down else 0
        if down:
            self.waiting.extend(self.now - self._random.random() * 2 for _ in range(arrivals))
        else:
            self.waiting.clear()
        crowd = len(self.posts) / size
        failed = due * min(0.97, 0.4 + len(self.waiting) / 60) if down else 0.0
        quick = 3 + self._random.random() + 8 * max(0.0, crowd - 0.8)
        p50 = None if not rate else 30_000 * min(1.0, 0.1 + len(self.waiting) / 40) if down else quick
        p99 = None if not rate else 30_000.0 if down else quick * (3 + self._random.random() * 2)
        self.rows.append((self.now, due - failed, p50, p99, down))
        self.answered += round(due - failed)
        self.failed += round(failed)

    def picture(self) -> dict[str, Any]:
        """Return the snapshot at this moment."""
        size = self.values["pool_size"]
        slots = [
            {"label": f"{self.now - began:,.0f} s", "held": self.now - began, "by": POST, "tone": "bad"}
            for began in self.posts
        ]
        while len(slots) < size * self.pods:
            quick = self._random.random() < min(0.9, self.values["rate"] / 250 / self.pods)
            feed = {"label": "3 ms", "held": 0.003, "by": "GET /api/v1/feed", "tone": "good"}
            slots.append(feed if quick else None)
        used = sum(slot is not None for slot in slots)
        waits = [self.now - since for since in self.waiting]
        down = len(self.posts) >= size * self.pods
        oldest = f", oldest held {self.now - min(self.posts):,.0f} s by {POST}" if self.posts else ""
        word = "Down." if down else "Filling up." if self.posts else "Healthy."
        pool: dict[str, Any] = {"title": f"The pool, {size * self.pods} connections", "note": "time held"}
        if self.pods > 1:
            pool["pods"] = [{"name": f"pod {pod + 1}", "slots": slots[pod :: self.pods]} for pod in range(self.pods)]
        else:
            pool["slots"] = slots
        return {
            "tone": "bad" if down else "warn" if self.posts else "good",
            "sentence": f"{word} {used} of {size * self.pods} connections in use, "
            f"{len(waits) or 'nobody'} waiting{oldest}.",
            "speed": self.speed,
            "pool": pool,
            "waiting": {
                "count": len(waits),
                "waits": waits,
                "longest": max(waits, default=0.0),
                "limit": LIMIT,
                "refused": len(self.refused),
            },
            "charts": self._charts(),
            "facts": [
                {"label": "answered", "value": f"{self.answered:,}"},
                {"label": "failed", "value": f"{self.failed:,}"},
                {"label": "delivered", "value": f"{math.floor(self.now * 20) if self.posts else 0:,}"},
                {"label": "duplicated", "value": "0"},
            ],
        }

    def _charts(self) -> list[dict[str, Any]]:
        empty = BUCKETS - len(self.rows)
        rows = [(0.0, None, None, None, False)] * empty + list(self.rows)
        begin = self.now - BUCKETS * 2.5
        marks = []
        if self.posted_at is not None and self.posted_at >= begin:
            marks = [{"at": (self.posted_at - begin) / 2.5, "label": "post"}]
        ticks = [clock(begin), clock(self.now)]
        rate = self.values["rate"]
        failed = [max(0.0, rate - (row[1] or 0)) if row[4] else 0.0 for row in rows]
        return [
            {
                "kind": "bars",
                "title": "Requests a second",
                "note": f"{rate:g} due",
                "series": [
                    {"name": "answered", "tone": "good", "values": [row[1] for row in rows]},
                    {"name": "failed", "tone": "bad", "values": failed},
                ],
                "marks": marks,
                "ticks": ticks,
                "limit": rate * 1.1,
            },
            {
                "kind": "lines",
                "title": "Time to answer, feed",
                "note": "log scale",
                "log": True,
                "series": [
                    {"name": "p50", "tone": "main", "values": [row[2] for row in rows]},
                    {"name": "p99", "tone": "quiet", "values": [row[3] for row in rows]},
                ],
                "y_ticks": [[1, "1 ms"], [1_000, "1 s"], [30_000, "30 s"]],
                "marks": marks,
                "ticks": ticks,
            },
        ]


def clock(seconds: float) -> str:
    """Return the incident's time of day, ``seconds`` after 15:20:40."""
    at = int(15 * 3600 + 20 * 60 + 40 + seconds)
    return f"{at // 3600 % 24:02d}:{at // 60 % 60:02d}:{at % 60:02d}"

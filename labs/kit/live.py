"""The recorder's view of the last seconds, for a panel that asks several times a second.

Memory is bounded whatever the run does: a fixed number of buckets, each with a bounded sample of its latencies.
"""

import math
import random
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

BUCKETS = 160
SAMPLE = 1_000
"""Latencies kept a bucket; past that each newcomer takes a random place, which keeps the sample fair."""


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the nearest-rank percentile of ascending values, None of none. ``share``: 0.5 is the median."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Bucket:
    """What happened to one stream's requests within one short interval."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.due = 0
        self.ok = 0
        self.failed = 0
        self._latencies: list[float] = []
        self._percentiles: tuple[float | None, float | None] | None = None

    def finish(self, ok: bool, latency: float) -> None:
        """Count one finished request: ``latency`` in wall seconds since it was due."""
        self.ok += ok
        self.failed += not ok
        self._percentiles = None
        if len(self._latencies) < SAMPLE:
            self._latencies.append(latency)
        else:
            place = random.randrange(self.ok + self.failed)
            if place < SAMPLE:
                self._latencies[place] = latency

    def as_json(self) -> dict[str, Any]:
        """Return the counts, and the median and 99th percentile of the latency in wall seconds."""
        if self._percentiles is None:
            ordered = sorted(self._latencies)
            self._percentiles = (percentile(ordered, 0.5), percentile(ordered, 0.99))
        p50, p99 = self._percentiles
        return {"at": self.at, "due": self.due, "ok": self.ok, "failed": self.failed, "p50": p50, "p99": p99}


class Live:
    """Takes in the recorder's lines and answers with the state of now.

    A request counts as due in the bucket in which it was due, and as answered or failed in the bucket in which that
    happened: a dashboard cannot know earlier either. Buckets hold the stream ``watched``; ``counts`` all traffic.
    """

    def __init__(self, bucket: float = 0.25, watched: str = "reader") -> None:
        self.width = bucket
        self.watched = watched
        self._buckets: deque[Bucket] = deque(maxlen=BUCKETS)
        self._pods: dict[str, dict[str, Any]] = {}
        self._latest: dict[str, dict[str, Any]] = {}
        self._processes: dict[str, dict[str, Any]] = {}
        self._counts: Counter[str] = Counter()
        self._counts_by_who: dict[str, Counter[str]] = {}
        self._marks: deque[dict[str, Any]] = deque(maxlen=200)
        self._halted: list[dict[str, Any]] = []  # one an order of the lab's, so it stays short
        self._wait_timeouts = 0

    def take(self, line: dict[str, Any]) -> None:
        """Take in one line of the wire; kinds that say nothing about now are passed over."""
        match line.get("kind"):
            case "request":
                self._take_request(line)
            case "due":
                if line["who"] == self.watched and (bucket := self._bucket(line["at"])):
                    bucket.due += line["count"]
            case "pool":
                self._pods[line["pod"]] = line
            case "halted":
                self._halted.append({key: line[key] for key in ("pod", "at", "by", "after")})
            case "wait_timeout":
                self._wait_timeouts += 1
            case "postgres" | "redis" | "fcm" as kind:
                self._latest[kind] = line
            case "process":
                self._processes[line["name"]] = line
            case "mark":
                self._marks.append({"at": line["at"], "label": line["label"]})
            case "fleet":
                self._take_fleet(line)

    def now(self) -> dict[str, Any]:
        """Return the state as JSON-able values.

        ``pods``: each pod's latest "pool" line. ``buckets``: at most 160, oldest first, with ``at`` (start, wall
        time), ``due``, ``ok``, ``failed``, ``p50`` and ``p99`` (wall seconds, None of none). ``counts``: outcomes so
        far, ``counts_by_who`` the same by stream. ``postgres``, ``redis``, ``fcm``: the latest sample or None.
        ``processes``: the latest sample by name. ``marks``: ``at`` and ``label``. ``halted``: every thread that the
        probes have stopped so far, in order, with ``pod``, ``at`` (wall time), ``by`` and ``after``.
        """
        self._bucket(time.time())
        return {
            "at": time.time(),
            "bucket": self.width,
            "pods": [self._pods[name] for name in sorted(self._pods)],
            "buckets": [bucket.as_json() for bucket in self._buckets],
            "counts": dict(self._counts),
            "counts_by_who": {who: dict(counts) for who, counts in self._counts_by_who.items()},
            "wait_timeouts": self._wait_timeouts,
            "postgres": self._latest.get("postgres"),
            "redis": self._latest.get("redis"),
            "fcm": self._latest.get("fcm"),
            "processes": self._processes,
            "marks": list(self._marks),
            "halted": list(self._halted),
        }

    def _take_request(self, line: dict[str, Any]) -> None:
        outcome, who = line["outcome"], line["who"]
        self._counts[outcome] += 1
        self._counts_by_who.setdefault(who, Counter())[outcome] += 1
        done = line.get("done")
        if who == self.watched and done is not None and (bucket := self._bucket(done)):
            bucket.finish(outcome == "ok", done - line["due"])

    def _take_fleet(self, line: dict[str, Any]) -> None:
        name = line["name"]
        if line["event"] == "started":
            return
        # A process may serve with several workers, named after it: "worker", "worker.2".
        # What a successor of the same name has said since stays: news of an end may come after it.
        for pod in [pod for pod in self._pods if pod == name or pod.startswith(f"{name}.")]:
            if self._pods[pod]["at"] <= line["at"]:
                del self._pods[pod]
        self._processes.pop(name, None)

    def _bucket(self, at: float) -> Bucket | None:
        """Return the bucket of wall time ``at``, adding the empty ones before it; None when that is too long ago."""
        start = math.floor(at / self.width) * self.width
        if not self._buckets or start - self._buckets[-1].at > BUCKETS * self.width:
            self._buckets.clear()
            self._buckets.append(Bucket(start))
        while self._buckets[-1].at < start - self.width / 2:
            self._buckets.append(Bucket(self._buckets[-1].at + self.width))
        back = round((self._buckets[-1].at - start) / self.width)
        return self._buckets[-1 - back] if back < len(self._buckets) else None

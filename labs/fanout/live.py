"""Incident 1 alive: what the panel's sliders do to the running system, and what it draws of it."""

import contextlib
import shutil
import threading
import time
from typing import Any

from labs import stack
from labs.fanout.knobs import Knobs
from labs.fanout.steps import STEPS, step_of
from labs.fanout.system import System
from labs.kit import live_now
from labs.kit.panel import Action, Choice, Option, Panel, Picture, Slider
from labs.kit.table import count, seconds

SHOWN = 48  # buckets of the recorder in a chart
LEFT_ALONE = 20 * 60.0  # wall seconds without a touch after which the system is stopped
PLAYED_FOR = 14.0  # wall seconds, at most, that play() waits for the last connection
SLOW_HOLD = 2.0  # incident seconds: a connection held for longer is drawn as trouble
NEW_COUNT = ("followers", "step")  # what "reached" means has changed
CLIENTS = {"retry": True, "wait": False}


class FanoutDriver:
    """Drives one ``System`` for a panel. Every method is plain and works without a browser."""

    def __init__(self, knobs: Knobs) -> None:
        self.knobs = knobs
        self._system: System | None = None
        self._lock = threading.Lock()
        self._touched = time.monotonic()
        self._stopped: str | None = None
        self._progress = "starting"
        self._attempts_before = 0
        self.controls = _controls(knobs)

    # -- what the panel calls -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Bring the system up; takes a few seconds."""
        with self._lock:
            if self._stopped is None:
                self._system = System(stack.up(progress=self._say), self.knobs, self._say)
                self._system.__enter__()

    def change(self, name: str, value: Any) -> None:
        """Carry a moved slider or a choice to the running system. Raises KnobError, StackError."""
        self._touched = time.monotonic()
        system = self._running()
        changes = {"client_retries": CLIENTS[value]} if name == "clients" else {name: value}
        system.change(**changes)
        if name in NEW_COUNT:
            self._count_from_here(system)

    def press(self, name: str) -> None:
        """Post as @techinfluencer, or restart the pods."""
        self._touched = time.monotonic()
        system = self._running()
        if name == "post":
            self._count_from_here(system)
        {"post": system.post, "restart": system.restart_pods}[name]()

    def snapshot(self) -> dict[str, Any]:
        """Return what to draw now."""
        if self._stopped is not None:
            return {"tone": "idle", "sentence": self._stopped}
        system = self._system
        if system is None or not system.started:
            return {"tone": "idle", "sentence": "The system is coming up.", "busy": self._progress}
        if time.monotonic() - self._touched > LEFT_ALONE:
            self._stop("Stopped after 20 minutes without a touch. Run the cell again to go on.")
            return {"tone": "idle", "sentence": self._stopped}
        return View(system, system.recorder.live(), self._attempts_before).snapshot()

    def close(self) -> None:
        """Stop every process of the system."""
        self._stop("Stopped. Run the cell again to start the system anew.")

    # -- inside ---------------------------------------------------------------------------------------------------

    def _running(self) -> System:
        system = self._system
        if system is None or not system.started:
            raise RuntimeError("The system is still coming up; try again in a moment.")
        return system

    def _count_from_here(self, system: System) -> None:
        """The figures below the charts are those since the last press of Post, or since what it meant has changed."""
        system.start_count()
        self._attempts_before = attempts(system.recorder.live())

    def _say(self, line: str) -> None:
        self._progress = line

    def _stop(self, sentence: str) -> None:
        self._stopped = sentence
        with self._lock:
            if self._system is not None:
                self._system.close()
                shutil.rmtree(self._system.run_dir, ignore_errors=True)  # nobody reads a panel's recording


class View:
    """One look at the running system, as the panel draws it. All times in incident seconds."""

    def __init__(self, system: System, live: dict[str, Any], attempts_before: int = 0) -> None:
        self.knobs = system.knobs
        self.clock = system.clock
        self.live = live
        self.now = live["at"]
        self.given_up = attempts(live) - attempts_before
        self.pods = [pod for pod in live["pods"] if pod["pod"].startswith("api-")]
        self.buckets = live["buckets"][-SHOWN:]

    def snapshot(self) -> dict[str, Any]:
        """Return the panel's drawing."""
        return {
            "tone": self._tone(),
            "sentence": self._sentence(),
            "speed": self.clock.speed,
            "pool": self._pool(),
            "waiting": self._waiting(),
            "charts": [self._requests_chart(), self._latency_chart()],
            "facts": self._facts(),
        }

    # -- figures --------------------------------------------------------------------------------------------------

    def _since(self, at: float) -> float:
        return max(0.0, self.clock.incident(self.now - at))

    def _slots(self, pod: dict[str, Any]) -> list[dict[str, Any] | None]:
        return [slot and self._slot(slot) for slot in pod["slots"]]

    def _slot(self, slot: dict[str, Any]) -> dict[str, Any]:
        held = self._since(slot["since"])
        tone = "bad" if held >= SLOW_HOLD else "good"
        return {"label": seconds(held), "held": held, "by": slot["by"] or "a connection check", "tone": tone}

    @property
    def _held(self) -> list[dict[str, Any]]:
        return [slot for pod in self.pods for slot in self._slots(pod) if slot]

    @property
    def _size(self) -> int:
        return self.knobs.pool_size * self.knobs.pods

    @property
    def _waits(self) -> list[float]:
        return sorted((self._since(each["since"]) for pod in self.pods for each in pod["waiting"]), reverse=True)

    @property
    def _busy_threads(self) -> int:
        return sum(pod["serving"] for pod in self.pods)

    @property
    def _all_threads(self) -> int:
        return self.knobs.threads * self.knobs.pods

    def _lately(self, what: str) -> int:
        """How many requests were due, ok or failed in the last second on the wall."""
        return sum(bucket[what] for bucket in self.buckets if bucket["at"] > self.now - 1.25)

    # -- words ----------------------------------------------------------------------------------------------------

    def _tone(self) -> str:
        if self._down:
            return "bad"
        held = [slot for slot in self._held if slot["tone"] == "bad"]
        return "warn" if held or self._lately("failed") or self._waits[:1] > [SLOW_HOLD] else "good"

    @property
    def _down(self) -> bool:
        """Nobody has been answered for a second on the wall, although people ask."""
        return self._lately("due") > 0 and self._lately("ok") == 0 and (bool(self._waits) or self._stuck)

    @property
    def _stuck(self) -> bool:
        return self._busy_threads >= self._all_threads

    def _sentence(self) -> str:
        held = self._held
        if not self.pods:
            return "The pods are coming up."
        in_use = f"{len(held)} of {self._size} connections in use"
        worst = max(held, key=lambda slot: slot["held"], default=None)
        if self._down and len(held) < self._size and self._stuck:
            return f"Down. All {self._all_threads} threads are busy, {in_use}."
        start = "Down. " if self._down else ""
        parts = [in_use]
        if self._waits:
            parts.append(f"{len(self._waits)} waiting")
        if worst and worst["tone"] == "bad":
            parts.append(f"oldest held {worst['label']} by {worst['by']}")
        elif not self._waits:
            parts.append("nobody waits")
        return f"{start}{', '.join(parts)}."

    def _facts(self) -> list[dict[str, str]]:
        pushes = self.live["fcm"] or {}
        return [
            {"label": "phones reached", "value": f"{count(pushes.get('devices', 0))} of {count(self.knobs.followers)}"},
            {"label": "extra copies sent", "value": count(pushes.get("duplicates", 0))},
            {"label": "given up by the phone", "value": _times(self.given_up)},
            {"label": "threads at work", "value": f"{self._busy_threads} of {self._all_threads}"},
        ]

    # -- drawings -------------------------------------------------------------------------------------------------

    def _pool(self) -> dict[str, Any]:
        title = f"The pool, {self.knobs.pool_size} connection{'s' if self.knobs.pool_size > 1 else ''}"
        if self.knobs.pods == 1:
            slots = self._slots(self.pods[0]) if self.pods else []
            slots += [None] * (self.knobs.pool_size - len(slots))
            return {"title": title, "note": "time held", "slots": slots}
        pods = [{"name": pod["pod"], "slots": self._slots(pod)} for pod in self.pods]
        return {"title": f"{self.knobs.pods} pools of {self.knobs.pool_size}", "note": "time held", "pods": pods}

    def _waiting(self) -> dict[str, Any]:
        waits = self._waits
        return {
            "count": len(waits),
            "waits": waits,
            "longest": waits[0] if waits else 0.0,
            "limit": self.knobs.pool_timeout_s,
            "refused": self.live["counts"].get("unavailable", 0),
        }

    def _requests_chart(self) -> dict[str, Any]:
        width = self.clock.incident(self.live["bucket"])
        answered = [bucket["ok"] / width for bucket in self.buckets]
        failed = [bucket["failed"] / width for bucket in self.buckets]
        return {
            "kind": "bars",
            "title": "Requests a second",
            "note": f"{self.knobs.request_rate:g} due",
            "series": [
                {"name": "answered", "tone": "good", "values": _padded(answered)},
                {"name": "failed", "tone": "bad", "values": _padded(failed)},
            ],
            "limit": max([2 * self.knobs.request_rate, 1.0, *map(sum, zip(answered, failed, strict=True))]),
            **self._axis(),
        }

    def _latency_chart(self) -> dict[str, Any]:
        def milliseconds(name: str) -> list[float | None]:
            return [
                None if bucket[name] is None else 1000 * self.clock.incident(bucket[name]) for bucket in self.buckets
            ]

        return {
            "kind": "lines",
            "title": "Time to answer",
            "note": "log scale",
            "log": True,
            "series": [
                {"name": "p99", "tone": "quiet", "values": _padded(milliseconds("p99"))},
                {"name": "p50", "tone": "main", "values": _padded(milliseconds("p50"))},
            ],
            "y_ticks": [[1, "1 ms"], [1_000, "1 s"], [30_000, "30 s"]],
            **self._axis(),
        }

    def _axis(self) -> dict[str, Any]:
        """Return ticks and marks: the newest bucket is on the right, the incident's clock below."""
        if not self.buckets:
            return {"ticks": ["", ""], "marks": []}
        width = self.live["bucket"]
        last = self.buckets[-1]["at"]
        first = last - (SHOWN - 1) * width
        ticks = [self.clock.label(self.clock.since_start(at)) for at in (first, last + width)]
        marks = [
            {"at": (mark["at"] - first) / width, "label": mark["label"]}
            for mark in self.live["marks"]
            if first <= mark["at"] <= last + width
        ]
        return {"ticks": ticks, "marks": marks}


def attempts(live: dict[str, Any]) -> int:
    """Return how often the author's phone has given up waiting, from the recorder's view of now."""
    return live.get("counts_by_who", {}).get("author", {}).get("no_answer", 0)


def panel(**knobs: Any) -> Panel:
    """Return a panel on a live system; ``knobs`` set where its controls stand at first.

    The system starts in the background. Raises KnobError for a knob that does not exist or a value out of range.
    """
    driver = FanoutDriver(Knobs(**{"trace": False, **knobs}))
    live_now.close()
    opened = Panel(driver)
    live_now.opened(opened)
    return opened


def play(opened: Panel) -> Picture:
    """Do what a hand would: wait a moment, press *Post*, wait for the last connection to go; return the picture.

    Controls that you have moved go back to where they stood at first. Works on a panel that has been closed as well:
    a new one is opened for it. The panel is closed at the end.
    """
    if opened.closed:
        opened = panel(**opened.driver.knobs.as_dict())
    _wait(lambda: opened.snapshot().get("pool"), 30.0)
    for control in opened.driver.controls:
        if hasattr(control, "value") and opened.values()[control.name] != control.value:
            opened.change(control.name, control.value)
    time.sleep(1.0)
    opened.press("post")
    _wait(lambda: opened.snapshot()["tone"] == "bad" and opened.snapshot()["waiting"]["refused"] >= 10, PLAYED_FOR)
    picture = opened.picture()
    opened.close()
    return picture


def _wait(reached: Any, patience: float) -> None:
    until = time.monotonic() + patience
    while time.monotonic() < until:
        with contextlib.suppress(KeyError):
            if reached():
                return
        time.sleep(0.1)


def _controls(knobs: Knobs) -> list[Any]:
    ranges = knobs._ranges
    return [
        Slider("pool_size", "Pool size", 1, ranges["pool_size"].high, knobs.pool_size, help="Restarts the pods."),
        Slider("followers", "Followers of @techinfluencer", ranges["followers"].low, ranges["followers"].high,
               knobs.followers, log=True, stops=(12, 45_312), help="Counts for the next post."),
        Slider("fcm_latency_ms", "FCM answers in", 0, 500, knobs.fcm_latency_ms, step=5, unit="ms"),
        Slider("request_rate", "Traffic", 0, ranges["request_rate"].high, knobs.request_rate, unit="requests/s"),
        Choice("clients", "Clients", [
            Option("wait", "wait", "The author's phone waits for its answer."),
            Option("retry", "time out and retry", f"After {knobs.client_timeout_s:g} s the phone sends it again."),
        ], "retry" if knobs.client_retries else "wait"),
        Choice("step", "The code that is running", [
            Option(step.name, step.name, step.module.rpartition(".")[2]) for step in STEPS
        ], step_of(knobs.step).name, help="Restarts the pods."),
        Action("post", "Post as @techinfluencer", primary=True),
        Action("restart", "Restart the pods"),
    ]  # fmt: skip


def _padded(values: list[Any]) -> list[Any]:
    """The newest value is on the right, also while there are few."""
    return [None] * (SHOWN - len(values)) + values


def _times(number: int) -> str:
    return {0: "not yet", 1: "once", 2: "twice"}.get(number, f"{number:,} times")

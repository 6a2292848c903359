"""The pool box widget: borrow with a click, give back with a click."""

import atexit
import contextlib
import threading
import time
from typing import Any, ClassVar, Self

import anywidget
import traitlets
from sqlalchemy import URL, Engine

from labs.kit.panel import Picture, assets
from labs.kit.panel.plain import plain
from labs.kit.poolbox.borrowers import Borrowers, PoolBoxError, whole

TICK = 0.2  # wall seconds between two pictures while anybody holds a connection or waits


class PoolBox(anywidget.AnyWidget):
    """SQLAlchemy's QueuePool of ``size`` connections to a real PostgreSQL, on the screen.

    Each click on the button sends a borrower, a thread that keeps its connection until the reader clicks on it. Who
    finds no free connection waits in line, ``timeout`` wall seconds at most, and then shows SQLAlchemy's own error.
    Opening a pool box closes an earlier one; it closes itself when the kernel exits.

    ``engine_url``: a SQLAlchemy URL, or an engine whose URL is taken. Raises PoolBoxError for a size outside 1 to 100
    or a timeout outside 0.1 to 600 seconds.
    """

    _esm = assets.script("parts.js", "poolbox.js", folder=assets.beside(__file__))
    _css = assets.style("base.css", "poolbox.css", folder=assets.beside(__file__))
    _earlier: ClassVar["PoolBox | None"] = None

    state_shown = traitlets.Dict().tag(sync=True)

    def __init__(self, engine_url: str | URL | Engine, size: int = 3, timeout: float = 30) -> None:
        self._stirred = threading.Event()
        self._closing = threading.Event()
        self._notice: str | None = None
        self._publishing = threading.Lock()
        self._borrowers = Borrowers(engine_url, size, timeout, self._stirred.set)
        super().__init__()
        if PoolBox._earlier is not None:
            PoolBox._earlier.close()
        PoolBox._earlier = self
        self.on_msg(self._hear)
        self._publish()
        self._ticker = threading.Thread(target=self._tick, name="pool box picture", daemon=True)
        self._ticker.start()

    def borrow(self) -> int:
        """Send another borrower to the pool, as the button does; returns its number without waiting for it."""
        return self._borrowers.borrow()

    def give_back(self, slot: int) -> None:
        """Return the connection in ``slot`` (1 is the first), as a click on it does; the first in line gets it."""
        self._borrowers.give_back(slot)

    def start_over(self) -> None:
        """Send everybody home and forget who has given up."""
        self._borrowers.give_back_all()
        self._borrowers.forget_timeouts()

    def settle(self, timeout: float = 10.0) -> bool:
        """Wait until whoever can have a connection has one; return whether it came within ``timeout`` wall seconds."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            state = self.state()
            if not state["waiting"] or all(state["slots"]):
                return True
            time.sleep(0.02)
        return False

    def state(self) -> dict[str, Any]:
        """Return who holds what, who waits and who has given up; see Borrowers.state."""
        return self._borrowers.state()

    def sentence(self) -> str:
        """Return the sentence at the top."""
        return sentence(self.state())

    def picture(self, width: float = 9.6) -> Picture:
        """Return a still picture of the pool as it is now, ``width`` inches wide."""
        return Picture(snapshot(self.state()), width=width)

    def close(self) -> None:
        """Return every connection and close it. The last drawing stays on the screen."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._stirred.set()
        self._borrowers.close()
        self._ticker.join(timeout=5)
        self._publish()
        if PoolBox._earlier is self:
            PoolBox._earlier = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        # ipywidgets closes a widget here. Ours has threads that hold it until it is closed, so what is collected has
        # either been closed or never been made in full.
        return

    def __repr__(self) -> str:
        return f"[pool box] {self.sentence()}"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        (bundle[0] if isinstance(bundle, tuple) else bundle)["text/plain"] = repr(self)
        return bundle

    def _hear(self, _widget: Any, content: Any, _buffers: Any) -> None:
        if not isinstance(content, dict):
            return
        self._notice = None
        try:
            if content.get("kind") == "borrow":
                self.borrow()
            elif content.get("kind") == "give_back":
                # Without waiting: this is the kernel's own thread.
                self._borrowers.give_back(whole("slot", content.get("slot"), 1, self._borrowers.size), wait=0)
            elif content.get("kind") == "start_over":
                self.start_over()
        except PoolBoxError as error:
            self._notice = str(error)
        self._stirred.set()

    def _tick(self) -> None:
        while not self._closing.is_set():
            self._stirred.clear()
            state = self._publish()
            busy = any(state["slots"]) or state["waiting"]
            self._stirred.wait(TICK if busy else None)

    def _publish(self) -> dict[str, Any]:
        with self._publishing:
            state = self.state()
            shown = {**snapshot(state), "notice": self._notice, "closed": self._closing.is_set()}
            self.state_shown = plain(shown)
            return state


def snapshot(state: dict[str, Any]) -> dict[str, Any]:
    """Return what to draw for a state of the borrowers, in the words of a panel's snapshot."""
    slots: list[dict[str, Any] | None] = []
    for slot, pid in zip(state["slots"], state["pids"], strict=True):
        process = f"server process {pid}" if pid else "not opened yet"
        if slot is None:
            slots.append({"label": "free", "detail": process, "tone": "free"})
        else:
            by = f"borrower {slot['borrower']}"
            held = {"label": seconds(slot["held"]), "held": slot["held"], "by": by}
            slots.append({**held, "detail": f"{by}\n{process}", "tone": "good"})
    waits = [each["waited"] for each in state["waiting"]]
    return {
        "tone": tone(state),
        "sentence": sentence(state),
        "pool": {
            "title": f"A pool of {state['size']}",
            "note": "click on a connection to give it back",
            "slots": slots,
        },
        "line": state["waiting"],
        "timeout": state["timeout"],
        "timed_out": state["timed_out"],
        "waiting": {
            "count": len(waits),
            "waits": waits,
            "longest": max(waits, default=0.0),
            "limit": state["timeout"],
        },
    }


def tone(state: dict[str, Any]) -> str:
    """Return the tone of the sentence."""
    if state["waiting"]:
        return "bad" if state["timed_out"] else "warn"
    return "warn" if all(state["slots"]) else "good"


def sentence(state: dict[str, Any]) -> str:
    """Say how many connections are borrowed and who waits."""
    held = sum(slot is not None for slot in state["slots"])
    waiting = state["waiting"]
    line = f"{len(waiting)} waiting" if waiting else "nobody waiting"
    if waiting:
        line += f", the first for {seconds(waiting[0]['waited'])} of {state['timeout']:g}"
    return f"{held} of {state['size']} connections borrowed, {line}."


def seconds(value: float) -> str:
    """Return a short time in words: "12 s", "0.4 s"."""
    return f"{value:.0f} s" if value >= 9.95 else f"{value:.1f} s"


@atexit.register
def close_open() -> None:
    """Close the open pool box. Called when the kernel exits."""
    if PoolBox._earlier is not None:
        with contextlib.suppress(Exception):
            PoolBox._earlier.close()

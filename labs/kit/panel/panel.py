"""The panel widget: its threads, and what travels between them and the browser."""

import atexit
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import anywidget
import traitlets

from labs.kit.panel import assets
from labs.kit.panel.controls import Action, ControlError
from labs.kit.panel.driver import Driver
from labs.kit.panel.errands import Errands
from labs.kit.panel.picture import Picture
from labs.kit.panel.plain import plain

POLL_EVERY = 0.2  # wall seconds: five pictures a second
NOTICE_LASTS = 12.0  # wall seconds that a refused change stays on the screen

_open: dict[str, "Panel"] = {}
_open_lock = threading.Lock()


class Panel(anywidget.AnyWidget):
    """Controls and a live drawing of the system that ``driver`` runs.

    Opening a panel closes an earlier one of the same driver class, so a cell can be run again. The panel closes
    itself when the kernel exits; ``with Panel(driver) as panel:`` closes it at the end of the block.

    ``every``: wall seconds between two pictures.
    """

    _esm = assets.script("parts.js", "chart.js", "panel.js")
    _css = assets.style("base.css", "panel.css")

    controls = traitlets.List().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)

    def __init__(self, driver: Driver, every: float = POLL_EVERY) -> None:
        self.driver = driver
        self._controls = {control.name: control for control in driver.controls}
        self._values = {name: control.value for name, control in self._controls.items() if hasattr(control, "value")}
        self._heard: dict[str, int] = {}
        self._snapshot: dict[str, Any] = {"tone": "idle", "sentence": "Starting."}
        self._doing: str | None = None
        self._notice: tuple[str, float] | None = None
        self._every = every
        self._closing = threading.Event()
        self._closed = threading.Event()
        self._driving = threading.Lock()
        self._publishing = threading.Lock()
        super().__init__(controls=[control.spec() for control in driver.controls])
        self._take_over()
        self.on_msg(self._hear)
        self._publish()
        self._errands = Errands(f"panel {self._kind()}")
        if hasattr(driver, "start"):
            self._errands.add(self._begin)
        self._watcher = threading.Thread(target=self._watch, name=f"panel picture {self._kind()}", daemon=True)
        self._watcher.start()

    # What a reader and a test call.

    def change(self, name: str, value: Any) -> None:
        """Move the control ``name`` to ``value`` and carry it to the system; returns when the driver has done so.

        Raises ControlError for an unknown control or a value outside its range, and whatever the driver raises.
        """
        control = self._control(name)
        value = control.check(value)
        with self._driving, self._while_doing(f"{control.label}: {control.say(value)}"):
            self._refuse_if_closed()
            self.driver.change(name, value)
            self._values[name] = value
            self._notice = None
        self._publish()

    def press(self, name: str) -> None:
        """Press the button ``name``; returns when the driver has done what it says.

        Raises ControlError for a button that does not exist, and whatever the driver raises.
        """
        control = self._control(name, Action)
        with self._driving, self._while_doing(control.label):
            self._refuse_if_closed()
            self.driver.press(name)
            self._notice = None
        self._publish()

    def values(self) -> dict[str, Any]:
        """Return where each slider and each choice stands."""
        return dict(self._values)

    def snapshot(self) -> dict[str, Any]:
        """Return what was drawn last."""
        return dict(self._snapshot)

    def sentence(self) -> str:
        """Return the sentence at the top of the panel."""
        return self._snapshot["sentence"]

    @property
    def closed(self) -> bool:
        """Whether the panel has been closed, by hand or because something else needed the machine."""
        return self._closing.is_set()

    def settle(self, timeout: float = 10.0) -> bool:
        """Wait until everything asked for in the browser has been carried out; return whether that was reached."""
        return self._errands.settle(timeout)

    def picture(self, width: float = 9.6) -> Picture:
        """Return a still picture of what was drawn last, ``width`` inches wide, for places without a kernel."""
        return Picture(self.snapshot(), [control.spec() for control in self._controls.values()], self.values(), width)

    def close(self) -> None:
        """Stop the panel's threads and everything its driver has started. The last drawing stays on the screen."""
        with self._publishing:
            closing_already = self._closing.is_set()
            self._closing.set()
        if closing_already:
            self._closed.wait(timeout=30)
            return
        self._errands.close()
        if self._watcher is not threading.current_thread():
            self._watcher.join(timeout=5)
        waited_for = self._driving.acquire(timeout=5)  # a change in progress ends first, but cannot hold up the end
        try:
            self.driver.close()
        except Exception as error:
            self._notice = (f"Closing did not go cleanly: {in_words(error)}", float("inf"))
        finally:
            if waited_for:
                self._driving.release()
        with _open_lock:
            if _open.get(self._kind()) is self:
                del _open[self._kind()]
        self._publish()
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        # ipywidgets closes a widget here. Ours has threads that hold it until it is closed, so what is collected has
        # either been closed or never been made in full.
        return

    def __repr__(self) -> str:
        return f"[panel] {self.sentence()}"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        data["text/plain"] = repr(self)
        return bundle

    # The panel's own threads.

    def _begin(self) -> None:
        try:
            with self._driving, self._while_doing("Starting"):
                if not self._closing.is_set():
                    self.driver.start()  # type: ignore[attr-defined]
        except Exception as error:
            self._say(f"The system did not start: {in_words(error)}", lasts=float("inf"))

    def _watch(self) -> None:
        while not self._closing.is_set():
            began = time.monotonic()
            self._look()
            self._publish()
            self._closing.wait(max(0.02, self._every - (time.monotonic() - began)))

    def _look(self) -> None:
        """Take a snapshot. A driver that cannot give one leaves the last drawing on the screen, with a sentence."""
        try:
            snapshot = plain(self.driver.snapshot())
            self._snapshot = {"tone": "idle", "sentence": "", **snapshot}
        except Exception as error:
            sentence = f"The system could not be read just now: {in_words(error)}"
            self._snapshot = {**self._snapshot, "tone": "warn", "sentence": sentence}

    def _publish(self) -> None:
        with self._publishing:
            notice = self._notice
            if notice and time.monotonic() > notice[1]:
                notice = self._notice = None
            doing = self._snapshot.get("busy") or self._doing
            self.state = {
                **self._snapshot,
                "busy": None if self._closing.is_set() else doing,
                "values": plain(self._values),
                "heard": dict(self._heard),
                "notice": notice[0] if notice else None,
                "closed": self._closing.is_set(),
                "beat": int(time.monotonic()),  # a sign of life each second, also while nothing else changes
            }

    # Messages from the browser. They arrive in the kernel's thread, which must not wait: only queue here.

    def _hear(self, _widget: Any, content: Any, _buffers: Any) -> None:
        if not isinstance(content, dict) or not isinstance(content.get("name"), str):
            return
        name, serial = content["name"], content.get("serial")
        if content.get("kind") == "change":
            self._errands.add(lambda: self._try(lambda: self.change(name, content.get("value")), name, serial), name)
        elif content.get("kind") == "press":
            self._errands.add(lambda: self._try(lambda: self.press(name), name, serial))

    def _try(self, errand: Callable[[], None], name: str, serial: int | None) -> None:
        """Run ``errand``; what goes wrong becomes a sentence. Then tell the browser that it has been heard."""
        try:
            errand()
        except ControlError as error:
            self._say(in_words(error))
        except Exception as error:
            control = self._controls.get(name)
            self._say(f"{control.label if control else name} did not work: {in_words(error)}")
        if isinstance(serial, int):
            self._heard[name] = serial
        self._publish()

    def _say(self, sentence: str, lasts: float = NOTICE_LASTS) -> None:
        self._notice = (sentence, time.monotonic() + lasts)
        self._publish()

    # Small things.

    def _control(self, name: str, kind: type | None = None) -> Any:
        fitting = {
            key: control
            for key, control in self._controls.items()
            if (isinstance(control, Action) if kind is Action else not isinstance(control, Action))
        }
        if name not in fitting:
            what = "button" if kind is Action else "control"
            known = ", ".join(fitting) or "none"
            raise ControlError(f"There is no {what} {name!r}; there is: {known}.")
        return fitting[name]

    @contextlib.contextmanager
    def _while_doing(self, what: str) -> Any:
        self._doing = what
        try:
            yield
        finally:
            self._doing = None

    def _refuse_if_closed(self) -> None:
        if self._closing.is_set():
            raise ControlError("This panel is closed; run its cell again to open it.")

    def _kind(self) -> str:
        # By name: a module that was loaded again has a new class object and the same running system.
        return f"{type(self.driver).__module__}.{type(self.driver).__qualname__}"

    def _take_over(self) -> None:
        with _open_lock:
            earlier = _open.get(self._kind())
            _open[self._kind()] = self
        if earlier is not None:
            earlier.close()


def in_words(error: BaseException) -> str:
    """Return an exception as one sentence without a traceback."""
    text = str(error).strip().splitlines()
    sentence = text[0] if text else type(error).__name__
    return sentence if sentence.endswith((".", "?")) else f"{sentence}."


@atexit.register
def close_all() -> None:
    """Close every open panel. Called when the kernel exits."""
    with _open_lock:
        panels = list(_open.values())
    for panel in panels:
        panel.close()

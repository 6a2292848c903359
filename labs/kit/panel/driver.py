"""What a panel asks of the system it drives."""

from collections.abc import Sequence
from typing import Any, Literal, NotRequired, Protocol, TypedDict, runtime_checkable

from labs.kit.panel.controls import Control

Tone = Literal["idle", "good", "warn", "bad"]
Name = str


class Slot(TypedDict):
    """A connection that somebody holds. ``held`` is in incident seconds; ``label`` is that time as shown, "86 s"."""

    label: str
    held: float
    by: str
    tone: Literal["good", "bad"]


class Pod(TypedDict):
    """One process and its own pool: a slot is None while its connection is free."""

    name: str
    slots: list[Slot | None]


class Pool(TypedDict):
    """The pool, slot by slot. Where ``pods`` is given the slots are drawn grouped by pod and ``slots`` is not read."""

    title: str
    note: NotRequired[str]
    slots: NotRequired[list[Slot | None]]
    pods: NotRequired[list[Pod]]


class Waiting(TypedDict):
    """The line for a connection. Times in incident seconds, ``limit`` is when a wait ends in 503."""

    count: int
    waits: list[float]
    longest: float
    limit: float
    refused: int


class Series(TypedDict):
    """One line or one layer of bars; None is a gap."""

    name: str
    tone: NotRequired[Literal["good", "bad", "main", "quiet"]]
    values: list[float | None]


class Mark(TypedDict):
    """An event on a chart: ``at`` is an index into the values."""

    at: float
    label: str


class Chart(TypedDict):
    """Stacked bars or lines. ``ticks`` are spread evenly below the chart, first and last at its ends.

    ``limit`` is the top of the vertical axis (None: the largest value). ``y_ticks`` are ``[value, label]`` pairs.
    """

    kind: Literal["bars", "lines"]
    title: str
    note: NotRequired[str]
    series: list[Series]
    marks: NotRequired[list[Mark]]
    ticks: NotRequired[list[str]]
    limit: NotRequired[float | None]
    log: NotRequired[bool]
    y_ticks: NotRequired[list[tuple[float, str]]]


class Fact(TypedDict):
    """A figure in the line below the charts."""

    label: str
    value: str


class Snapshot(TypedDict):
    """What to draw now. Everything but tone and sentence may be left out.

    ``speed``: how many incident seconds pass in one of the reader's. ``busy``: what the system is doing that the
    reader must wait for. ``disabled``: names of controls that do nothing at the moment.
    """

    tone: Tone
    sentence: str
    speed: NotRequired[float]
    busy: NotRequired[str | None]
    disabled: NotRequired[list[str]]
    pool: NotRequired[Pool]
    waiting: NotRequired[Waiting]
    charts: NotRequired[list[Chart]]
    facts: NotRequired[list[Fact]]


@runtime_checkable
class Driver(Protocol):
    """The running system, as the panel sees it.

    ``snapshot`` is called five times a second from a thread of its own, also while ``change``, ``press`` or
    ``start`` is running in another. An exception from any of them becomes a sentence in the panel. A driver may
    have a method ``start()``: the panel calls it once, in the background, so that the drawing appears at once.
    """

    controls: Sequence[Control]

    def change(self, name: Name, value: Any) -> None:
        """Carry a moved control to the system; ``value`` has been checked. May take up to a second."""

    def press(self, name: Name) -> None:
        """Do what the button says."""

    def snapshot(self) -> Snapshot | dict[str, Any]:
        """Return what to draw now."""

    def close(self) -> None:
        """Stop everything the driver has started. Called once."""

"""The fix as a ladder: each step is a whole small program, and the names by which the workbook calls them."""

import difflib
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Step:
    """One rung of the ladder.

    ``module``: import path of the runnable module. ``worker``: whether a Celery worker belongs to it. ``finishes``:
    whether its fan-out to 45,312 followers ends within minutes, so that a run can wait for the last notification.
    ``holds_connection``: whether the request keeps its connection while it calls the push service. ``outbox``: whether
    the database knows what is still to be sent.
    """

    number: int
    name: str
    module: str
    worker: bool = False
    finishes: bool = False
    holds_connection: bool = False
    outbox: bool = False

    def load(self) -> ModuleType:
        """Import and return the step's module, for its source; the pods run it in processes of their own."""
        return importlib.import_module(self.module)


STEPS = (
    Step(0, "as it failed", "labs.fanout.step0_as_it_failed", holds_connection=True),
    Step(1, "bulk query", "labs.fanout.step1_bulk_tokens", holds_connection=True),
    Step(2, "release early", "labs.fanout.step2_release_early"),
    Step(3, "hand off", "labs.fanout.step3_hand_off", worker=True),
    Step(4, "published fix", "labs.fanout.step4_published_fix", worker=True, finishes=True),
    Step(5, "nothing lost", "labs.fanout.step5_nothing_lost", worker=True, finishes=True, outbox=True),
    Step(6, "today", "labs.fanout.step6_todays_fcm", worker=True, finishes=True, outbox=True),
)


RELEASE_EARLY = 2  # its threads compete for one interpreter: how far they get depends on the machine


def step_of(wanted: int | str) -> Step:
    """Return the step with this number or name.

    Raises ValueError with the list of steps when there is none.
    """
    for step in STEPS:
        if wanted in (step.number, step.name):
            return step
    known = ", ".join(f"{step.number} ({step.name})" for step in STEPS)
    raise ValueError(f"step must be one of {known}, not {wanted!r}.{hint(wanted, [step.name for step in STEPS])}")


def step_with(wanted: int | str, has: Callable[[Step], bool], what: str) -> Step:
    """Return the step with this number or name, of those that ``has`` is true of.

    Raises ValueError with the list of those, which have ``what``, when it is none of them.
    """
    steps = [step for step in STEPS if has(step)]
    for step in steps:
        if wanted in (step.number, step.name):
            return step
    names = [step.name for step in steps]
    raise ValueError(f"step must be one with {what} ({', '.join(names)}), not {wanted!r}.{hint(wanted, names)}")


def hint(wanted: object, names: Iterable[str]) -> str:
    """Return " Did you mean ...?" with the one of ``names`` that is most like ``wanted``; nothing if none is."""
    near = difflib.get_close_matches(str(wanted), list(names), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""

"""Errands run outside the kernel's thread, in order, the latest value first to count."""

import threading

import pytest

from labs.kit.panel.errands import Errands

LONG = 30.0  # seconds; only ever waited for when something is broken


@pytest.fixture
def busy():
    """Errands held up by a first job, and the event that lets it go."""
    errands, started, gate = Errands("test errands"), threading.Event(), threading.Event()

    def hold():
        started.set()
        gate.wait(LONG)

    errands.add(hold)
    assert started.wait(LONG)
    yield errands, gate
    gate.set()
    errands.close()


def test_of_two_waiting_changes_of_one_control_only_the_later_is_carried_out(busy):
    errands, gate = busy
    done = []
    for value in range(50):
        errands.add(lambda value=value: done.append(("pool", value)), "pool")
    errands.add(lambda: done.append(("rate", 1)), "rate")
    gate.set()
    assert errands.settle(LONG)
    assert done == [("pool", 49), ("rate", 1)]


def test_a_change_made_before_a_button_was_pressed_takes_effect_before_it(busy):
    errands, gate = busy
    done = []
    errands.add(lambda: done.append("pool 30"), "pool")
    errands.add(lambda: done.append("post"))
    errands.add(lambda: done.append("pool 40"), "pool")
    errands.add(lambda: done.append("pool 50"), "pool")
    gate.set()
    assert errands.settle(LONG)
    assert done == ["pool 30", "post", "pool 50"]


def test_every_press_of_a_button_counts(busy):
    errands, gate = busy
    done = []
    for _ in range(3):
        errands.add(lambda: done.append("post"))
    gate.set()
    assert errands.settle(LONG)
    assert done == ["post"] * 3


def test_closing_forgets_what_is_queued_and_takes_nothing_more(busy):
    errands, gate = busy
    done = []
    errands.add(lambda: done.append("late"))
    errands.close(timeout=0)
    errands.add(lambda: done.append("later"))
    gate.set()
    assert errands.settle(LONG)
    assert done == []

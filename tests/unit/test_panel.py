"""The panel without a browser: its methods, its threads, its end."""

import json
import math
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from jupyter_client.manager import start_new_kernel

from labs.kit.panel import Action, Choice, ControlError, Driver, Panel, Slider
from tests.apps.demo_driver import DemoDriver

LONG = 30.0  # seconds; only ever waited for when something is broken
PROJECT = Path(__file__).resolve().parents[2]


class Recorded:
    """A driver that remembers what it was asked; each of its methods can be made to fail or to wait."""

    def __init__(self):
        self.controls = [
            Slider("pool_size", "Pool size", 1, 100, 20),
            Choice("clients", "Clients", ("wait", "retry"), "wait"),
            Action("post", "Post"),
        ]
        self.asked = []
        self.failures = {}
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()
        self.shown = {"tone": "good", "sentence": "Healthy.", "pool": {"title": "The pool", "slots": [None]}}

    def _do(self, what, *words):
        self.asked.append((what, *words))
        self.reached.set()
        self.gate.wait(LONG)
        if what in self.failures:
            raise self.failures[what]

    def change(self, name, value):
        self._do("change", name, value)

    def press(self, name):
        self._do("press", name)

    def close(self):
        self._do("close")

    def snapshot(self):
        if "snapshot" in self.failures:
            raise self.failures["snapshot"]
        return self.shown


class Other(Recorded):
    """A driver of another class."""


class Starting(Recorded):
    """A driver that has something to start."""

    def start(self):
        self._do("start")


@pytest.fixture
def driver():
    return Recorded()


@pytest.fixture
def panel(driver):
    with Panel(driver, every=0.02) as panel:
        yield panel
        driver.gate.set()


def until(condition):
    """Wait until ``condition()`` is true."""
    give_up = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.01)


def from_browser(panel, **message):
    """Deliver a message as the browser sends it."""
    panel._handle_custom_msg(message, [])


def test_a_change_reaches_the_driver_and_shows_in_the_panel(panel, driver):
    panel.change("pool_size", 30)
    assert driver.asked == [("change", "pool_size", 30)]
    assert panel.state["values"] == {"pool_size": 30, "clients": "wait"}
    assert panel.values()["pool_size"] == 30


def test_a_press_reaches_the_driver(panel, driver):
    panel.press("post")
    assert driver.asked == [("press", "post")]


def test_a_value_outside_the_range_is_refused_before_the_driver_hears_of_it(panel, driver):
    with pytest.raises(ControlError, match="from 1 to 100; got 0"):
        panel.change("pool_size", 0)
    assert driver.asked == []
    assert panel.values()["pool_size"] == 20


@pytest.mark.parametrize(("method", "name"), [("change", "post"), ("change", "nothing"), ("press", "pool_size")])
def test_a_control_that_does_not_exist_is_named_with_those_that_do(panel, method, name):
    with pytest.raises(ControlError, match=f"There is no .* {name!r}; there is: "):
        panel.change(name, 1) if method == "change" else panel.press(name)


def test_a_change_in_the_browser_is_carried_out_and_answered_with_its_serial(panel, driver):
    from_browser(panel, kind="change", name="pool_size", value=40, serial=7)
    until(lambda: panel.state["heard"].get("pool_size") == 7)
    assert driver.asked == [("change", "pool_size", 40)]
    assert panel.state["values"]["pool_size"] == 40


def test_a_value_the_browser_may_not_send_becomes_a_sentence_and_the_control_goes_back(panel):
    from_browser(panel, kind="change", name="pool_size", value="many", serial=1)
    until(lambda: panel.state["heard"].get("pool_size") == 1)
    assert panel.state["notice"] == "Pool size takes a whole number from 1 to 100; got 'many'."
    assert panel.state["values"]["pool_size"] == 20


def test_an_error_of_the_driver_becomes_a_sentence_and_the_next_change_still_works(panel, driver):
    driver.failures["change"] = RuntimeError("the pod has gone away\nwith details")
    from_browser(panel, kind="change", name="pool_size", value=40, serial=1)
    until(lambda: panel.state["notice"])
    assert panel.state["notice"] == "Pool size did not work: the pod has gone away."
    driver.failures.clear()
    from_browser(panel, kind="change", name="pool_size", value=50, serial=2)
    until(lambda: panel.state["heard"].get("pool_size") == 2)
    assert panel.state["notice"] is None
    assert panel.values()["pool_size"] == 50


@pytest.mark.parametrize("message", [None, "text", {}, {"kind": "change"}, {"kind": "press", "name": ["post"]}])
def test_a_message_without_sense_harms_nothing(panel, message):
    panel._handle_custom_msg(message, [])
    assert panel.settle(LONG)
    panel.change("pool_size", 21)
    assert panel.values()["pool_size"] == 21


def test_a_slow_change_does_not_hold_up_the_kernel_and_only_the_latest_value_follows_it(panel, driver):
    driver.gate.clear()
    from_browser(panel, kind="change", name="pool_size", value=1, serial=1)
    assert driver.reached.wait(LONG)
    for value in range(2, 40):
        from_browser(panel, kind="change", name="pool_size", value=value, serial=value)
    assert not driver.gate.is_set()  # all of them returned while the first is still being carried out
    until(lambda: panel.state["busy"] == "Pool size: 1")
    driver.gate.set()
    assert panel.settle(LONG)
    assert driver.asked == [("change", "pool_size", 1), ("change", "pool_size", 39)]


def test_a_driver_that_cannot_be_read_leaves_its_last_drawing_with_a_sentence(panel, driver):
    until(lambda: panel.state.get("pool"))
    driver.failures["snapshot"] = ConnectionError("connection refused")
    until(lambda: panel.state["tone"] == "warn")
    assert panel.state["sentence"] == "The system could not be read just now: connection refused."
    assert panel.state["pool"] == driver.shown["pool"]
    driver.failures.clear()
    until(lambda: panel.state["sentence"] == "Healthy.")


def test_a_snapshot_with_numpy_and_nan_travels_as_json(panel, driver):
    values = [np.float64(1.5), math.nan, np.int64(3)]
    driver.shown = {"tone": "good", "sentence": "x", "charts": [{"series": [{"values": np.array([1.0, np.nan])}]}]}
    driver.shown["waiting"] = {"waits": values, "longest": math.inf}
    until(lambda: "charts" in panel.state)
    sent = json.loads(json.dumps(panel.state, allow_nan=False))
    assert sent["charts"][0]["series"][0]["values"] == [1.0, None]
    assert sent["waiting"] == {"waits": [1.5, None, 3], "longest": None}


def test_running_the_cell_again_closes_the_earlier_panel_of_that_driver_only():
    first, other = Panel(Recorded()), Panel(Other())
    second = Panel(Recorded())
    try:
        assert first.state["closed"] is True
        assert ("close",) in first.driver.asked
        assert second.state["closed"] is False
        assert other.state["closed"] is False
    finally:
        second.close()
        other.close()


def test_closing_stops_the_threads_and_the_driver_once(driver):
    panel = Panel(driver)
    mine = [thread for thread in threading.enumerate() if "Recorded" in thread.name]
    assert len(mine) == 2
    panel.close()
    panel.close()
    assert not any(thread.is_alive() for thread in mine)
    assert driver.asked.count(("close",)) == 1


def test_a_closed_panel_says_so_and_takes_nothing_more(driver):
    panel = Panel(driver)
    panel.close()
    with pytest.raises(ControlError, match="This panel is closed; run its cell again"):
        panel.change("pool_size", 30)
    from_browser(panel, kind="press", name="post", serial=1)
    assert driver.asked == [("close",)]
    assert panel.state["closed"] is True


def test_a_driver_that_does_not_close_cleanly_is_reported_and_not_raised(driver):
    driver.failures["close"] = RuntimeError("a pod did not stop")
    panel = Panel(driver)
    panel.close()
    assert panel.state["notice"] == "Closing did not go cleanly: a pod did not stop."


def test_the_panel_appears_while_the_system_is_still_starting():
    driver = Starting()
    driver.gate.clear()
    with Panel(driver, every=0.02) as panel:
        assert driver.reached.wait(LONG)
        until(lambda: panel.state["busy"] == "Starting")
        driver.gate.set()
        until(lambda: panel.state["busy"] is None)


def test_a_system_that_does_not_start_becomes_a_sentence():
    driver = Starting()
    driver.failures["start"] = RuntimeError("no redis-server on this machine")
    with Panel(driver) as panel:
        until(lambda: panel.state["notice"])
        assert panel.state["notice"] == "The system did not start: no redis-server on this machine."


def test_what_a_code_host_shows_without_a_kernel_is_the_last_sentence(panel):
    until(lambda: panel.sentence() == "Healthy.")
    bundle = panel._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert data["text/plain"] == "[panel] Healthy."
    assert "application/vnd.jupyter.widget-view+json" in data


def test_the_end_of_the_kernel_closes_the_panel(tmp_path):
    witness = tmp_path / "closed"
    code = f"""
import pathlib
from labs.kit.panel import Panel
from tests.apps.demo_driver import DemoDriver
class Witness(DemoDriver):
    def close(self):
        pathlib.Path({str(witness)!r}).write_text("closed")
panel = Panel(Witness())
panel
"""
    kernel, client = start_new_kernel(cwd=str(PROJECT), startup_timeout=120)
    try:
        reply = client.execute_interactive(code, timeout=120, output_hook=lambda _message: None)
        assert reply["content"]["status"] == "ok"
    finally:
        client.stop_channels()
        kernel.shutdown_kernel()
    assert witness.read_text() == "closed"


def test_the_demo_driver_is_a_driver_and_its_pool_fills_after_a_post():
    demo = DemoDriver()
    assert isinstance(demo, Driver)
    demo.advance(60)
    assert demo.picture()["tone"] == "good"
    demo.press("post")
    demo.advance(120)
    shown = demo.picture()
    assert shown["tone"] == "bad"
    assert all(slot["tone"] == "bad" for slot in shown["pool"]["slots"])
    assert shown["waiting"]["count"] > 0


def drawn(demo, **changes):
    """Return the picture of a demo after ``changes``."""
    with Panel(demo, every=60) as panel:
        for name, value in changes.items():
            panel.change(name, value)
        demo.advance(60)
        demo.press("post")
        demo.advance(120)
        panel._look()
        return panel.picture()


@pytest.mark.parametrize(("pool_size", "pods"), [(1, 1), (3, 2), (20, 1), (100, 5)])
def test_a_still_picture_can_be_drawn_of_pools_small_and_large(pool_size, pods, tmp_path):
    picture = drawn(DemoDriver(pods=pods), pool_size=pool_size)
    file = picture.save(tmp_path / "panel.png", dpi=40)
    assert file.read_bytes().startswith(b"\x89PNG")
    assert picture.figure.get_figwidth() == 9.6


def test_a_still_picture_shows_in_a_notebook_and_in_plain_text():
    data, sizes = drawn(DemoDriver())._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert data["text/plain"].startswith("[picture of the panel] Down. 20 of 20")
    assert sizes["image/png"]["width"] == round(9.6 * 96)


def test_a_still_picture_can_be_drawn_before_anything_has_happened(panel, tmp_path):
    panel._snapshot = {"tone": "idle", "sentence": "Starting."}
    assert panel.picture().save(tmp_path / "empty.svg").read_text().startswith("<?xml")

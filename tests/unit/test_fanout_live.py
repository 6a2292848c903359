"""What the panel shows of a running system, from made-up looks at it."""

import time
from types import SimpleNamespace

import pytest

from labs.fanout.knobs import Knobs
from labs.fanout.live import SHOWN, FanoutDriver, View
from labs.kit.clock import Clock

NOW = 1_800_000_100.0
CREATE = "POST /api/v1/posts/create"


def look(held=(), waiting=(), serving=0, ok=5, failed=0, **knobs) -> View:
    """Return a view of one pod: ``held`` and ``waiting`` are wall seconds so far."""
    pod = {
        "pod": "api-1",
        "slots": [{"since": NOW - age, "by": CREATE} for age in held],
        "waiting": [{"since": NOW - age, "by": "GET /api/v1/feed"} for age in waiting],
        "serving": serving,
    }
    buckets = [
        {"at": NOW - back * 0.25, "due": 2, "ok": ok, "failed": failed, "p50": 0.002, "p99": 0.004}
        for back in range(10, -1, -1)
    ]
    live = {
        "at": NOW, "bucket": 0.25, "pods": [pod], "buckets": buckets, "counts": {"unavailable": 3}, "fcm": None,
        "counts_by_who": {"author": {"no_answer": 7}}, "marks": [{"at": NOW - 1, "label": "post"}],
    }  # fmt: skip
    return View(SimpleNamespace(knobs=Knobs(**knobs), clock=Clock(10, NOW - 20, "15:20:50")), live)


def test_a_healthy_system_says_so():
    drawn = look(held=[0.0003]).snapshot()
    assert drawn["tone"] == "good"
    assert drawn["sentence"] == "1 of 20 connections in use, nobody waits."


def test_a_full_pool_with_nobody_answered_is_down():
    drawn = look(held=[8.6] * 20, waiting=[2.0] * 37, serving=57, ok=0).snapshot()
    assert drawn["tone"] == "bad"
    assert drawn["sentence"] == f"Down. 20 of 20 connections in use, 37 waiting, oldest held 86 s by {CREATE}."
    assert drawn["waiting"]["count"] == 37
    assert drawn["waiting"]["longest"] == pytest.approx(20)


def test_busy_threads_with_connections_to_spare_are_down_too():
    drawn = look(held=[], serving=64, ok=0).snapshot()
    assert drawn["sentence"] == "Down. All 64 threads are busy, 0 of 20 connections in use."


def test_a_post_that_holds_a_connection_is_a_warning_while_the_rest_is_served():
    assert look(held=[4.0]).snapshot()["tone"] == "warn"


def test_the_count_starts_anew_with_each_post():
    live = look().live
    system = SimpleNamespace(knobs=Knobs(), clock=Clock(10, NOW - 20, "15:20:50"))
    assert View(system, live).given_up == 7
    assert View(system, live, attempts_before=7).given_up == 0


def test_an_idle_night_is_not_an_outage():
    assert look(ok=0, request_rate=0).snapshot()["tone"] == "good"


def test_the_newest_bucket_is_on_the_right_and_marks_fall_where_they_happened():
    chart = look().snapshot()["charts"][0]
    assert len(chart["series"][0]["values"]) == SHOWN
    assert chart["series"][0]["values"][-1] == pytest.approx(2.0)  # five answers in a bucket of 2.5 incident seconds
    assert chart["marks"][0]["label"] == "post"
    assert chart["marks"][0]["at"] == pytest.approx(SHOWN - 1 - 4)


def test_free_connections_are_drawn_as_well():
    assert look(held=[1.0]).snapshot()["pool"]["slots"].count(None) == 19


def test_several_pods_are_drawn_apart():
    assert [pod["name"] for pod in look(pods=2).snapshot()["pool"]["pods"]] == ["api-1"]


def test_before_the_system_is_up_the_panel_says_what_it_waits_for():
    driver = FanoutDriver(Knobs())
    assert driver.snapshot()["busy"]
    with pytest.raises(RuntimeError, match="still coming up"):
        driver.press("post")


def test_a_closed_driver_stays_closed():
    driver = FanoutDriver(Knobs())
    driver.close()
    driver.start()
    assert driver.snapshot()["sentence"].startswith("Stopped")


def test_a_panel_left_alone_stops_by_itself(monkeypatch, tmp_path):
    driver = FanoutDriver(Knobs())
    driver._system = SimpleNamespace(started=True, close=lambda: None, run_dir=tmp_path)
    monkeypatch.setattr(driver, "_touched", time.monotonic() - 21 * 60)
    assert "20 minutes" in driver.snapshot()["sentence"]

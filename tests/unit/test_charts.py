import io
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from labs.kit.charts import ChartError, bar_chart, line_chart, run_chart, shared_axes
from labs.kit.history import Requests
from labs.kit.recording import Recording
from labs.kit.style import WIDTH, spread
from labs.kit.views import VIEWS, bin_width, censored_percentile, longest_holder
from tests import synthetic


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    made = {"outage": synthetic.outage(folder), "alone": synthetic.outage(folder, "alone", retries=False),
            "killed": synthetic.outage(folder, "killed", seconds=60, ended=False), "died": synthetic.empty(folder)}
    return {name: Recording.open(path) for name, path in made.items()}


def words(chart):
    return [text.get_text() for text in (*chart.figure.texts, *(t for axes in chart.figure.axes for t in axes.texts))]


@pytest.mark.parametrize("run", ["outage", "killed", "died"])
def test_every_view_draws_every_run_even_one_that_died(runs, run):
    chart = run_chart(runs[run], tuple(VIEWS), title="finding")
    assert isinstance(chart.figure, Figure)
    assert words(chart).count("nothing recorded") == (len(VIEWS) if run == "died" else 0)
    picture, size = chart._repr_png_()
    assert picture.startswith(b"\x89PNG")
    assert size["width"] == 900


def test_the_picture_is_900_wide_twice_as_sharp_and_small(runs):
    from PIL import Image

    picture = run_chart(runs["outage"], beside=runs["alone"], title="finding").png()
    assert Image.open(io.BytesIO(picture)).size[0] == 2 * WIDTH * 100
    assert len(picture) < 80_000


def test_the_finding_is_the_title_and_the_incidents_clock_the_axis(runs):
    chart = run_chart(runs["outage"], title="Retries fill the pool")
    assert "Retries fill the pool" in words(chart)
    labels = [label.get_text() for label in chart.figure.axes[-1].get_xticklabels()]
    assert "15:21:00" in labels
    assert all(label.get_text() == "" for label in chart.figure.axes[0].get_xticklabels())


def test_series_are_labelled_where_they_are_and_marks_once(runs):
    said = words(run_chart(runs["outage"]))
    for label in ("held by\nPOST /api/v1/posts/create", "waiting", "pool size 20", "answered", "failed", "p50", "p99"):
        assert said.count(label) == 1, label
    assert said.count("post") == 1


def test_no_two_labels_overlap(runs):
    for chart in (run_chart(runs["alone"], beside=runs["outage"]), run_chart(runs["outage"], tuple(VIEWS)),
                  shared_axes([runs["outage"], runs["alone"]], ("pool", "latency"))):
        renderer = FigureCanvasAgg(chart.figure).get_renderer()
        boxes = [(text.get_text(), text.get_window_extent(renderer).padded(-1)) for axes in chart.figure.axes
                 for text in axes.texts]
        for index, (first, box) in enumerate(boxes):
            for second, other in boxes[index + 1 :]:
                assert not box.overlaps(other), (first, second)


def test_two_runs_stand_beside_each_other_on_the_same_axes(runs):
    chart = run_chart(runs["outage"], beside=runs["alone"], labels=["retry", "wait"])
    assert len(chart.figure.axes) == 6
    for left, right in zip(chart.figure.axes[::2], chart.figure.axes[1::2], strict=True):
        assert left.get_ylim() == right.get_ylim()
        assert left.get_xlim() == right.get_xlim()
    assert {"retry", "wait"} <= set(words(chart))


def test_several_runs_stand_under_each_other_on_the_same_axes(runs):
    first, *others = runs.values()
    show = ("pool", "requests")
    for chart in (shared_axes([first, *others], show), run_chart(first, show, beside=others)):
        assert len(chart.figure.axes) == 8
        for column in (chart.figure.axes[::2], chart.figure.axes[1::2]):
            assert len({axes.get_ylim() for axes in column}) == 1


def test_a_part_of_a_run_can_be_shown(runs):
    assert run_chart(runs["outage"], between=(30, 60)).figure.axes[0].get_xlim() == (30, 60)


def test_pool_and_requests_are_drawn_to_scale(runs):
    pool, requests = run_chart(runs["outage"], ("pool", "requests")).figure.axes
    assert pool.dataLim.y1 == 64  # 20 in use and 44 waiting
    drawn = sum(bar.get_height() * bar.get_width() for bar in requests.patches) / 0.88
    assert drawn == pytest.approx(len(runs["outage"].requests))


def test_what_is_in_the_chart_is_said_in_words(runs):
    said = repr(run_chart(runs["outage"], title="Down"))
    assert said.startswith("Chart: Down. Shows connections in use, requests a second, time to answer of outage")


@pytest.mark.parametrize("show", ["speed", ["pool", "speed"], []])
def test_a_view_that_does_not_exist_is_answered_with_those_that_do(runs, show):
    with pytest.raises(ChartError, match=r"show must name .* among pool, requests, "):
        run_chart(runs["outage"], show)


def test_labels_must_name_each_run(runs):
    with pytest.raises(ChartError, match="labels must name each of the 2 runs, not 1"):
        run_chart(runs["outage"], beside=runs["alone"], labels=["only one"])
    with pytest.raises(ChartError, match="not an empty list"):
        shared_axes([])


def asked(*requests):
    due, took, outcome = zip(*requests, strict=True)
    return Requests({"due": np.array(due, float), "done": np.array(due, float) + np.array(took, float),
                     "outcome": np.array(outcome, dtype=object)})


def test_a_request_without_an_answer_is_slower_than_any_with_one():
    some = asked((0, 1, "ok"), (0, 2, "ok"), (0, 0.5, "no_answer"),
                 (1, 10, "no_answer"), (1, 1, "ok"), (1, 8, "refused"))
    found = censored_percentile(some, np.array([0.0, 1.0, 2.0, 3.0]), 0.5, end=20.0)
    assert found.how.tolist() == ["answered", "failed", ""]
    assert found.seconds[:2].tolist() == [2.0, 9.0]
    assert np.isnan(found.seconds[2])


def test_what_is_still_in_flight_has_waited_until_the_end():
    some = asked((0, np.nan, "pending"), (0, 1, "ok"), (0, 5, "refused"))
    found = censored_percentile(some, np.array([0.0, 1.0]), 0.9, end=20.0)
    assert (found.how[0], found.seconds[0]) == ("waiting", 20.0)


def test_one_colour_means_one_endpoint_in_all_runs_of_a_chart(runs):
    assert longest_holder([runs["died"], runs["outage"]]) == "POST /api/v1/posts/create"
    said = words(shared_axes([runs["died"], runs["alone"], runs["outage"]]))
    assert said.count("held by\nPOST /api/v1/posts/create") == 1


@pytest.mark.parametrize(("length", "width"), [(10, 0.1), (100, 1), (150, 2), (240, 2), (1200, 10),
                                               (100_000, 100_000 / 120)])
def test_bins_are_round_and_not_too_many(length, width):
    assert bin_width(length) == width


def test_labels_are_moved_apart_and_stay_in_range():
    centres = spread([10, 11, 12], [10, 10, 10], 0, 100)
    assert all(later - earlier >= 10 for earlier, later in pairwise(centres))
    assert spread([95, 99], [10, 10], 0, 100) == [85, 95]
    assert spread([], [], 0, 1) == []


def test_small_charts_draw_what_they_are_given():
    chart = line_chart([10, 100, 1000], {"as it failed": [1, 10, 100], "fixed": [1, float("nan"), 1]}, "Grows",
                       x_label="followers", log_x=True, log_y=True, limit=(30, "pool time-out"))
    assert {"Grows", "as it failed", "fixed", "pool time-out"} <= set(words(chart))
    bars = bar_chart({"step 0": 312.0, "step 3": 0.013}, "Faster", words={"step 3": "13 ms"}, highlight=["step 0"])
    assert {"312", "13 ms"} <= set(words(bars))
    assert bars.png().startswith(b"\x89PNG")

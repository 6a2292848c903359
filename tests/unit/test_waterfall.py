import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from labs.kit import otlp
from labs.kit.clock import Clock
from labs.kit.folding import MOST_LINES, Line
from labs.kit.traces import Traces
from labs.kit.waterfall import short_statement
from tests import synthetic

CLOCK = Clock(synthetic.SPEED, synthetic.STARTED, "15:20:50")


@pytest.fixture(scope="module")
def traces():
    return Traces.of(otlp.decode(synthetic.export_traces([30.0], seconds=120.0, loop=500)), CLOCK)


@pytest.fixture(scope="module")
def post(traces):
    return traces.longest().waterfall()


def test_a_thousand_equal_spans_fold_into_one_line_each(post):
    assert [(line.label.split()[0], line.kind, line.count) for line in post.lines] == [
        ("POST", "root", 1), ("connection", "held", 1), ("INSERT", "database", 1), ("SELECT", "database", 1),
        ("SELECT", "database", 500), ("POST", "http", 500),
    ]


def test_a_folded_line_has_the_sum_and_percentiles_of_its_spans(traces, post):
    folded = post.lines[4]
    spans = [span for span in traces.longest().spans if "device_tokens" in span.statement]
    assert folded.total == pytest.approx(sum(span.duration for span in spans))
    assert folded.percentile(50) == pytest.approx(np.median([span.duration for span in spans]))
    assert folded.percentile(99) <= folded.durations.max()


def test_the_text_says_what_the_drawing_shows(post):
    text = repr(post).splitlines()
    assert text[0] == "POST /api/v1/posts/create: cut off after 90 s, 1,004 spans, began at 15:21:20"
    assert text[1].endswith("15:21:20 to 15:22:50")
    assert re.search(r"SELECT from device_tokens +500 +12 s +23 ms +29 ms", text[6])
    assert text[2].endswith("⌁")


def test_the_drawing_is_well_formed_and_small(post):
    shown = post._repr_html_()
    for svg in re.findall(r"<svg.*?</svg>", shown, re.DOTALL):
        ET.fromstring(svg)
    assert shown.count("<svg") == len(post.lines) + 1
    assert len(shown) < 60_000
    assert "15:22:00" in shown
    assert "cut off here" in shown


def test_a_short_trace_counts_from_its_own_start(traces):
    shown = traces.where(endpoint="GET /api/v1/feed")[0].waterfall()._repr_html_()
    assert "+5 ms" in shown
    assert "cut off" not in shown


def test_colours_follow_the_theme_of_the_page(post):
    shown = post._repr_html_()
    assert "currentColor" in shown
    assert "var(--jp-content-font-color1,inherit)" in shown
    assert "background:#" not in shown


def test_a_moment_is_as_dark_as_the_share_of_it_that_lies_within_spans():
    line = Line(1, "x", "", "", np.array([0.0, 2.0, 2.0]), np.array([0.5, 3.0, 3.0]))
    assert line.covered(np.array([0.0, 1.0, 2.0, 3.0])).tolist() == [0.5, 0.0, 1.0]


def test_work_handed_to_another_process_stands_under_the_request():
    waterfall = Traces.of(otlp.decode(synthetic.export_handed_off()), CLOCK).longest().waterfall()
    assert [line.depth for line in waterfall.lines] == [0, 1, 2, 3]
    assert waterfall.lines[3].count == 91
    assert waterfall.end - waterfall.start == pytest.approx(4.1, abs=0.01)


def test_a_trace_of_many_different_spans_keeps_the_longest_and_says_so():
    exports = synthetic.export_many_kinds(MOST_LINES + 30)
    waterfall = Traces.of(otlp.decode(exports), CLOCK).longest().waterfall()
    assert len(waterfall.lines) == MOST_LINES
    assert "31 shorter lines are left out." in repr(waterfall)
    assert "31 shorter lines are left out." in waterfall._repr_html_()


def test_names_are_escaped():
    assert "<script>" not in Traces.of(otlp.decode(synthetic.export_many_kinds(1, "<script>")), CLOCK)[0].waterfall(
        "<script>")._repr_html_()


@pytest.mark.parametrize(("statement", "words"), [
    ("SELECT a, b FROM device_tokens WHERE x = 1", "SELECT from device_tokens"),
    ("INSERT INTO posts (a) VALUES (1)", "INSERT into posts"),
    ("update users set x = 1", "UPDATE users"),
    ("DELETE FROM posts", "DELETE from posts"),
    ("WITH q AS (SELECT 1) SELECT * FROM q", "SELECT from q"),
    ("SELECT pg_sleep(1)", "SELECT pg_sleep(1)"),
])
def test_a_statement_is_called_by_what_it_does_to_which_table(statement, words):
    assert short_statement(statement) == words

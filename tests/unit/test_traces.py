import numpy as np
import pytest

from labs.kit import otlp
from labs.kit.clock import Clock
from labs.kit.traces import UNKNOWN_ROOT, Traces, parse_duration
from tests import synthetic

CLOCK = Clock(synthetic.SPEED, synthetic.STARTED, "15:20:50")


@pytest.fixture(scope="module")
def traces():
    return Traces.of(otlp.decode(synthetic.export_traces([30.0, 60.0], seconds=120.0, loop=50)), CLOCK)


def test_a_trace_is_a_request_in_incident_time(traces):
    longest = traces.longest()
    assert longest.endpoint == "POST /api/v1/posts/create"
    assert longest.duration == pytest.approx(90.0)
    assert longest.root.start == pytest.approx(30.0)
    assert longest.cut_off
    assert len(longest) == len(longest.spans) == 104
    assert longest.spans == sorted(longest.spans, key=lambda span: span.start)


def test_traces_are_in_the_order_in_which_they_began(traces):
    assert list(traces.starts) == sorted(traces.starts)
    assert len(traces) == 42
    assert traces.span_count == 328


def test_slow_traces_are_found_by_duration_in_seconds_or_words(traces):
    assert len(traces.longer_than("10 s")) == 2
    assert len(traces.longer_than(70)) == 1
    assert len(traces.longer_than("5 ms")) == 42


def test_traces_are_chosen_by_endpoint_and_by_being_cut_off(traces):
    assert len(traces.where(endpoint="GET /api/v1/feed")) == 40
    assert len(traces.where(cut_off=True)) == 2
    assert len(traces.where(endpoint="GET /api/v1/feed", cut_off=True)) == 0


def test_the_table_lists_endpoints_longest_first(traces):
    assert traces.by_endpoint().rows == (
        ("POST /api/v1/posts/create", 2, "90 s", 52, 50, 2),
        ("GET /api/v1/feed", 40, "9.0 ms", 1, 0, 0),
    )


def test_traces_are_a_sequence(traces):
    assert len(traces[:3]) == 3
    assert traces[-1].root.start == max(traces.starts)
    assert [trace.endpoint for trace in traces[:1]] == ["GET /api/v1/feed"]
    with pytest.raises(IndexError):
        traces[42]


@pytest.fixture
def killed():
    """Spans of a request whose root never arrived."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(synthetic.export_traces([30.0], seconds=60.0, loop=20)[0])
    spans = request.resource_spans[0].scope_spans[0].spans
    kept = [span for span in spans if span.parent_span_id]
    del spans[:]
    spans.extend(kept)
    return otlp.decode([request.SerializeToString()])


def test_a_request_whose_process_was_killed_still_shows_what_arrived(killed):
    orphaned = Traces.of(killed, CLOCK).longest()
    assert orphaned.endpoint == UNKNOWN_ROOT
    assert orphaned.cut_off
    assert orphaned.duration == pytest.approx(30, abs=0.1)
    assert len(orphaned.waterfall().lines) > 3


def test_a_killed_request_is_named_after_the_connection_it_held(killed):
    held = int(np.argmax(killed.end - killed.start))
    since = int(killed.start[held]) / 1e9
    killed.start[held] = int(since * 1e9)  # as the probe starts its span, from a time in seconds
    named = Traces.of(killed, CLOCK, {since: "POST /api/v1/posts/create"})
    assert named.longest().endpoint == "POST /api/v1/posts/create"
    assert named.longest().root.name == "POST /api/v1/posts/create"
    assert named.by_endpoint().rows[0][0] == "POST /api/v1/posts/create"


def test_work_in_another_process_lengthens_the_trace_and_not_the_answer():
    table = otlp.decode(synthetic.export_handed_off())
    trace = Traces.of(table, CLOCK).longest()
    assert trace.duration == pytest.approx(0.015, abs=1e-3)
    assert trace.extent == pytest.approx(4.1, abs=0.01)


def test_no_traces_are_calm():
    empty = Traces.of(otlp.SpanTable(), CLOCK)
    assert len(empty) == 0
    assert repr(empty) == "No traces"
    assert len(empty.longer_than("10 s").by_endpoint()) == 0
    with pytest.raises(LookupError, match="no trace was recorded"):
        empty.longest()


@pytest.mark.parametrize(("words", "seconds"), [("10 s", 10), ("250 ms", 0.25), ("2 min", 120), (3, 3), ("1.5", 1.5)])
def test_durations_are_read_from_words(words, seconds):
    assert parse_duration(words) == pytest.approx(seconds)


@pytest.mark.parametrize("words", ["", "long", "-1 s", "10 hours", None, True, float("nan")])
def test_what_is_no_duration_is_refused(words):
    with pytest.raises(ValueError, match="duration must be seconds or text such as"):
        parse_duration(words)

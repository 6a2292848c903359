import struct

import numpy as np
import pytest

from labs.kit import otlp
from tests import synthetic


@pytest.fixture(scope="module")
def exports():
    return synthetic.export_traces([30.0, 60.0], seconds=120.0, loop=50)


def test_every_span_is_decoded(exports):
    table = otlp.decode(exports)
    assert len(table) == 2 * (2 + 2 + 2 * 50) + 40 * 3
    assert len(table.trace_ids) == 42
    assert (table.end >= table.start).all()


def test_equal_names_and_attributes_are_kept_once(exports):
    table = otlp.decode(exports)
    assert len(table.names) < 10
    assert len(table.attribute_sets) < 15


def test_parents_are_found_across_exports(exports):
    table = otlp.decode(exports)
    assert len(exports) > 0
    assert (table.parent == -1).sum() == 42
    children = table.parent >= 0
    assert (table.trace[children] == table.trace[table.parent[children]]).all()
    assert not (table.parent == -2).any()


def test_a_parent_that_never_arrived_is_told_from_none(exports):
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(exports[0])
    spans = request.resource_spans[0].scope_spans[0].spans
    orphan = next(span for span in spans if span.parent_span_id)
    orphan.parent_span_id = b"nowhere!"
    table = otlp.decode([request.SerializeToString()])
    assert (table.parent == -2).any()


def test_attributes_carry_the_pod_they_came_from(exports):
    table = otlp.decode(exports)
    assert all(each["service.name"] == "api-1" for each in table.attribute_sets)
    assert any(each.get("http.status_code") == 200 for each in table.attribute_sets)


def test_a_file_is_read_back_as_it_was_written(tmp_path, exports):
    path = tmp_path / "traces.otlp"
    otlp.write(path, exports[:1])
    otlp.write(path, exports[1:])
    assert list(otlp.bodies(path)) == exports
    np.testing.assert_array_equal(otlp.read(path).start, otlp.decode(exports).start)


def test_a_file_cut_short_is_read_up_to_the_last_whole_body(tmp_path, exports):
    path = tmp_path / "traces.otlp"
    otlp.write(path, [*exports, exports[0]])
    path.write_bytes(path.read_bytes()[:-10])
    assert list(otlp.bodies(path)) == exports


def test_what_is_no_export_is_left_out(tmp_path, exports):
    path = tmp_path / "traces.otlp"
    path.write_bytes(struct.pack(">I", 5) + b"\xff\xff\xff\xff\xff")
    otlp.write(path, exports)
    assert len(otlp.read(path)) == len(otlp.decode(exports))


def test_no_file_is_no_spans(tmp_path):
    assert len(otlp.read(tmp_path / "traces.otlp")) == 0

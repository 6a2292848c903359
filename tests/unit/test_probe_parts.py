"""The probe's parts on their own: slots, statements, the name of whoever is served."""

import threading

import pytest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from labs.kit.probe_pool import PoolState, PoolWatch
from labs.kit.probe_spans import OUTSIDE, OpenSpans, Spans
from labs.kit.probe_statements import Statements


@pytest.fixture
def watch(monkeypatch):
    """A watch over the pools of this test alone."""
    for name in ("_do_get", "_do_return_conn", "recreate"):
        monkeypatch.setattr(QueuePool, name, getattr(QueuePool, name))
    told = []
    watch = PoolWatch(by=lambda: "GET /feed", tell=told.append)
    watch.install()
    watch.told = told
    return watch


def pool(**settings):
    return create_engine("sqlite://", poolclass=QueuePool, **settings)


def used(watch):
    return [slot is not None for slot in watch.snapshot()["slots"]]


def test_the_smallest_free_slot_is_taken():
    state = PoolState()
    assert [state.take() for _ in range(4)] == [0, 1, 2, 3]
    state.give_back(2)
    state.give_back(0)
    assert [state.take() for _ in range(3)] == [0, 2, 4]


def test_a_process_without_a_pool_has_none_to_show(watch):
    assert watch.snapshot() is None


def test_overflow_connections_get_slots_beyond_the_size(watch):
    engine = pool(pool_size=1, max_overflow=2)
    first, second = engine.connect(), engine.connect()
    assert watch.snapshot()["size"] == 1
    assert watch.snapshot()["max_overflow"] == 2
    assert used(watch) == [True, True]
    first.close()
    assert used(watch) == [False, True]
    second.close()
    assert used(watch) == [False]


def test_a_connection_that_is_invalidated_or_detached_gives_its_slot_back(watch):
    engine = pool(pool_size=2)
    broken, gone = engine.connect(), engine.connect()
    assert used(watch) == [True, True]
    broken.invalidate()
    broken.close()
    gone.detach()
    assert used(watch) == [False, False]
    gone.close()
    assert [line["kind"] for line in watch.told] == ["hold", "hold"]


def test_a_connection_that_cannot_be_made_takes_no_slot(watch):
    def refuse():
        raise OSError("no server")

    engine = create_engine("sqlite://", poolclass=QueuePool, creator=refuse)
    for _ in range(3):
        with pytest.raises((OSError, DBAPIError)):
            engine.connect()
    assert used(watch) == [False] * 5
    assert watch.snapshot()["waiting"] == []
    assert watch.told == []


def test_two_pools_of_one_process_are_shown_together(watch):
    one, two = pool(pool_size=2), pool(pool_size=3)
    with one.connect(), two.connect():
        assert watch.snapshot()["size"] == 5
        assert used(watch) == [True, False, True, False, False]


def test_a_pool_that_nobody_has_any_more_is_forgotten(watch):
    import gc

    engine = pool(pool_size=2)
    engine.connect().close()
    engine.dispose()
    del engine
    gc.collect()
    assert watch.snapshot() is None


def test_a_connection_may_be_returned_by_another_thread(watch):
    engine = pool(pool_size=2, connect_args={"check_same_thread": False})
    connection = engine.connect()
    other = threading.Thread(target=connection.close)
    other.start()
    other.join()
    assert used(watch) == [False, False]
    assert watch.told[0]["by"] == "GET /feed"


def test_every_checkout_of_many_threads_is_told_once_and_no_slot_is_lost(watch):
    engine = pool(pool_size=3, max_overflow=0, pool_timeout=60, connect_args={"check_same_thread": False})

    def work():
        for _ in range(50):
            with engine.connect():
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([line for line in watch.told if line["kind"] == "hold"]) == 400
    assert {line["slot"] for line in watch.told} <= {0, 1, 2}
    assert used(watch) == [False] * 3


@pytest.fixture
def statements():
    statements = Statements()
    statements.install()
    yield statements
    event.remove(Engine, "before_cursor_execute", statements._before)
    event.remove(Engine, "after_cursor_execute", statements._after)


def test_statements_that_differ_in_the_length_of_a_list_are_one(statements):
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        for count in (5, 9):
            marks = ", ".join(f":p{n}" for n in range(count))
            connection.execute(text(f"SELECT 1 WHERE 1 IN ({marks})"), {f"p{n}": n for n in range(count)})
        connection.execute(text("SELECT 1 WHERE 1 IN (:a, :b)"), {"a": 1, "b": 2})
    rows = {row["text"]: row["calls"] for row in statements.rows()}
    assert rows == {"SELECT 1 WHERE 1 IN (...)": 2, "SELECT 1 WHERE 1 IN (?, ?)": 1}


def test_a_failed_statement_is_not_counted(statements):
    with create_engine("sqlite://").connect() as connection, pytest.raises(DBAPIError):
        connection.execute(text("SELECT nothing FROM nowhere"))
    assert statements.rows() == []


def test_changed_says_whether_there_is_news(statements):
    with create_engine("sqlite://").connect() as connection:
        connection.execute(text("SELECT 1"))
    assert statements.changed
    statements.rows()
    assert not statements.changed


def test_work_goes_by_the_name_of_the_request_however_deep():
    kept, provider = OpenSpans(), TracerProvider()
    provider.add_span_processor(kept)
    tracer = provider.get_tracer("test")
    assert kept.by() == OUTSIDE
    with tracer.start_as_current_span("GET /feed", kind=SpanKind.SERVER):
        with tracer.start_as_current_span("a"), tracer.start_as_current_span("b", kind=SpanKind.CLIENT):
            assert kept.by() == "GET /feed"
            assert len(kept.open) == 3
        assert len(kept.serving) == 1
    with tracer.start_as_current_span("a chore of the house"):
        assert kept.by() == OUTSIDE
    assert (kept.open, kept.serving) == ({}, {})


def test_without_export_only_entries_are_recorded():
    spans = Spans("api", endpoint=None)
    with spans.tracer.start_as_current_span("GET /feed", kind=SpanKind.SERVER) as entry:
        with spans.tracer.start_as_current_span("SELECT", kind=SpanKind.CLIENT) as inner:
            assert not inner.is_recording()
        assert entry.is_recording()
        assert spans.kept.by() == "GET /feed"


def test_after_the_end_no_span_starts():
    spans = Spans("api", endpoint=None)
    entry = spans.tracer.start_span("GET /feed", kind=SpanKind.SERVER)
    spans.finish()
    assert dict(entry.attributes) == {"labs.cut_off": True}
    assert not spans.tracer.start_span("GET /feed", kind=SpanKind.SERVER).is_recording()


def test_a_span_that_another_thread_is_just_ending_is_sent_before_the_end(monkeypatch):
    sent, ending, go_on = [], threading.Event(), threading.Event()

    class Slow(SpanProcessor):
        """A queue that is slow to take a span, as on a busy machine."""

        def __init__(self, endpoint):
            self.queued = []

        def on_end(self, span):
            ending.set()
            go_on.wait(10)
            self.queued.append(span.name)

        def force_flush(self):
            sent.extend(self.queued)

    monkeypatch.setattr("labs.kit.probe_spans.Export", Slow)
    spans = Spans("api", endpoint="http://127.0.0.1:9/v1/traces")
    span = spans.tracer.start_span("POST /", kind=SpanKind.SERVER)
    serving = threading.Thread(target=span.end)
    serving.start()
    ending.wait(10)
    threading.Timer(0.1, go_on.set).start()
    spans.finish()
    serving.join()
    assert sent == ["POST /"]

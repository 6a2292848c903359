"""The probe's spans: which request a piece of work belongs to, what is open, and the export that loses nothing."""

import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

OUTSIDE = "outside any request"
"""The name for work that belongs to no request or task: start-up, a background thread."""

ENTRIES = (SpanKind.SERVER, SpanKind.CONSUMER)
QUEUE = 2**19
BATCH = 2048
DELAY_MS = 500
ENDING = 2.0  # wall seconds, at most, that finishing waits for spans which other threads are just ending


class Switch(Sampler):
    """Records everything; or, with tracing off, only enough of a request's entry to know its name.

    A finished process starts no new spans: what it does after its last flush nobody would receive.
    """

    def __init__(self, exported: bool) -> None:
        self.exported = exported
        self.finished = False

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide for one new span."""
        if self.finished:
            decision = Decision.DROP
        elif self.exported:
            decision = Decision.RECORD_AND_SAMPLE
        else:
            decision = Decision.RECORD_ONLY if kind in ENTRIES else Decision.DROP
        return SamplingResult(decision, attributes)

    def get_description(self) -> str:
        """Return the sampler's name."""
        return "labs probe"


class Named(Resource):
    """A resource that computes its hash once: the exporter asks for it with every span, and it costs 15 µs."""

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            self._hash = super().__hash__()
            return self._hash


class OpenSpans(SpanProcessor):
    """Keeps what is open, and for each span the local root: the span by which its request or task came in."""

    def __init__(self) -> None:
        self.open: dict[int, Span] = {}
        self.serving: dict[int, Span] = {}
        self.entered = lambda: None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Note a span and its local root."""
        parent = trace.get_current_span(parent_context)
        root = getattr(parent, "_labs_root", None)
        if root is None:
            root = span
            if span.kind in ENTRIES:
                self.serving[span.context.span_id] = span
                self.entered()
        span._labs_root = root
        self.open[span.context.span_id] = span

    def on_end(self, span: ReadableSpan) -> None:
        """Forget a span that has ended."""
        self.open.pop(span.context.span_id, None)
        self.serving.pop(span.context.span_id, None)

    def by(self) -> str:
        """Return the name of the request or task that the calling thread works for."""
        root = getattr(trace.get_current_span(), "_labs_root", None)
        return root.name if root is not None and root.kind in ENTRIES else OUTSIDE

    def clear(self) -> None:
        """Forget everything: a fork inherits the notes, not the requests."""
        self.open.clear()
        self.serving.clear()


class Export(SpanProcessor):
    """Batches spans to the lab's receiver; the sending thread starts in the process that has spans to send."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._batches: BatchSpanProcessor | None = None
        self._lock = threading.Lock()

    def on_end(self, span: ReadableSpan) -> None:
        """Queue an ended span."""
        batches = self._batches or self._start()
        batches.on_end(span)

    def _start(self) -> BatchSpanProcessor:
        with self._lock:
            if self._batches is None:
                exporter = OTLPSpanExporter(endpoint=self._endpoint, timeout=5)
                self._batches = BatchSpanProcessor(
                    exporter, max_queue_size=QUEUE, schedule_delay_millis=DELAY_MS, max_export_batch_size=BATCH
                )
            return self._batches

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what is queued."""
        return self._batches is None or self._batches.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Send what is queued and stop."""
        if self._batches is not None:
            self._batches.shutdown()

    def after_fork(self) -> None:
        """Start afresh in a forked child: the parent sends what the parent queued."""
        self._batches = None
        self._lock = threading.Lock()


class Spans:
    """The process' tracing, set up once by ``install``."""

    def __init__(self, pod: str, endpoint: str | None, exported: bool = True) -> None:
        self.switch = Switch(exported and endpoint is not None)
        self.kept = OpenSpans()
        self.provider = TracerProvider(sampler=self.switch, resource=Named({"service.name": pod}))
        self._export = Export(endpoint) if self.switch.exported else None
        if self._export is not None:
            self.provider.add_span_processor(self._export)
        # Second: a span that is no longer kept as open has then been queued, which ``finish`` relies on.
        self.provider.add_span_processor(self.kept)
        self.tracer = self.provider.get_tracer("labs.probe")

    def install(self) -> None:
        """Make this the process' tracing and instrument the libraries that are installed."""
        trace.set_tracer_provider(self.provider)
        os.register_at_fork(after_in_child=self._after_fork)
        for instrument in (self._flask, self._celery):
            _attempt(instrument)
        if self.switch.exported:
            for instrument in (self._sqlalchemy, self._requests):
                _attempt(instrument)

    def finish(self) -> None:
        """End every open span, marked ``labs.cut_off``, and send all there is. No span starts after this."""
        self.switch.finished = True
        # The system will end these spans again, which is no news.
        logging.getLogger("opentelemetry.sdk.trace").setLevel(logging.ERROR)
        self._end_all()
        if self._export is not None:
            self._export.force_flush()

    def _end_all(self) -> None:
        """End what is open, youngest first, and wait for what other threads are just starting or ending themselves."""
        until = time.monotonic() + ENDING
        while self.kept.open and time.monotonic() < until:
            for span in sorted(self.kept.open.copy().values(), key=lambda span: span.start_time, reverse=True):
                span.set_attribute("labs.cut_off", True)
                span.end()
            time.sleep(0.002)

    def _after_fork(self) -> None:
        self.kept.clear()
        if self._export is not None:
            self._export.after_fork()

    def _flask(self) -> None:
        from opentelemetry.instrumentation.flask import FlaskInstrumentor

        FlaskInstrumentor().instrument(tracer_provider=self.provider)

    def _celery(self) -> None:
        from opentelemetry.instrumentation.celery import CeleryInstrumentor

        CeleryInstrumentor().instrument(tracer_provider=self.provider)

    def _requests(self) -> None:
        from opentelemetry.instrumentation.requests import RequestsInstrumentor

        RequestsInstrumentor().instrument(tracer_provider=self.provider)

    def _sqlalchemy(self) -> None:
        from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
        from opentelemetry.instrumentation.utils import unwrap
        from sqlalchemy.engine import Engine

        # The instrumentor names 2.0 as its latest SQLAlchemy; the events that it listens to are the same in 2.1.
        SQLAlchemyInstrumentor().instrument(tracer_provider=self.provider, skip_dep_check=True)
        # Its "connect" span covers every checkout, waiting or not. "connection wait" and "connection held" say more.
        unwrap(Engine, "connect")


def _attempt(instrument: Any) -> None:
    """Instrument a library if it is here; the system must run whether or not it can be watched."""
    try:
        instrument()
    except ImportError:
        pass
    except Exception as error:
        print(f"labs probe: {instrument.__name__.strip('_')} is not traced: {error}", file=sys.stderr)

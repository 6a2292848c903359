"""Help for tests that run real processes: a fleet with its recorder, and its files read back."""

import json
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from labs.kit.fleet import Fleet, free_port
from labs.kit.recorder import Recorder

PATIENCE = 60.0


def eventually(condition: Callable[[], Any], what: str = "") -> Any:
    """Wait for ``condition`` to be true, as long as even a loaded machine needs; return its value."""
    until = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < until, f"never came true: {what or condition}"
        time.sleep(0.02)
    return value


@dataclass
class Running:
    """One run: its folder, recorder and fleet."""

    folder: Path
    recorder: Recorder
    fleet: Fleet

    def tiny(self, name: str = "api", probe: bool = True, threads: int = 8, **env: object) -> str:
        """Start the small web application and return its address."""
        port = free_port()
        self.fleet.gunicorn(name, "tests.apps.tiny:app", port, threads=threads, env=env, probe=probe)
        self.fleet.wait_for_port("127.0.0.1", port, timeout=PATIENCE, process=name)
        return f"http://127.0.0.1:{port}"

    def events(self, kind: str, **where: Any) -> list[dict[str, Any]]:
        """Return what is recorded so far of one kind."""
        if self.recorder.process.alive:
            self.recorder.flush()
        lines = [json.loads(line) for line in (self.folder / "events.jsonl").read_text().splitlines()]
        return [
            line
            for line in lines
            if line["kind"] == kind and all(line.get(key) == value for key, value in where.items())
        ]

    def spans(self, name: str | None = None) -> list[Any]:
        """Return the spans received so far."""
        if self.recorder.process.alive:
            self.recorder.flush()
        return [span for span in read_spans(self.folder) if name is None or span.name == name]


@contextmanager
def running(folder: Path, **recorder: Any) -> Iterator[Running]:
    """Give a recorder and a fleet in ``folder``; nothing of it is left running."""
    with Recorder(folder, **recorder) as recording, Fleet(folder, recording) as fleet:
        yield Running(folder, recording, fleet)


def read_spans(folder: Path) -> list[Any]:
    """Return the spans in a run's folder, as protobuf messages."""
    data, at, spans = (folder / "traces.otlp").read_bytes(), 0, []
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        request = ExportTraceServiceRequest.FromString(data[at + 4 : at + 4 + size])
        at += 4 + size
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                spans += scope.spans
    return spans


def attributes(span: Any) -> dict[str, Any]:
    """Return a span's attributes as plain values."""
    return {each.key: getattr(each.value, kind) for each in span.attributes if (kind := each.value.WhichOneof("value"))}


def get(address: str, timeout: float = PATIENCE) -> tuple[int, Any]:
    """Ask and return (status, JSON)."""
    try:
        with urllib.request.urlopen(address, timeout=timeout) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def gone(pids: list[int]) -> bool:
    """Whether none of the processes runs any more."""
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                return False
        except psutil.NoSuchProcess:
            continue
    return True


def family(pid: int) -> list[int]:
    """Return a process' id and those of all its descendants."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]

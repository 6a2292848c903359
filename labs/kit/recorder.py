"""The recorder puts everything observed in a run on one clock, in one folder.

``events.jsonl`` holds an object a line (requests, pools, holds, what Postgres and Redis say, processor time),
``traces.otlp`` the spans as OpenTelemetry exported them, ``run.json`` what was run. It works in a process of its own,
so that a busy kernel neither disturbs it nor is disturbed.
"""

import http.client
import json
import os
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from labs.kit import control
from labs.kit.launcher import LaunchError, Process, launcher

ANSWER_SECONDS = 60.0  # it answers in milliseconds; a machine that is busy beyond measure may take longer
CLOSE_SECONDS = 30.0  # it ends as soon as its senders have hung up


class RecorderError(RuntimeError):
    """The recorder cannot be reached; the sentence says why and what to do."""


class Recorder:
    """Records a run into ``run_dir``, which is made if need be.

    ``postgres_url`` a SQLAlchemy URL, ``redis_url`` with the Redis lists ``queues`` to measure, ``fcm`` the push
    server's ``(url, project)``: each is sampled if given. ``speed``: incident seconds a wall second, noted in
    ``run.json``. ``bucket``: width of the live view's intervals, wall seconds. ``forward``: base URL of another OTLP
    collector that gets the spans too.

    As a context manager it closes itself. Raises LaunchError when its process does not come up.
    """

    def __init__(
        self,
        run_dir: Path,
        postgres_url: str | None = None,
        redis_url: str | None = None,
        queues: Sequence[str] = (),
        fcm: tuple[str, str] | None = None,
        speed: float = 1.0,
        bucket: float = 0.25,
        forward: str | None = None,
    ) -> None:
        self.run_dir = Path(run_dir)
        self.speed = speed
        self._run: dict[str, Any] = {}
        self._http: http.client.HTTPConnection | None = None
        self._asking = threading.Lock()
        (self.run_dir / "logs").mkdir(parents=True, exist_ok=True)
        ports = self.run_dir / "recorder.ports.json"
        ports.unlink(missing_ok=True)
        settings = self.run_dir / "recorder.json"
        control.write(
            settings,
            {
                "run_dir": str(self.run_dir.resolve()), "postgres_url": postgres_url, "redis_url": redis_url,
                "queues": list(queues), "fcm": list(fcm) if fcm else None, "bucket": bucket, "ports": str(ports),
                "forward": forward or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or None,
            },
        )  # fmt: skip
        log = self.run_dir / "logs" / "recorder.log"
        self.process = launcher().start("recorder", "labs.kit.recorder_server", [str(settings)], log=log)
        try:
            found = _wait_for_file(ports, self.process)
        except BaseException:
            self.close()
            raise
        finally:
            # The settings hold the database's password, and have been read by now.
            settings.unlink(missing_ok=True)
            ports.unlink(missing_ok=True)
        self._http_port = found["http"]
        self.lines = f"127.0.0.1:{found['lines']}"
        self.otlp = f"http://127.0.0.1:{found['http']}/v1/traces"

    def describe(
        self, incident: str, knobs: dict[str, Any], clock: str = "00:00:00", started: float | None = None
    ) -> None:
        """Write ``run.json``: what is run, with which knobs, and what the incident's clock showed at ``started``.

        ``started``: wall time (seconds since the epoch) of the incident's time 0, now by default.
        """
        self._run = {
            "incident": incident, "knobs": knobs, "speed": self.speed, "clock": clock,
            "started": time.time() if started is None else started, "ended": None,
        }  # fmt: skip
        control.write(self.run_dir / "run.json", self._run)

    def end(self, at: float | None = None) -> None:
        """Note that the run ended, now or at wall time ``at``; what is recorded after that is clearing away."""
        if self._run:
            self._run["ended"] = time.time() if at is None else at
            control.write(self.run_dir / "run.json", self._run)

    def mark(self, label: str, at: float | None = None) -> None:
        """Note a moment, now or at wall time ``at``, by which charts and panel will show it."""
        self._ask("POST", "/mark", {"at": time.time() if at is None else at, "label": label})

    def live(self) -> dict[str, Any]:
        """Return the state of now: the pods' pools, the last buckets of traffic, the servers' latest samples."""
        return self._ask("GET", "/live")

    def wait_finished(self, token: str, pods: Iterable[str] | None = None, timeout: float = 60.0) -> list[str]:
        """Wait until the probes that were told to finish with ``token`` have sent their last span; return their names.

        ``pods``: the processes to wait for, all by default; one that serves with several workers counts with each. A
        process that is gone, or never served, has nothing to send and is not waited for. Raises RecorderError after
        ``timeout`` wall seconds.
        """
        names = None if pods is None else tuple(pods)
        until = time.monotonic() + timeout
        while True:
            state = self._ask("GET", f"/finished?token={token}")
            late = [pod for pod in state["connected"] if pod not in state["finished"] and _belongs(pod, names)]
            if not late:
                return state["finished"]
            if time.monotonic() > until:
                missing = ", ".join(late)
                raise RecorderError(f"No last span from {missing} within {timeout:g} s; see {self.run_dir}/logs.")
            time.sleep(0.05)

    def flush(self) -> None:
        """Have everything that has arrived written, so that the files can be read while the run goes on."""
        self._ask("POST", "/flush", {})

    def close(self) -> None:
        """End the run: the files are complete when this returns. Safe to call twice."""
        if self.process.alive:
            launcher().signal(self.process, 15)
            if not self.process.wait(CLOSE_SECONDS):
                launcher().signal(self.process, 9)
                self.process.wait(5.0)
        if self._run and self._run["ended"] is None:
            self.end()
        with self._asking:
            if self._http is not None:
                self._http.close()
                self._http = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        payload = None if body is None else json.dumps(body)
        with self._asking:
            for attempt in (1, 2):
                try:
                    if self._http is None:
                        self._http = http.client.HTTPConnection("127.0.0.1", self._http_port, timeout=ANSWER_SECONDS)
                    self._http.request(method, path, payload, {"Content-Type": "application/json"} if body else {})
                    answer = self._http.getresponse()
                    return json.loads(answer.read())
                except (OSError, http.client.HTTPException) as error:
                    # A kept connection that idled may be closed by now: the second try has a fresh one.
                    if self._http is not None:
                        self._http.close()
                    self._http = None
                    if attempt == 2:
                        raise RecorderError(
                            f"The recorder does not answer ({error}); its log is {self.process.log}."
                        ) from error
        raise RecorderError("unreachable")


def token() -> str:
    """Return a new token for the probes' "finish"."""
    return uuid.uuid4().hex


def _belongs(pod: str, names: tuple[str, ...] | None) -> bool:
    return names is None or any(pod == name or pod.startswith(f"{name}.") for name in names)


def _wait_for_file(path: Path, process: Process, timeout: float = 30.0) -> dict[str, Any]:
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        try:
            return control.read(path)
        except FileNotFoundError:
            if not process.alive:
                raise LaunchError(f"The recorder ended at once:\n{process.tail()}") from None
            time.sleep(0.005)
    raise LaunchError(f"The recorder did not come up within {timeout:g} s; its log is {process.log}.")

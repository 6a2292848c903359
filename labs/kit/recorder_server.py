"""The recorder's own process: takes in lines and spans, looks at the servers, writes the run's files.

Run as ``python -m labs.kit.recorder_server SETTINGS.json``; the settings file says what to sample and where to tell
the two ports. What arrives is written as it is and read only later, so that recording costs the machine little.
"""

import asyncio
import contextlib
import json
import os
import signal
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from labs.kit import control, samplers
from labs.kit.live import Live

FLUSH = 0.25
LARGEST = 64 * 2**20
ON_THE_WAY = 0.05  # wall seconds for a connection that was made just before the end to be taken in
LAST_WORDS = 5.0  # wall seconds, at most, to wait for senders to hang up
LIVE_ONLY = ("hello", "due", "finished")
"""Kinds that steer the recorder and are not part of the recording."""


class Files:
    """``events.jsonl`` and ``traces.otlp`` of one run, written in batches."""

    def __init__(self, folder: Path) -> None:
        self._events = (folder / "events.jsonl").open("ab")
        self._traces = (folder / "traces.otlp").open("ab")

    def line(self, line: bytes) -> None:
        """Append one line, without its end."""
        self._events.write(line + b"\n")

    def spans(self, body: bytes) -> None:
        """Append one OTLP export request, after its length in 4 bytes, big endian."""
        self._traces.write(struct.pack(">I", len(body)) + body)

    def flush(self) -> None:
        """Hand what is buffered to the operating system."""
        self._events.flush()
        self._traces.flush()

    def close(self) -> None:
        """Flush and close."""
        self._events.close()
        self._traces.close()


class Forwarder:
    """Sends spans on to another collector, best effort: what it cannot take in time is left out."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: str) -> None:
        self._session = session
        self._address = f"{endpoint.rstrip('/')}/v1/traces"
        self._bodies: asyncio.Queue[bytes] = asyncio.Queue(maxsize=256)

    def offer(self, body: bytes) -> None:
        """Queue one export request."""
        with contextlib.suppress(asyncio.QueueFull):
            self._bodies.put_nowait(body)

    async def run(self) -> None:
        """Send for ever."""
        while True:
            body = await self._bodies.get()
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                headers = {"Content-Type": "application/x-protobuf"}
                async with self._session.post(self._address, data=body, headers=headers) as answer:
                    await answer.read()


class Server:
    """One run's recorder."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._files = Files(Path(settings["run_dir"]))
        self._live = Live(settings["bucket"])
        self._processes = samplers.ProcessSampler()
        self._pods: dict[int, str] = {}
        self._finished: dict[str, set[str]] = {}
        self._complained: dict[str, float] = {}
        self._forwarder: Forwarder | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until SIGTERM, then write what there is and end."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        lines = await asyncio.start_server(self._talk, "127.0.0.1", 0, limit=LARGEST)
        runner = await self._serve_http()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            tasks = [asyncio.create_task(work) for work in self._work(session)]
            control.write(
                self._settings["ports"],
                {"lines": lines.sockets[0].getsockname()[1], "http": runner.addresses[0][1]},
            )
            await stop.wait()
            await self._hear_out()
            lines.close()
            ending = [*tasks, *self._talks]
            for task in ending:
                task.cancel()
            # A client library may swallow a cancellation that meets a time-out of its own, and its task then goes on.
            await asyncio.wait(ending, timeout=LAST_WORDS)
        await runner.cleanup()
        self._files.close()

    async def _hear_out(self) -> None:
        """Take in what has been sent: peers that hang up are heard to the end, the others for ``LAST_WORDS``."""
        await asyncio.sleep(ON_THE_WAY)
        if self._talks:
            await asyncio.wait(self._talks, timeout=LAST_WORDS)

    def _work(self, session: aiohttp.ClientSession) -> list[Awaitable[None]]:
        """Everything that goes on in the background, as the settings ask."""
        settings, work = self._settings, [self._flush_now_and_then()]
        work.append(self._sample("processes", 0.5, _in_thread(self._processes.look)))
        if settings["postgres_url"]:
            postgres = samplers.PostgresSampler(settings["postgres_url"])
            work.append(self._sample("postgres", 0.25, _in_thread(postgres.look), postgres.close))
        if settings["redis_url"]:
            redis = samplers.RedisSampler(settings["redis_url"], settings["queues"])
            work.append(self._sample("redis", 0.25, redis.look))
        if settings["fcm"]:
            work.append(self._sample("fcm", 0.25, samplers.FcmSampler(session, *settings["fcm"]).look))
        if settings["forward"]:
            self._forwarder = Forwarder(session, settings["forward"])
            work.append(self._forwarder.run())
        return work

    # Lines

    def note(self, line: dict[str, Any]) -> None:
        """Write a line of the recorder's own and show it in the live view."""
        self._files.line(json.dumps(line, separators=(",", ":")).encode())
        self._live.take(line)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._talks.add(task)
        try:
            while line := await reader.readline():
                # The last line of a peer that was cut off may be half a line.
                if line.endswith(b"\n"):
                    self._take(line[:-1], id(writer))
        except (ConnectionError, ValueError, asyncio.CancelledError):
            pass
        finally:
            self._talks.discard(task)
            self._pods.pop(id(writer), None)
            writer.close()

    def _take(self, raw: bytes, peer: int) -> None:
        # Finished checkouts are the most frequent lines and nobody live needs them: they are not even parsed.
        if raw.startswith(b'{"kind":"hold"'):
            self._files.line(raw)
            return
        try:
            line = json.loads(raw)
            kind = line["kind"]
        except (ValueError, KeyError, TypeError):
            self._complain("line", f"not an event: {raw[:80]!r}")
            return
        if kind == "hello":
            self._pods[peer] = line["pod"]
        elif kind == "finished":
            self._finished.setdefault(line["token"], set()).add(line["pod"])
        elif kind == "fleet":
            self._name_processes(line)
        if kind not in LIVE_ONLY:
            self._files.line(raw)
        try:
            self._live.take(line)
        except (KeyError, TypeError, ValueError):
            self._complain("line", f"misses a field: {raw[:80]!r}")

    def _name_processes(self, line: dict[str, Any]) -> None:
        if line["event"] == "started":
            self._processes.names[line["pid"]] = line["name"]
        else:
            self._processes.names.pop(line["pid"], None)

    # Samples

    async def _sample(
        self,
        what: str,
        every: float,
        look: Callable[[], Awaitable[list[dict[str, Any]]]],
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """Look every ``every`` wall seconds for ever; a look that fails is noted and does no harm."""
        try:
            while True:
                try:
                    for line in await look():
                        self.note(line)
                except asyncio.CancelledError:
                    raise
                except Exception as error:
                    self._complain(what, f"{type(error).__name__}: {error}")
                await asyncio.sleep(every)
        finally:
            close()

    def _complain(self, what: str, error: str) -> None:
        """Note that a sampler failed, at most once a second for each."""
        now = time.time()
        if now - self._complained.get(what, 0.0) >= 1.0:
            self._complained[what] = now
            self.note({"kind": "sampler_error", "at": now, "sampler": what, "error": error.strip()[:300]})

    async def _flush_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(FLUSH)
            self._files.flush()

    # HTTP

    async def _serve_http(self) -> web.AppRunner:
        application = web.Application(client_max_size=LARGEST)
        application.add_routes(
            [
                web.post("/v1/traces", self._take_spans),
                web.get("/live", self._show_live),
                web.get("/finished", self._show_finished),
                web.post("/mark", self._take_mark),
                web.post("/flush", self._flush_files),
            ]
        )
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=0.2).start()
        return runner

    async def _take_spans(self, request: web.Request) -> web.Response:
        # A compressed body arrives here unpacked: the server does that by its Content-Encoding.
        body = await request.read()
        self._files.spans(body)
        if self._forwarder is not None:
            self._forwarder.offer(body)
        return web.Response(content_type="application/x-protobuf")

    async def _show_live(self, _: web.Request) -> web.Response:
        return web.json_response(self._live.now())

    async def _show_finished(self, request: web.Request) -> web.Response:
        """Who has answered the token, and whose line is still open: a pod that is dead is not waited for."""
        finished = sorted(self._finished.get(request.query["token"], ()))
        return web.json_response({"finished": finished, "connected": sorted(set(self._pods.values()))})

    async def _take_mark(self, request: web.Request) -> web.Response:
        mark = await request.json()
        self.note({"kind": "mark", "at": mark["at"], "label": mark["label"]})
        return web.json_response({})

    async def _flush_files(self, _: web.Request) -> web.Response:
        self._files.flush()
        return web.json_response({})


def _in_thread(look: Callable[[], list[dict[str, Any]]]) -> Callable[[], Awaitable[list[dict[str, Any]]]]:
    return lambda: asyncio.to_thread(look)


def main() -> None:
    """Record as the settings file named by the first argument says."""
    asyncio.run(_run(control.read(sys.argv[1])))


async def _run(settings: dict[str, Any]) -> None:
    await Server(settings).run()
    # The files are complete. A look that hangs in its thread, at a server that was stopped, is not waited for.
    os._exit(0)


if __name__ == "__main__":
    main()

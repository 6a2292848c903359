"""The panel on the live system of incident 1: how often it draws, how soon a slider arrives, what its kernel costs.

Measured inside a notebook kernel, where the drawings are also packed for the browser.
"""

import itertools
import json
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from labs import PROJECT
from labs.cli.benches import Row

LIVE_SECONDS = 6.0
START_PATIENCE = 90.0  # wall seconds for the servers, the data and the pods

OPEN = """
import json, time
from labs.fanout import live
panel = live.panel()
"""
STATE = "print(json.dumps(panel.snapshot().get('pool') is not None))"
WATCH = """
drawn = []
panel.observe(lambda change: drawn.append(time.monotonic()), 'state')
"""
SLIDERS = """
moved = []
for followers in (200, 45_312):
    began = time.monotonic(); panel.change('followers', followers); moved.append(time.monotonic() - began)
for latency in (90, 45):
    began = time.monotonic(); panel.change('fcm_latency_ms', latency); moved.append(time.monotonic() - began)
print(json.dumps([drawn, moved]))
"""


def update() -> list[Row]:
    """Return seconds between two drawings, seconds until a slider has reached the system, and the kernel's share.

    Raises RuntimeError when the panel's system does not come up.
    """
    with _kernel() as (client, process):
        _run(client, OPEN)
        until = time.monotonic() + START_PATIENCE
        while not _run(client, STATE):
            if time.monotonic() > until:
                raise RuntimeError("the panel's system did not come up")
            time.sleep(0.5)
        _run(client, WATCH)
        share = _share_of_a_core(process)
        drawn, moved = _run(client, SLIDERS)
        _run(client, "panel.close()")
    gaps = [later - earlier for earlier, later in itertools.pairwise(drawn)]
    return [
        Row("panel, from one drawing to the next", statistics.median(gaps), most=0.25),
        Row("panel, kernel's share of a core while live", share, "share", most=0.2),
        Row("panel, a moved slider has reached the system", max(moved), most=1.0),
    ]


def _share_of_a_core(process: psutil.Process) -> float:
    used, began = sum(process.cpu_times()[:2]), time.monotonic()
    time.sleep(LIVE_SECONDS)
    return (sum(process.cpu_times()[:2]) - used) / (time.monotonic() - began)


@contextmanager
def _kernel() -> Iterator[tuple[Any, psutil.Process]]:
    """Give a client of a fresh kernel, and the kernel's process."""
    from jupyter_client.manager import start_new_kernel

    folder = str(PROJECT / "notebooks")
    manager, client = start_new_kernel(kernel_name="python3", cwd=folder, stderr=subprocess.DEVNULL)
    try:
        yield client, psutil.Process(manager.provisioner.pid)
    finally:
        client.stop_channels()
        manager.shutdown_kernel()


def _run(client: Any, code: str) -> Any:
    """Run ``code`` in the kernel; return what it printed, read as JSON. Raises RuntimeError where it raised."""
    said: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
            said.append(message["content"]["text"])

    answer = client.execute_interactive(code, timeout=START_PATIENCE, output_hook=hear)["content"]
    if answer["status"] != "ok":
        raise RuntimeError(f"{answer['ename']}: {answer['evalue']}")
    return json.loads("".join(said)) if said else None

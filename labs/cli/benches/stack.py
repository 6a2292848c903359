"""The servers: how long they take to start, and a reset."""

import statistics
import time

from labs import stack
from labs.cli.benches import Row

STARTS = 3
RESETS = 5


def start_and_reset() -> list[Row]:
    """Start and stop the servers of an empty home a few times, then reset a running one; medians, wall seconds."""
    starts = []
    for _ in range(STARTS):
        started = time.monotonic()
        stack.up()
        starts.append(time.monotonic() - started)
        stack.down()
    stack.up()
    resets = [_timed(stack.reset) for _ in range(RESETS)]
    return [
        Row("servers started, each ready for queries", statistics.median(starts), most=3.0),
        Row("reset to a clean state", statistics.median(resets), most=1.0),
    ]


def _timed(action) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started

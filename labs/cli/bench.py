"""Measures the workbook against its budgets, each figure beside a peer measured in the same run.

A benchmark is a small function in one of the modules of ``labs.cli.benches``; it returns rows. Register it in
BENCHMARKS below. Nothing here fails because a machine is slow: figures are printed with the conditions they hold for.
"""

import argparse
import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from labs.cli import apart
from labs.cli.benches import Row

# name: (module:function, what it measures, whether it installs packages)
BENCHMARKS = {
    "install": ("install:fresh_clone", "a fresh clone to JupyterLab open, against the bare installation", True),
    "stack": ("stack:start_and_reset", "the servers' start, and a reset", False),
    "fcm": ("fcm:throughput", "the mock push server against a static one and against the workbook's client", False),
    "fleet": ("fleet:start_of_forty", "forty processes, forked from a warmed parent and started cold", False),
    "route": ("fanout:fixed_route", "the route at 12 and at 45,312 followers, published fix and last step", False),
    "batches": ("sends:batches", "45,312 notifications by the published batches, and with several in flight", False),
    "sends": ("sends:one_each", "45,312 notifications, one request each: the courier and the official client", False),
    "tracing": ("fanout:tracing", "the fixed route with and without spans recorded", False),
    "notebooks": ("lessons:top_to_bottom", "each notebook from top to bottom", False),
    "panel": ("panel:update", "one update of the panel, and the processor time of a live one", False),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `labs bench` takes."""
    parser.add_argument("names", nargs="*", metavar="benchmark", help=f"which ones: {', '.join(BENCHMARKS)}")
    parser.add_argument("--install", action="store_true", help="also measure the installation: minutes, and a download")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE as well; - prints them")


def main(args: argparse.Namespace) -> int:
    """Run the benchmarks that ``args`` name; return 0, or 1 when one could not be measured, 2 for a wrong name."""
    unknown = [name for name in args.names if name not in BENCHMARKS]
    if unknown:
        print(f"{unknown[0]} is no benchmark; there are: {', '.join(BENCHMARKS)}.", file=sys.stderr)
        return 2
    names = args.names or [name for name, (_, _, slow) in BENCHMARKS.items() if args.install or not slow]
    before = conditions()
    print(described(before), flush=True)
    rows, broken = measure(names)
    print(f"\n{table(rows)!r}")
    print(f"\nload average at the end: {os.getloadavg()[0]:.1f}")
    for name, why in broken.items():
        print(f"{name} could not be measured: {why}", file=sys.stderr)
    if args.json:
        write(args.json, {"conditions": before, "rows": [asdict(row) for row in rows], "broken": broken})
    return 1 if broken else 0


def measure(names: Sequence[str]) -> tuple[list[Row], dict[str, str]]:
    """Run each benchmark in turn, each in a workbook of its own; return their rows, and why any could not be run."""
    rows: list[Row] = []
    broken: dict[str, str] = {}
    for name in names:
        place, what, _ = BENCHMARKS[name]
        print(f"-- {name}: {what}", flush=True)
        module, _, function = place.partition(":")
        started = time.monotonic()
        try:
            with apart.own_home():
                found = getattr(importlib.import_module(f"labs.cli.benches.{module}"), function)()
        except Exception as error:  # one that cannot run must not take the others' figures with it
            broken[name] = f"{type(error).__name__}: {error}"
            continue
        rows += found
        print(f"   {time.monotonic() - started:.1f} s", flush=True)
    return rows, broken


def conditions() -> dict[str, Any]:
    """Return what the figures hold for: platform, Python, cores this process may use, load average (1 minute)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": cores,
        "load_average": round(os.getloadavg()[0], 2),
        "services": os.environ.get("LABS_SERVICES", "embedded"),
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def described(before: dict[str, Any]) -> str:
    """Return the conditions as a line; a busy machine is said to be busy."""
    line = (
        f"{before['platform']}, Python {before['python']}, {before['cores']} cores, "
        f"load average {before['load_average']:.1f}, servers: {before['services']}"
    )
    busy = before["load_average"] > 0.5 * (before["cores"] or 1)
    return f"{line}\nThe machine is busy with something else: the figures will be worse than its own." if busy else line


def table(rows: Sequence[Row]) -> Any:
    """Return the rows as a table: figure, peer, ratio, budget and whether it is kept."""
    from labs.kit.table import Table

    columns = ("measured", "figure", "against", "its figure", "ratio", "budget", "kept")
    return Table(columns, [row.cells() for row in rows])


def write(place: str, figures: dict[str, Any]) -> None:
    """Write ``figures`` as JSON to the file ``place``, or to the terminal for "-"."""
    text = json.dumps(figures, indent=2)
    if place == "-":
        print(text)
        return
    with open(place, "w", encoding="utf-8") as file:
        file.write(text + "\n")

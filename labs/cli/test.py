"""Runs everything that proves the workbook: tests, notebooks, and on request browser, Compose and soak runs."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

from labs import PROJECT
from labs.cli import apart, notebooks, render

CELL_TIMEOUT = 180  # wall seconds; a kernel that died is noticed only when this has passed
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(200_000))"
# A test may be skipped where it cannot mean anything; any other skip is a test that did not run.
MAY_SKIP = ("only on Linux", "only on macOS")


@dataclass(frozen=True)
class Outcome:
    """What one part came to: how many tests passed, failed and did not run, in how many wall seconds.

    ``complaint``: why the part failed although no single test did, or an empty text.
    """

    part: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    complaint: str = ""

    @property
    def ok(self) -> bool:
        """Whether every test of the part ran and passed."""
        return not (self.failed or self.complaint)


@dataclass(frozen=True)
class Part:
    """One part of the whole: its name and what runs it."""

    name: str
    run: Callable[[], Outcome]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `labs test` takes."""
    parser.add_argument("names", nargs="*", metavar="notebook", help="run only these, and the parts asked for")
    parser.add_argument("--quick", action="store_true", help="leave out notebooks and tests that start systems")
    parser.add_argument("--thorough", action="store_true", help="add the tests that replay whole outages many times")
    parser.add_argument("--browser", action="store_true", help="add the tests in a real Chromium")
    parser.add_argument("--compose", action="store_true", help="add the tests that need a container engine")
    parser.add_argument("--services", choices=("embedded", "compose", "url"), help="where the servers come from")
    parser.add_argument(
        "--soak", type=int, default=0, metavar="N", help="run each notebook N times in a row beside a busy core"
    )


def main(args: argparse.Namespace) -> int:
    """Run the parts that ``args`` ask for; return 0 only if every one ran and passed."""
    try:
        parts = parts_for(args)
    except notebooks.NoSuchNotebook as error:
        print(error, file=sys.stderr)
        return 2
    started = time.monotonic()
    with apart.own_home(args.services):
        outcomes = [_announced(part) for part in parts]
    print(summary(outcomes, time.monotonic() - started), flush=True)
    return 0 if outcomes and all(outcome.ok for outcome in outcomes) else 1


def parts_for(args: argparse.Namespace) -> list[Part]:
    """Return the parts in their order, the quick ones first."""
    committed = notebooks.chosen(args.names)
    paths = [] if args.quick else committed
    parts = []
    if not args.names:
        parts.append(Part("style", style))
        wanted = "not compose and not browser and not slow" + (" and not live" if args.quick else "")
        parts.append(pytest_part("unit, contract, fault", ["-m", wanted, "tests"]))
    parts.append(Part("list of notebooks", lambda: listing(committed)))
    parts += [notebook_part(path) for path in paths]
    if args.soak:
        parts += [soak_part(path, args.soak) for path in paths]
    if args.thorough:
        parts.append(pytest_part("whole outages", ["-m", "slow", "tests"]))
    if args.browser:
        parts.append(pytest_part("browser", ["-m", "browser", "tests"]))
    if args.compose:
        parts.append(pytest_part("compose", ["-m", "compose", "tests"]))
    return parts


def style() -> Outcome:
    """Run the linter over the package, the tests and the notebooks."""
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--quiet", "."], cwd=PROJECT, check=False)
    return Outcome("style", passed=int(done.returncode == 0), failed=int(done.returncode != 0))


def listing(paths: Sequence[Path]) -> Outcome:
    """Compare the notebooks on disk with the list of those that are run; look into those of ``paths`` as committed."""
    found = notebooks.listing_findings()
    for path in paths:
        found += [f"{notebooks.shown(path)}: {sentence}" for sentence in render.file_findings(path)]
    print("\n".join(found) or "each is listed, executed from top to bottom and fit to compare")
    return Outcome("list of notebooks", passed=0 if found else len(paths), failed=len(found))


def pytest_part(name: str, arguments: Sequence[str]) -> Part:
    """Return the part that runs pytest with ``arguments``."""
    return Part(name, lambda: run_pytest(name, arguments))


def notebook_part(path: Path, cell_timeout: float = CELL_TIMEOUT) -> Part:
    """Return the part that runs the notebook at ``path`` and compares its verdicts with the committed ones.

    One process a notebook, one after the other: they measure, so they never share the machine. ``--nbval-lax``
    compares the cells tagged nbval-check-output and no others. ``cell_timeout``: wall seconds.
    """
    arguments = [
        "--nbval-lax",
        "--nbval-current-env",
        f"--nbval-cell-timeout={cell_timeout}",
        "--timeout=0",
        "-p",
        "labs.cli.nbval_plugin",
        "-p",
        "no:cacheprovider",
        str(path),
    ]
    return Part(path.stem, lambda: all_must_run(run_pytest(path.stem, arguments)))


def soak_part(path: Path, times: int) -> Part:
    """Return the part that runs the notebook at ``path`` ``times`` in a row beside a busy core, until one fails."""
    once = notebook_part(path)
    name = f"{path.stem}, {times} times"

    def repeat() -> Outcome:
        total = Outcome(name)
        with busy_core():
            for number in range(1, times + 1):
                outcome = once.run()
                total = replace(
                    total,
                    passed=total.passed + outcome.ok,
                    failed=total.failed + (not outcome.ok),
                    seconds=total.seconds + outcome.seconds,
                )
                print(f"{path.stem}: run {number} of {times} {'passed' if outcome.ok else 'failed'}", flush=True)
                if not outcome.ok:
                    break
        return total

    return Part(name, repeat)


@contextmanager
def busy_core() -> Iterator[None]:
    """Keep one core busy while the block runs, as a noisy neighbour would. The process ends with its parent."""
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def run_pytest(name: str, arguments: Sequence[str]) -> Outcome:
    """Run pytest in a process of its own and return what its report says."""
    report = Path(os.environ["LABS_HOME"]) / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", f"--junitxml={report}", *arguments]
    started = time.monotonic()
    code = subprocess.run(command, cwd=PROJECT, check=False).returncode
    return replace(read_report(name, report, code), seconds=time.monotonic() - started)


def read_report(name: str, report: Path, code: int) -> Outcome:
    """Return the outcome that pytest wrote to ``report`` (JUnit XML) when it ended with exit ``code``."""
    if not report.is_file():
        return Outcome(name, complaint=f"pytest ended with code {code} and no report")
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
    skips = [case.find("skipped") for case in cases if case.find("skipped") is not None]
    unexpected = [skip for skip in skips if not str(skip.get("message")).startswith(MAY_SKIP)]
    passed = len(cases) - failed - len(skips)
    complaint = ""
    if code and not failed:
        complaint = "no test was found" if code == 5 else f"pytest ended with code {code}"
    elif unexpected and not failed:
        complaint = f"{len(unexpected)} did not run: {unexpected[0].get('message')}"
    return Outcome(name, passed=passed, failed=failed, skipped=len(skips), complaint=complaint)


def all_must_run(outcome: Outcome) -> Outcome:
    """Return ``outcome``, failed when a cell was left out: after a time-out nbval expects the rest to fail."""
    if outcome.skipped and outcome.ok:
        return replace(outcome, complaint=f"{outcome.skipped} cells did not run")
    return outcome


def _announced(part: Part) -> Outcome:
    print(f"\n== {part.name}", flush=True)
    started = time.monotonic()
    outcome = part.run()
    return outcome if outcome.seconds else replace(outcome, seconds=time.monotonic() - started)


def summary(outcomes: Sequence[Outcome], seconds: float) -> str:
    """Return the closing table: a line a part, and one that says whether everything passed."""
    from labs.kit.table import Table

    rows = [
        (o.part, "passed" if o.ok else "FAILED", o.passed, o.failed, o.skipped, f"{o.seconds:.1f} s", o.complaint)
        for o in outcomes
    ]
    table = Table(("part", "result", "passed", "failed", "skipped", "took", ""), rows)
    bad = [o.part for o in outcomes if not o.ok]
    closing = f"failed: {', '.join(bad)}" if bad else f"all {len(outcomes)} parts passed"
    return f"\n{table!r}\n\nlabs test: {closing}, {seconds:.0f} s"

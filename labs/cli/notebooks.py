"""The notebooks as files: which there are, which are listed, and what a reader would stumble over in one."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from labs import PROJECT

FOLDER = PROJECT / "notebooks"
LISTING = PROJECT / "tests" / "notebooks" / "listed.txt"

SIZE_LIMIT = 1_500_000  # bytes of one notebook on disk: above that code hosts stop drawing it
LINES_LIMIT = 25  # lines of code in one cell
CHECKED = "nbval-check-output"  # the tag of a cell whose output is compared
SKIPPED = "nbval-skip"  # would leave a cell out silently
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


class NoSuchNotebook(ValueError):
    """A name that fits no listed notebook; the message lists those there are."""


def listed() -> list[Path]:
    """Return the notebooks to render and to test, in their order, from the list under tests/notebooks."""
    lines = (line.partition("#")[0].strip() for line in LISTING.read_text(encoding="utf-8").splitlines())
    return [PROJECT / line for line in lines if line]


def on_disk() -> list[Path]:
    """Return every notebook under notebooks/, sorted, checkpoints left out."""
    return sorted(path for path in FOLDER.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def listing_findings() -> list[str]:
    """Return a sentence for each notebook that is not listed and for each listed one that is not there."""
    names, there = listed(), on_disk()
    place = LISTING.relative_to(PROJECT)
    found = [f"{shown(path)} is not in {place}, so nothing would run it." for path in there if path not in names]
    found += [f"{shown(path)} is in {place} and does not exist." for path in names if path not in there]
    found += [f"{shown(path)} stands in {place} more than once." for path in {p for p in names if names.count(p) > 1}]
    return found


def chosen(names: Sequence[str]) -> list[Path]:
    """Return the listed notebooks that ``names`` mean, in the list's order; all of them for no names.

    A name is a path, a file name, or how a file name begins: "01". Raises NoSuchNotebook when nothing fits.
    """
    everything = listed()
    if not names:
        return everything
    wanted: set[Path] = set()
    for name in names:
        fitting = {path for path in everything if Path(name).resolve() == path or path.name.startswith(Path(name).name)}
        if not fitting:
            there = ", ".join(path.stem for path in everything) or "none"
            raise NoSuchNotebook(f"{name} is no listed notebook; there are: {there}.")
        wanted |= fitting
    return [path for path in everything if path in wanted]


def shown(path: Path) -> str:
    """Return ``path`` as seen from the project, for messages."""
    return str(path.relative_to(PROJECT)) if path.is_relative_to(PROJECT) else str(path)


def strip(notebook: Any) -> None:
    """Take out of ``notebook`` (a NotebookNode, changed in place) what differs from run to run without meaning.

    Outputs, their order and the execution counts stay. Widget state goes, and with it the views that would point
    to it: what is left is the output's picture or text, which a code host can draw.
    """
    notebook.metadata.pop("widgets", None)
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata["language_info"] = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"}
    for cell in notebook.cells:
        for volatile in ("execution", "collapsed", "scrolled", "ExecuteTime", "trusted"):
            cell.metadata.pop(volatile, None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_without_view, cell.outputs) if output is not None]


def _without_view(output: Any) -> Any | None:
    data = output.get("data")
    if not data or WIDGET_VIEW not in data:
        return output
    del data[WIDGET_VIEW]
    return output if data else None


def findings(notebook: Any, size: int) -> Iterator[str]:
    """Yield a sentence for each thing in an executed ``notebook`` that would mislead a reader or a test.

    ``size``: bytes on disk. nbval skips comparing a cell without an execution count, so that a notebook committed
    unexecuted would pass whatever it did: here it is found.
    """
    if size > SIZE_LIMIT:
        yield f"{size / 1e6:.1f} MB on disk; the limit is {SIZE_LIMIT / 1e6:.1f} MB."
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "its kernel is not named python3."
    if notebook.metadata.get("widgets"):
        yield "it carries the state of widgets; labs render takes that out."
    expected = 0
    checked = False
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        expected += 1
        checked = checked or CHECKED in cell.metadata.get("tags", [])
        yield from (f"cell {index} {what}" for what in _cell_findings(cell, expected))
    if not checked:
        yield f"no cell has the tag {CHECKED}, so no output would be compared."


def _cell_findings(cell: Any, expected: int) -> Iterator[str]:
    tags = cell.metadata.get("tags", [])
    if cell.execution_count is None:
        yield "has no execution count: nbval would skip comparing it."
    elif cell.execution_count != expected:
        yield f"has execution count {cell.execution_count} where a run from top to bottom gives {expected}."
    if SKIPPED in tags or "NBVAL_SKIP" in cell.source or "NBVAL_IGNORE_OUTPUT" in cell.source:
        yield "is left out of the comparison."
    if CHECKED in tags and not _has_text(cell.outputs):
        yield f"has the tag {CHECKED} and no plain text: nothing else is compared."
    if any(output.output_type == "error" for output in cell.outputs) and "raises-exception" not in tags:
        yield "shows an error."
    if len([line for line in cell.source.splitlines() if line.strip()]) > LINES_LIMIT:
        yield f"has more than {LINES_LIMIT} lines."
    for place in _machine_paths(cell.outputs):
        yield f"shows a path of one machine: {place}"


def _has_text(outputs: Iterable[Any]) -> bool:
    return any(output.get("text") or output.get("data", {}).get("text/plain") for output in outputs)


def _machine_paths(outputs: Iterable[Any]) -> set[str]:
    places = re.compile("|".join(rf"{re.escape(str(place))}/[\w./-]*" for place in (PROJECT, Path.home())))
    return {match for output in outputs for text in _texts(output) for match in places.findall(text)}


def _texts(output: Any) -> Iterator[str]:
    yield output.get("text", "")
    yield from output.get("traceback", [])
    for kind, data in output.get("data", {}).items():
        if isinstance(data, str) and not kind.startswith("image/png"):
            yield data

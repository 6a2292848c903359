"""Executes notebooks in place, as they are committed: outputs kept, what varies without meaning taken out."""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from labs.cli import apart, ledger, notebooks
from labs.kit.ledger import LedgerError

CELL_TIMEOUT = 120  # wall seconds for one cell; the budget is 20


class NotRendered(RuntimeError):
    """A notebook that could not be rendered; the message says which cell and why. Its file is unchanged."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `labs render` takes."""
    parser.add_argument("names", nargs="*", metavar="notebook", help='which ones ("01" will do); all by default')
    parser.add_argument(
        "--check", action="store_true", help="execute nothing; tell whether the files are as render leaves them"
    )
    parser.add_argument(
        "--ledger", action="store_true", help="execute nothing; write data/claims.csv from the notebooks as they are"
    )


def main(args: argparse.Namespace) -> int:
    """Render or check the notebooks named in ``args``; return the exit code, 1 when one failed."""
    try:
        paths = notebooks.chosen(args.names)
    except notebooks.NoSuchNotebook as error:
        print(error, file=sys.stderr)
        return 2
    if args.check:
        return check(paths)
    if args.ledger:
        return write_ledger()
    with apart.own_home():
        failed = render_all(paths)
    return max(failed, write_ledger())


def check(paths: list[Path]) -> int:
    """Print what is wrong with each notebook and the ledger as they stand on disk; return 1 if anything is."""
    found = 0
    for path in paths:
        sentences = file_findings(path)
        found += len(sentences)
        print(f"{notebooks.shown(path)}: {'not fit to commit' if sentences else 'as rendered'}")
        for sentence in sentences:
            print(f"  {sentence}")
    wrong = ledger.findings()
    print(f"{notebooks.shown(ledger.CLAIMS)}: {'not what the notebooks say' if wrong else 'as the notebooks say'}")
    for sentence in wrong:
        print(f"  {sentence}")
    return 1 if found or wrong else 0


def file_findings(path: Path) -> list[str]:
    """Return a sentence for each thing wrong with the notebook at ``path``; an empty list when all is well."""
    import nbformat

    if not path.is_file():
        return ["there is no such file."]
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        return [f"it is no valid notebook: {str(error).splitlines()[0]}"]
    return list(notebooks.findings(notebook, path.stat().st_size))


def render_all(paths: list[Path]) -> int:
    """Render each notebook in turn, never two at once: they measure. Return 1 if one failed."""
    failed = 0
    for path in paths:
        started = time.monotonic()
        try:
            size = render(path, progress=True)
        except NotRendered as error:
            failed += 1
            print(f"\n{notebooks.shown(path)}: not rendered. {error}", file=sys.stderr)
            continue
        took = time.monotonic() - started
        print(f"\r{notebooks.shown(path)}: {took:.0f} s, {size / 1e3:.0f} kB          ")
    return 1 if failed else 0


def write_ledger() -> int:
    """Write the ledger from what the notebooks on disk show; return 1 if they contradict each other."""
    try:
        changed = ledger.update()
    except LedgerError as error:
        print(f"{notebooks.shown(ledger.CLAIMS)}: not written. {error}", file=sys.stderr)
        return 1
    print(f"{notebooks.shown(ledger.CLAIMS)}: {'written from the notebooks' if changed else 'as the notebooks say'}")
    return 0


def render(path: Path, progress: bool = False) -> int:
    """Execute the notebook at ``path`` from top to bottom and replace the file; return its new size in bytes.

    Raises NotRendered, and leaves the file as it was, when a cell raises or exceeds 120 s, when the kernel dies, or
    when the result has something that would mislead a reader (see ``notebooks.findings``).
    """
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    execute(notebook, path, progress)
    notebooks.strip(notebook)
    text = nbformat.writes(notebook) + "\n"
    size = len(text.encode("utf-8"))
    wrong = list(notebooks.findings(notebook, size))
    if wrong:
        raise NotRendered("\n  ".join(["The run ended, and", *wrong]))
    fresh = path.with_suffix(".ipynb.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
    return size


def execute(notebook: Any, path: Path, progress: bool = False, timing: bool = False) -> None:
    """Run every cell of ``notebook`` in a fresh kernel started in the folder of ``path``; outputs land in it.

    ``timing``: each cell's metadata say when it began and ended.

    Raises NotRendered when a cell fails or takes longer than CELL_TIMEOUT wall seconds, or the kernel dies.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=CELL_TIMEOUT,
        record_timing=timing,
        store_widget_state=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    if progress and sys.stdout.isatty():
        total = len(notebook.cells)
        client.on_cell_start = lambda cell, cell_index: _show(f"{path.name}: cell {cell_index + 1} of {total}")
    try:
        client.execute()
    except CellTimeoutError as error:
        raise NotRendered(f"A cell did not end within {CELL_TIMEOUT} s. {error}") from error
    except DeadKernelError as error:
        raise NotRendered(f"The kernel died: {error}") from error
    except CellExecutionError as error:
        raise NotRendered(str(error)) from error


def _show(text: str) -> None:
    print(f"\r{text}", end="", flush=True)

"""How long each notebook takes from top to bottom, and its longest cell."""

from datetime import datetime
from pathlib import Path
from typing import Any

from labs.cli import notebooks, render
from labs.cli.benches import Row

WHOLE, ONE_CELL = 150.0, 20.0  # wall seconds: the budgets


def top_to_bottom() -> list[Row]:
    """Return, for each listed notebook, the wall seconds of all its cells together and of its longest one."""
    return [row for path in notebooks.listed() for row in _one(path)]


def _one(path: Path) -> list[Row]:
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    render.execute(notebook, path, timing=True)
    took = [_seconds(cell.metadata.execution) for cell in notebook.cells if "execution" in cell.metadata]
    return [
        Row(f"notebook {path.stem}, top to bottom", sum(took), most=WHOLE),
        Row(f"notebook {path.stem}, its longest cell", max(took), most=ONE_CELL),
    ]


def _seconds(execution: dict[str, Any]) -> float:
    began, ended = (datetime.fromisoformat(execution[key]) for key in ("iopub.status.busy", "iopub.status.idle"))
    return (ended - began).total_seconds()

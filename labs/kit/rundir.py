"""Where a run leaves what it observed: one folder a run, the newest kept, older ones removed."""

import shutil
import time
from itertools import count
from pathlib import Path

KEPT_RUNS = 40  # a notebook's worth and one to spare; a run is a few MB

_numbers = count(1)


def new_run_dir(home: Path, incident: str) -> Path:
    """Make and return an empty folder for one run of ``incident`` under ``home``/runs, removing the oldest ones."""
    runs = home / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    earlier = sorted((path for path in runs.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for old in earlier[:-KEPT_RUNS]:
        shutil.rmtree(old, ignore_errors=True)
    while True:
        path = runs / f"{incident}-{time.strftime('%Y%m%d-%H%M%S')}-{next(_numbers):03}"
        try:
            path.mkdir()
        except FileExistsError:  # another kernel of this workbook took the name within the same second
            continue
        return path

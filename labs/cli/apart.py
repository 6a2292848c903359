"""A workbook of its own for a test, a render or a benchmark, so that an open one is never disturbed."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labs import PROJECT


@contextmanager
def own_home(services: str | None = None) -> Iterator[Path]:
    """Give this process and its children a data folder of their own, and take it and its servers away at the end.

    ``services``: "embedded", "compose" or "url", where the servers come from; None leaves that to LABS_SERVICES.
    The folder's path is short, because Unix sockets allow about 100 characters. It goes
    whether the block ends well, raises or is interrupted.
    """
    home = Path(tempfile.mkdtemp(prefix="labs-", dir="/tmp" if Path("/tmp").is_dir() else None)).resolve()
    changed = {"LABS_HOME": str(home), "PYTHONPATH": _with_project(os.environ.get("PYTHONPATH"))}
    if services:
        changed["LABS_SERVICES"] = services
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield home
    finally:
        _stop_servers()
        shutil.rmtree(home, ignore_errors=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _stop_servers() -> None:
    from labs import stack

    try:
        stack.down()
    except stack.StackError as error:
        print(error, file=sys.stderr)


def _with_project(path: str | None) -> str:
    """Notebook kernels run inside notebooks/; this lets them import the package beside it."""
    return os.pathsep.join([str(PROJECT), *([path] if path else [])])

"""Control files: how a running process learns that a knob has moved.

A control file is one JSON object. The writer replaces it in one step, so a reader never sees half of it; the reader
looks at its modification time, which costs microseconds, and parses it only when it has changed.
"""

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write(path: Path | str, values: dict[str, Any]) -> None:
    """Replace the control file at ``path`` by ``values``, in one step.

    Raises OSError where it cannot be written, TypeError for a value that JSON does not have; the old file stays then.
    """
    path = Path(path)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".new")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(values, file)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


def read(path: Path | str) -> dict[str, Any]:
    """Return the values in the control file at ``path``.

    Raises FileNotFoundError when nothing has been written yet.
    """
    return json.loads(Path(path).read_text(encoding="utf-8"))


class Watcher:
    """Tells whether a control file has changed since it was last looked at."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._seen: tuple[int, int] | None = None

    def changed(self) -> dict[str, Any] | None:
        """Return the new values once after each change, otherwise None."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        # Two writes within one tick of the clock differ in the inode: each write makes a new file.
        version = (status.st_mtime_ns, status.st_ino)
        if version == self._seen:
            return None
        values = read(self.path)
        self._seen = version
        return values

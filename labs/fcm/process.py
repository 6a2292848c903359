"""Runs the mock as a child process for the length of a ``with`` block: for tests and benchmarks."""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from labs import PROJECT
from labs.kit import control

START_TIMEOUT_S = 30.0


class Served(NamedTuple):
    """A running server: its address, its process id and, with ``self_signed``, the certificate to trust."""

    url: str
    pid: int
    certificate: Path | None


@contextlib.contextmanager
def serve(self_signed: bool = False, module: str = "labs.fcm") -> Iterator[Served]:
    """Run ``python -m module`` on a free port of 127.0.0.1 and stop it at the end.

    ``module`` may be ``labs.fcm.static``. Raises RuntimeError with the server's own words when it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="labs-fcm-") as folder:
        ready, log = Path(folder, "ready.json"), Path(folder, "log")
        command = [sys.executable, "-m", module, "--ready-file", str(ready)]
        if self_signed:
            command += ["--self-signed", folder]
        with log.open("wb") as out:
            child = subprocess.Popen(command, cwd=PROJECT, stdout=out, stderr=subprocess.STDOUT)
        try:
            told = _wait_until_ready(child, ready, log)
            yield Served(told["url"], child.pid, Path(folder, "certificate.pem") if self_signed else None)
        finally:
            child.terminate()
            child.wait()


def _wait_until_ready(child: subprocess.Popen, ready: Path, log: Path) -> dict:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and child.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            return control.read(ready)
        time.sleep(0.01)
    raise RuntimeError(f"The push server did not start: {log.read_text(errors='replace').strip() or 'it said nothing'}")

"""A fresh clone to JupyterLab open, beside the bare installation of the same list."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from labs import PROJECT, home
from labs.cli.benches import Row

PATIENCE = 1800.0  # wall seconds: a download over a slow line
BASE = getattr(sys, "_base_executable", sys.executable)  # the Python a newcomer has, outside any environment


def fresh_clone() -> list[Row]:
    """Return wall seconds from an empty folder to the address of JupyterLab, beside `pip install` alone.

    Both download anew: pip's cache is off for both.
    """
    folder = home()
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(clone)], check=True)
    bare = _bare(folder / "bare", clone)
    ours = _until_open(clone, folder / "home")
    return [Row("fresh clone to JupyterLab open", ours, against="bare pip install", peer=bare, most=1.3)]


def _environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LABS_") and name != "PYTHONPATH"}
    return {**kept, "PIP_NO_CACHE_DIR": "1", **more}


def _bare(environment: Path, clone: Path) -> float:
    started = time.monotonic()
    subprocess.run([BASE, "-m", "venv", str(environment)], check=True)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(clone / "requirements.txt")], check=True, env=_environment(), timeout=PATIENCE)
    return time.monotonic() - started


def _until_open(clone: Path, data: Path) -> float:
    """Return the wall seconds until `labs start` in ``clone`` prints its address; it is stopped again."""
    started = time.monotonic()
    process = subprocess.Popen(
        [BASE, "-m", "labs", "start", "--no-browser"],
        cwd=clone,
        env=_environment(LABS_HOME=str(data)),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stdout:
            if line.startswith("http://127.0.0.1:"):
                return time.monotonic() - started
        raise RuntimeError(f"labs start ended with code {process.wait()} before it printed an address")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)

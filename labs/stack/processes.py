"""Processes that may not outlive their owner, and how to recognise one after a restart.

A process is known by its pid and the moment it was created, so a pid that has been given to somebody else is never
mistaken for one of ours. On Linux that moment is counted from the machine's start: the time of day may be set while a
process runs, and would then make it a stranger.
"""

import contextlib
import ctypes
import os
import pwd
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_SECUREBITS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 8, 28, 47, 2
NO_SETUID_FIXUP = 1 << 2  # a change of user keeps the capabilities, and access() counts them: initdb asks it
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
CAPABILITY_VERSION_3 = 0x20080522
LINUX = sys.platform.startswith("linux")
_libc = ctypes.CDLL(None, use_errno=True) if LINUX else None


def identity(pid: int) -> dict[str, float] | None:
    """Return what identifies the running process ``pid``; None where there is none (or only a zombie)."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return {"pid": pid, "created": _created(process)}
    except psutil.Error:
        return None


def alive(known: dict[str, float] | None) -> psutil.Process | None:
    """Return the process that ``known`` (from ``identity``) identifies, if it still runs."""
    if not known:
        return None
    try:
        process = psutil.Process(int(known["pid"]))
        return process if abs(_created(process) - known["created"]) < 0.05 and runs(process) else None
    except (psutil.Error, KeyError, TypeError, ValueError):
        return None


def _created(process: psutil.Process) -> float:
    """Return when ``process`` was created: on Linux in seconds since the machine started, else since the epoch."""
    if not LINUX:
        return process.create_time()
    try:
        # proc_pid_stat(5): field 22 is the start time in clock ticks; field 2, the name, may contain anything.
        fields = Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError as error:
        raise psutil.NoSuchProcess(process.pid) from error
    return int(fields[22 - 3]) / os.sysconf("SC_CLK_TCK")


def runs(process: psutil.Process) -> bool:
    """Return whether ``process`` still runs; a zombie, which only waits for its parent to notice, does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def wait(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until none of the processes runs, ``seconds`` at most; return those that still do."""
    deadline = time.monotonic() + seconds
    while left := [process for process in processes if runs(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return left


def end(processes: Iterable[psutil.Process], patience: float = 3.0) -> None:
    """Ask the processes and their children to stop; kill what still runs after ``patience`` seconds."""
    everything: list[psutil.Process] = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            everything += [*process.children(recursive=True), process]
    for process in everything:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    left = wait(everything, patience)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    wait(left, patience)


def dies_with_parent(how: int = signal.SIGKILL) -> Callable[[], None]:
    """Return a ``preexec_fn``: the child gets signal ``how`` when the thread that started it is gone (Linux)."""
    parent = os.getpid()

    def prepare() -> None:
        _leash(how, parent)

    return prepare


def _leash(how: int, parent: int) -> None:
    if _libc is None:
        return
    _libc.prctl(PR_SET_PDEATHSIG, int(how), 0, 0, 0)
    if os.getppid() != parent:  # the parent went between fork and here
        os.kill(os.getpid(), signal.SIGKILL)


def server_user() -> pwd.struct_passwd | None:
    """Return whom PostgreSQL runs as: None for ourselves; as root, an ordinary user, for it refuses to be root.

    Raises LookupError where there is neither a `postgres` nor a `nobody`.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise LookupError("postgres, nobody")


def as_user(user: pwd.struct_passwd | None, how: int, *paths: Path) -> Callable[[], None]:
    """Return a ``preexec_fn``: become ``user``, still able to reach ``paths``, and die with the parent by ``how``.

    Root's own folders are often closed to others. Rather than opening them, the child keeps the one capability that
    lets it in (Linux), and only where it is needed.
    """
    parent = os.getpid()
    closed = user is not None and not all(_open_to_others(path) for path in paths)

    def prepare() -> None:
        if user is not None:
            if closed and _libc is not None:
                _libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
                _libc.prctl(PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0, 0, 0)  # refused to a root without CAP_SETPCAP
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            if closed:
                _keep_file_access()
        _leash(how, parent)  # after the change of user, which clears it

    return prepare


def _open_to_others(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def _keep_file_access() -> None:
    if _libc is None:
        return
    wanted = (1 << CAP_DAC_OVERRIDE) | (1 << CAP_DAC_READ_SEARCH)
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    data = struct.pack("6I", wanted, wanted, wanted, 0, 0, 0)
    _libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(data))
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)

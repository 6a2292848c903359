"""Ties a process to the life of its parent, as far as the operating system can.

Linux has two switches for it: a signal on the parent's death, and adoption of orphans by a "subreaper". Elsewhere both
are no-ops and the zygote's own sweep does the work.
"""

import ctypes
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _prctl(option: int, value: int) -> bool:
    return _libc is not None and _libc.prctl(option, value, 0, 0, 0) == 0


def adopt_orphans() -> bool:
    """Become the parent of descendants whose own parent dies. Returns whether the system can do that."""
    return _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Have this process killed when its parent, process id ``parent``, dies. Exits at once if it already has."""
    if _prctl(PR_SET_PDEATHSIG, signal.SIGKILL) and os.getppid() != parent:
        os._exit(1)


def show_name(name: str) -> None:
    """Have ``top`` and ``ps -o comm`` show ``name``, of which Linux keeps 15 bytes."""
    if _libc is not None:
        _libc.prctl(PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0)


def forks_die_with_parent() -> None:
    """Pass ``die_with_parent`` on to what this process forks: web workers, task pool children.

    Linux sends the signal when the *thread* that forked ends, so only forks of the main thread are tied.
    """
    forking: dict[str, int | None] = {"parent": None}

    def before() -> None:
        main = threading.current_thread() is threading.main_thread()
        forking["parent"] = os.getpid() if main else None

    def after_in_child() -> None:
        parent = forking["parent"]
        if parent is not None:
            die_with_parent(parent)

    if _libc is not None:
        os.register_at_fork(before=before, after_in_child=after_in_child)

"""Errands: what the reader has asked for, carried out one at a time outside the kernel's own thread."""

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any


class Errands:
    """Runs jobs in one thread, in order; of two waiting jobs with the same key only the later one runs.

    A job with key None is never replaced, and no job is replaced across one: what was moved before a button was
    pressed takes effect before it.
    """

    def __init__(self, name: str) -> None:
        self._jobs: deque[tuple[Hashable | None, Callable[[], Any]]] = deque()
        self._changed = threading.Condition()
        self._running = False
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def add(self, job: Callable[[], Any], key: Hashable | None = None) -> None:
        """Queue ``job``. It must handle its own errors. Ignored after close."""
        with self._changed:
            if self._closed:
                return
            if key is not None:
                self._drop_superseded(key)
            self._jobs.append((key, job))
            self._changed.notify_all()

    def _drop_superseded(self, key: Hashable) -> None:
        for index in reversed(range(len(self._jobs))):
            waiting = self._jobs[index][0]
            if waiting is None:
                return
            if waiting == key:
                del self._jobs[index]
                return

    def settle(self, timeout: float) -> bool:
        """Wait until nothing is queued or running, ``timeout`` seconds at most; return whether that was reached."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs and not self._running, timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Forget what is queued and wait, ``timeout`` seconds at most, for the job that is running."""
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._running = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    return
                _, job = self._jobs.popleft()
                self._running = True
            job()

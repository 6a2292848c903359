"""When requests are due: Poisson arrivals whose rate can change at any moment, and a timer that is exact."""

import asyncio
import contextlib
import ctypes
import math
import os
import random
import sys


class Arrivals:
    """A Poisson process. Changing ``rate`` (a wall second) keeps the arrival already under way, sped up or slowed down.

    The gaps are drawn in "expected arrivals", of mean 1, and used up at ``rate``. So the order of the draws depends on
    the seed alone, and the rate only on how fast they pass.
    """

    def __init__(self, seed: str, now: float, rate: float = 0.0) -> None:
        self._random = random.Random(seed)
        self._needed = self._random.expovariate(1.0)
        self._since = now
        self._rate = rate

    def change(self, rate: float, now: float) -> None:
        """Go on at ``rate`` arrivals a wall second from wall time ``now``; 0 pauses."""
        self._needed = max(0.0, self._needed - (now - self._since) * self._rate)
        self._since = max(self._since, now)
        self._rate = rate

    @property
    def next(self) -> float:
        """Wall time of the next arrival, infinity while paused."""
        return self._since + self._needed / self._rate if self._rate > 0 else math.inf

    def take(self, now: float) -> list[float]:
        """Return the wall times of the arrivals up to ``now``, each of them once."""
        due = []
        while (at := self.next) <= now:
            due.append(at)
            self._since = at
            self._needed = self._random.expovariate(1.0)
        return due


class Alarm:
    """Sleeps to within a tenth of a millisecond.

    asyncio on Linux rounds every wait up to a millisecond, which would add half of one to each latency. A timer file
    descriptor does not. Elsewhere (macOS) asyncio's own timers are exact enough.
    """

    def __init__(self) -> None:
        self._rang = asyncio.Event()
        self._descriptor: int | None = None
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            # CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC
            descriptor = self._libc.timerfd_create(1, os.O_NONBLOCK | os.O_CLOEXEC)
            if descriptor >= 0:
                self._descriptor = descriptor
                asyncio.get_running_loop().add_reader(descriptor, self._ring)

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._descriptor, 8)
        self._rang.set()

    def wake(self) -> None:
        """End the sleep now."""
        self._rang.set()

    async def sleep(self, seconds: float) -> None:
        """Sleep for ``seconds`` wall seconds, or until ``wake``."""
        if seconds > 0 and not self._rang.is_set():
            if self._descriptor is None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._rang.wait(), seconds)
            else:
                nanoseconds = max(1, int(seconds * 1e9))
                setting = (ctypes.c_long * 4)(0, 0, *divmod(nanoseconds, 10**9))
                self._libc.timerfd_settime(self._descriptor, 0, setting, None)
                await self._rang.wait()
        self._rang.clear()

    def close(self) -> None:
        """Give the timer back."""
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

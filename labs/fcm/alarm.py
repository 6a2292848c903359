"""Waiting until a given instant, to a fraction of a millisecond.

The event loop's own timers count whole milliseconds. That is too coarse here: with time compressed tenfold, an FCM
latency of 10 ms is 1 ms of wall time. On Linux a timer file descriptor (``man timerfd_create``) rings to within a few
tenths of a millisecond; elsewhere the loop's timers have to do.
"""

import asyncio
import ctypes
import heapq
import itertools
import os
import sys
import time
from typing import Protocol

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK and TFD_CLOEXEC are these
_EARLY_S = 0.00002  # what is due within this time is answered at once rather than by another wake-up


class Alarm(Protocol):
    """Something that can wait."""

    async def until(self, instant: float) -> None:
        """Wait until ``time.monotonic()`` is ``instant``; at once if that is past."""


def alarm(loop: asyncio.AbstractEventLoop) -> Alarm:
    """Return the finest alarm this platform has, for use on ``loop``."""
    return TimerFdAlarm(loop) if sys.platform == "linux" else LoopAlarm()


class LoopAlarm:
    """Waits with the event loop's timers: to about a millisecond."""

    async def until(self, instant: float) -> None:
        """Wait until ``time.monotonic()`` is ``instant``; at once if that is past."""
        left = instant - time.monotonic()
        if left > 0:
            await asyncio.sleep(left)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class TimerFdAlarm:
    """Waits with one timer descriptor, set to the earliest of all instants waited for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._waiting: list[tuple[float, int, asyncio.Future]] = []
        self._order = itertools.count()
        loop.add_reader(self._descriptor, self._ring)

    async def until(self, instant: float) -> None:
        """Wait until ``time.monotonic()`` is ``instant``; at once if that is past."""
        if instant <= time.monotonic():
            return
        rung = self._loop.create_future()
        entry = (instant, next(self._order), rung)
        heapq.heappush(self._waiting, entry)
        if self._waiting[0] is entry:
            self._set(instant)
        await rung

    def close(self) -> None:
        """Give the descriptor back; whoever still waits is not woken."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _set(self, instant: float) -> None:
        seconds = int(instant)
        value = _Timespec(seconds, int((instant - seconds) * 1e9))
        setting = _Itimerspec(_Timespec(0, 0), value)
        self._libc.timerfd_settime(self._descriptor, _TFD_TIMER_ABSTIME, ctypes.byref(setting), None)

    def _ring(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return  # set anew between the ring and this call
        now = time.monotonic() + _EARLY_S
        while self._waiting and self._waiting[0][0] <= now:
            rung = heapq.heappop(self._waiting)[2]
            if not rung.done():
                rung.set_result(None)
        if self._waiting:
            self._set(self._waiting[0][0])

"""Calling back at a given instant, to a fraction of a millisecond.

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
from collections.abc import Callable
from typing import Any, Protocol

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK and TFD_CLOEXEC are these
_EARLY_S = 0.00002  # what is due within this time is answered at once rather than by another wake-up


class Alarm(Protocol):
    """Something that calls back at a given instant of ``time.monotonic()``, and never before."""

    def call_at(self, instant: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call ``call(*arguments)`` from the event loop at ``instant``, or soon if that is past."""


def alarm(loop: asyncio.AbstractEventLoop) -> Alarm:
    """Return the finest alarm this platform has, for use on ``loop``."""
    return TimerFdAlarm(loop) if sys.platform == "linux" else LoopAlarm(loop)


async def until(alarm: Alarm, instant: float) -> None:
    """Wait until ``time.monotonic()`` is ``instant``."""
    rung = asyncio.get_running_loop().create_future()
    alarm.call_at(instant, lambda: rung.done() or rung.set_result(None))
    await rung


class LoopAlarm:
    """Rings with the event loop's timers: to about a millisecond."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call_at(self, instant: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call ``call(*arguments)`` from the event loop at ``instant``, or soon if that is past."""
        self._loop.call_later(max(0.0, instant - time.monotonic()), call, *arguments)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class TimerFdAlarm:
    """Rings with one timer descriptor, set to the earliest of all instants waited for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._waiting: list[tuple[float, int, Callable[..., None], tuple]] = []
        self._order = itertools.count()
        loop.add_reader(self._descriptor, self._ring)

    def call_at(self, instant: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call ``call(*arguments)`` from the event loop at ``instant``, or soon if that is past."""
        entry = (instant, next(self._order), call, arguments)
        heapq.heappush(self._waiting, entry)
        if self._waiting[0] is entry:
            self._set(instant)

    def close(self) -> None:
        """Give the descriptor back; what still waits is not called."""
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
            _, _, call, arguments = heapq.heappop(self._waiting)
            self._loop.call_soon(call, *arguments)
        if self._waiting:
            self._set(self._waiting[0][0])

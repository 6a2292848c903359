"""The project quota of FCM: a bucket of tokens for each window of one minute.

Google describes it so (https://firebase.google.com/docs/cloud-messaging/scale-fcm): each request takes one quota token
from the bucket of its one-minute window, and the bucket "refills to full at the end" of the window. It does not
trickle: a sender that has emptied it after three seconds waits for the other fifty-seven. A window here is a minute of
the wall clock, so the bucket is full again whenever a new minute begins.
"""

import math
from collections.abc import Callable

WINDOW_S = 60.0


class MinuteBucket:
    """Allows ``limit`` messages in each minute of ``clock``, which counts seconds."""

    __slots__ = ("_clock", "_left", "_window", "limit")

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self.limit = limit
        self._left = limit
        self._clock = clock
        self._window = clock() // WINDOW_S

    def take(self) -> bool:
        """Take one quota token; False when this minute's bucket is empty."""
        self._refill()
        if self._left <= 0:
            return False
        self._left -= 1
        return True

    @property
    def left(self) -> int:
        """Messages that may still be sent in this minute."""
        self._refill()
        return self._left

    def change_limit(self, limit: int) -> None:
        """Set another limit; what this minute has already spent stays spent."""
        self._refill()
        self._left = max(0, self._left + limit - self.limit)
        self.limit = limit

    def seconds_to_refill(self) -> int:
        """Return the whole seconds, at least 1, until the next minute begins: the value for Retry-After."""
        return max(1, math.ceil(WINDOW_S - self._clock() % WINDOW_S))

    def _refill(self) -> None:
        window = self._clock() // WINDOW_S
        if window != self._window:
            self._window = window
            self._left = self.limit

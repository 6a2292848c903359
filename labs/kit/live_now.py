"""At most one live system at a time: two outages on one machine would disturb each other's figures."""

from typing import Protocol


class Closable(Protocol):
    """Something live that can be closed."""

    def close(self) -> None:
        """Stop it."""


_open: list[Closable] = []


def opened(live: Closable) -> None:
    """Note that ``live`` runs now; what ran before is closed."""
    close()
    _open.append(live)


def close() -> None:
    """Close whatever runs live in this kernel."""
    while _open:
        _open.pop().close()

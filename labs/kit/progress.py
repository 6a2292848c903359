"""One line that shows what a long cell is doing, and disappears when it is done."""

import html
import sys
import time
from types import TracebackType
from typing import Self

from IPython import get_ipython
from IPython.display import HTML, display

EVERY = 0.2  # wall seconds between two redraws


class Progress:
    """A line of progress: in a notebook a bar with words, in a terminal a line on standard error, elsewhere nothing.

    Use as a context manager. ``title`` says what is being done; ``say`` what it is doing now.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._share: float | None = None
        self._words = ""
        self._drawn = 0.0
        self._handle = None

    def __enter__(self) -> Self:
        if get_ipython() is not None and hasattr(get_ipython(), "kernel"):
            self._handle = display(HTML(self._html()), display_id=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.update(HTML(""))
        elif sys.stderr.isatty():
            sys.stderr.write("\r\033[K")

    def say(self, words: str) -> None:
        """Show ``words`` as what is being done now."""
        self._words, self._share = words, None
        self._draw(force=True)

    def at(self, share: float, words: str = "") -> None:
        """Show that ``share`` (0 to 1) of the work is done."""
        self._share, self._words = min(1.0, max(0.0, share)), words
        self._draw()

    def _draw(self, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._drawn < EVERY:
            return
        self._drawn = now
        if self._handle is not None:
            self._handle.update(HTML(self._html()))
        elif sys.stderr.isatty():
            done = "" if self._share is None else f" {self._share:4.0%}"
            sys.stderr.write(f"\r\033[K{self.title}:{done} {self._words}")
            sys.stderr.flush()

    def _html(self) -> str:
        value = "" if self._share is None else f'value="{self._share:.3f}"'
        return (
            '<div style="display:flex;gap:.8em;align-items:center;font-size:.9em;opacity:.8">'
            f'<progress max="1" {value} style="width:14em;accent-color:#0072B2"></progress>'
            f"<span>{html.escape(self.title)} · {html.escape(self._words or 'starting')}</span></div>"
        )

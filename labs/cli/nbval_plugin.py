"""A pytest plugin beside nbval: background errors fail their cell, and only a verdict's text is compared.

nbval sees the exceptions of a cell, not those of the threads it started; they only reach the kernel's stderr. And it
compares every form of an output: the HTML of a table would fail with each change of its style sheet, though every
line of it is in the plain text too. `labs test` loads this with `-p labs.cli.nbval_plugin`.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from nbval.plugin import IPyNbCell, IPyNbFile

SIGNS = ("Exception in thread", "Exception in callback", "Task exception was never retrieved", "Exception ignored in")

_get_kernel_message = IPyNbFile.get_kernel_message
_collect = IPyNbFile.collect


def _listening(self: IPyNbFile, timeout: float | None = None, stream: str = "iopub") -> dict[str, Any]:
    message = _get_kernel_message(self, timeout=timeout, stream=stream)
    content = message["content"]
    if message["msg_type"] == "stream" and content["name"] == "stderr":
        self.stderr = getattr(self, "stderr", "") + content["text"]
    return message


def _collect_for_text(self: IPyNbFile) -> Iterator[IPyNbCell]:
    self.skip_compare = (*self.skip_compare, "text/html", "image/svg+xml")
    yield from _collect(self)


def pytest_configure() -> None:
    """Listen to the kernels and look at text only."""
    IPyNbFile.get_kernel_message = _listening
    IPyNbFile.collect = _collect_for_text


def pytest_unconfigure() -> None:
    """Leave nbval as it was."""
    IPyNbFile.get_kernel_message = _get_kernel_message
    IPyNbFile.collect = _collect


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a cell whose kernel said that something in the background raised."""
    yield
    if isinstance(item, IPyNbCell):
        said, item.parent.stderr = getattr(item.parent, "stderr", ""), ""
        if any(sign in said for sign in SIGNS):
            item.raise_cell_error("Something in the background raised.", said)

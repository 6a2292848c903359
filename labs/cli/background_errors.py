"""A pytest plugin: a notebook cell fails when a background thread or task of its kernel raised.

nbval sees the exceptions of a cell, not those of the threads it started; they only reach the kernel's stderr. Loaded
by `labs test` with `-p labs.cli.background_errors` beside nbval.
"""

import pytest
from nbval.plugin import IPyNbCell, IPyNbFile

SIGNS = ("Exception in thread", "Exception in callback", "Task exception was never retrieved", "Exception ignored in")

_get_kernel_message = IPyNbFile.get_kernel_message


def _listening(self, timeout=None, stream="iopub"):
    message = _get_kernel_message(self, timeout=timeout, stream=stream)
    content = message["content"]
    if message["msg_type"] == "stream" and content["name"] == "stderr":
        self.stderr = getattr(self, "stderr", "") + content["text"]
    return message


def pytest_configure(config):
    IPyNbFile.get_kernel_message = _listening


def pytest_unconfigure(config):
    IPyNbFile.get_kernel_message = _get_kernel_message


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    result = yield
    if isinstance(item, IPyNbCell):
        said, item.parent.stderr = getattr(item.parent, "stderr", ""), ""
        if any(sign in said for sign in SIGNS):
            item.raise_cell_error("Something in the background raised.", said)
    return result

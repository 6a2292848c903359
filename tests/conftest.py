"""What every test may ask for: a stack on a data folder of its own, and the options that let slow kinds in."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs import stack as labs_stack
from tests.homes import Workbook

SLOW_KINDS = {"compose": "a container engine", "browser": "Chromium"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare --compose and --browser; naming the marker in ``-m`` lets the same tests in."""
    for kind, needs in SLOW_KINDS.items():
        parser.addoption(f"--{kind}", action="store_true", help=f"run the tests that need {needs}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the slow kinds that nobody asked for."""
    for kind, needs in SLOW_KINDS.items():
        if config.getoption(f"--{kind}") or kind in (config.getoption("-m") or ""):
            continue
        for item in items:
            if item.get_closest_marker(kind):
                item.add_marker(pytest.mark.skip(reason=f"needs {needs}: ask for it with --{kind}"))


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A data folder of the test session's own, with a short path, gone afterwards with all that ran on it."""
    folder = Path(tempfile.mkdtemp(prefix="labs-", dir="/tmp")).resolve()
    before = os.environ.get("LABS_HOME")
    os.environ["LABS_HOME"] = str(folder)
    yield folder
    labs_stack.down()
    if before is None:
        del os.environ["LABS_HOME"]
    else:
        os.environ["LABS_HOME"] = before
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def stack(home: Path) -> labs_stack.Stack:
    """The running servers of ``home``, shared by every test of the session: reset what you change."""
    del home
    return labs_stack.up()


@pytest.fixture(scope="session")
def used_home() -> Iterator[Path]:
    """A home whose servers have run once and stopped: its data folder is what others start from."""
    with Workbook() as made:
        assert made.run("from labs import stack; stack.up(); stack.down()").returncode == 0
        yield made.home


@pytest.fixture
def workbook(used_home: Path) -> Iterator[Workbook]:
    """A workbook in processes of its own, to be hurt at will."""
    with Workbook(like=used_home) as made:
        yield made


@pytest.fixture
def another_workbook(used_home: Path) -> Iterator[Workbook]:
    """A second one beside ``workbook``."""
    with Workbook(like=used_home) as made:
        yield made


@pytest.fixture
def new_workbook() -> Iterator[Workbook]:
    """A workbook on an empty folder, as after a fresh clone."""
    with Workbook() as made:
        yield made

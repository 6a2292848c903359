"""Fixtures of the browser tests: one JupyterLab and one Chromium for all of them."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.lab import CHROMIUM, CHROMIUM_ARGUMENTS, PROJECT, Lab, page_on, running_lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A running JupyterLab on a copy of the notebooks, with a data folder of its own."""
    private = tmp_path_factory.mktemp("lab")
    folder = private / "work"
    shutil.copytree(PROJECT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    with running_lab(folder, private, {"LABS_HOME": str(private / "home")}) as running:
        yield running


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A real Chromium, without a window."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no Chromium at {CHROMIUM}; set LABS_CHROMIUM to the path of one")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any, lab: Lab) -> Iterator[Any]:
    """A page in a context of its own; ``page.troubles`` lists what its console called an error."""
    with page_on(chromium, lab) as page:
        yield page

"""The pool box in a real JupyterLab in a real Chromium, on a real PostgreSQL."""

import pytest

from tests.browser.lab import open_notebook, page_on, run_all, run_code, screenshot

pytestmark = pytest.mark.browser

LONG = 60_000  # ms; only ever waited for when something is broken
HELD = ".lp-slot[data-tone=good]"


@pytest.fixture(scope="module")
def opened(lab, chromium, stack):
    """A page with a notebook that opens a pool box of 3, for all tests of this file."""
    cells = (
        "from labs.kit.poolbox import PoolBox",
        f"box = PoolBox({stack.postgres.url!r}, size=3, timeout=300)\nbox",
    )
    with page_on(chromium, lab) as page:
        open_notebook(page, lab.write("box.ipynb", *cells))
        yield page


@pytest.fixture
def box(opened):
    """The page, with a pool box that has just appeared."""
    opened.troubles.clear()
    run_all(opened)
    count(opened, ".lp-slot[data-tone=free]", 3)
    yield opened
    run_code(opened, "box.close()")


def count(page, selector, wanted):
    """Wait until ``selector`` finds ``wanted`` elements."""
    page.wait_for_function(
        "([selector, n]) => document.querySelectorAll(selector).length === n", arg=[selector, wanted], timeout=LONG
    )


def test_clicks_fill_the_pool_and_a_click_on_a_connection_gives_it_to_the_first_in_line(box):
    borrow = box.get_by_role("button", name="Borrow a connection")
    for wanted in (1, 2, 3):
        borrow.click()
        count(box, HELD, wanted)
    borrow.click()
    count(box, ".lp-line-row", 1)
    screenshot(box, "pool-box-full", 900)
    assert box.locator(".lp-line-name").inner_text() == "borrower 4"
    box.locator(".lp-slot").nth(1).click()
    count(box, ".lp-line-row", 0)
    box.wait_for_function(
        "() => document.querySelectorAll('.lp-slot-detail')[1].textContent.startsWith('borrower 4')", timeout=LONG
    )
    assert box.troubles == []


def test_who_waits_too_long_shows_sqlalchemys_error(box):
    run_code(box, "box._borrowers.engine.pool._timeout = 0.5")
    borrow = box.get_by_role("button", name="Borrow a connection")
    for _ in range(4):
        borrow.click()
    box.locator(".lp-error").wait_for(state="visible", timeout=LONG)
    assert box.locator(".lp-error").inner_text().startswith("QueuePool limit of size 3 overflow 0 reached")
    screenshot(box, "pool-box-late", 1400)
    box.get_by_role("button", name="Start over").click()
    count(box, HELD, 0)
    box.locator(".lp-error").wait_for(state="hidden", timeout=LONG)

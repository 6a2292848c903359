"""Notebook 01b in JupyterLab in a real Chromium: run top to bottom, wide and narrow, and an exercise answered in it."""

import pytest

from tests.browser.lab import open_notebook, run_all, run_code, screenshot

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

PATH = "notebooks/01b_what_the_fix_still_loses.ipynb"
ANSWER = """
def what_next(code):
    if code == "UNREGISTERED":
        return "forget"
    return "again" if code in ("UNAVAILABLE", "INTERNAL") else "finished"

print(fanout.read_the_answers.check(what_next).state)
"""


@pytest.fixture(scope="module")
def page(chromium, lab):
    """One page for all tests of this module: the notebook is run once."""
    context = chromium.new_context(base_url=lab.url, viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.troubles = []
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    open_notebook(page, PATH)
    yield page
    context.close()


def test_every_cell_runs_and_the_page_has_no_errors(page):
    run_all(page, timeout=600)
    assert page.troubles == []
    assert page.locator(".labs-grade").count() >= 2
    assert page.locator(".jp-RenderedImage img").count() >= 2


@pytest.mark.parametrize("width", [1400, 900])
def test_nothing_is_wider_than_the_page(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    wider = page.evaluate(
        """() => [...document.querySelectorAll('.jp-RenderedImage img, .labs-table, .labs-exercise, .labs-grade')]
            .filter((each) => each.getBoundingClientRect().right > window.innerWidth + 1)
            .map((each) => each.outerHTML.slice(0, 80))"""
    )
    assert wider == []


def test_an_answer_is_graded_by_a_real_run(page):
    assert run_code(page, "from labs import fanout\n" + ANSWER).strip().endswith("passed")


def test_tables_and_exercises_are_kept_as_pictures(page):
    for width in (1400, 900):
        page.set_viewport_size({"width": width, "height": 900})
        shown = page.locator(".labs-table, .labs-exercise, .labs-grade, .jp-RenderedImage img")
        for number in range(shown.count()):
            shown.nth(number).scroll_into_view_if_needed()
            screenshot(page, f"notebook-01b-{number:02}", width)
    assert page.troubles == []

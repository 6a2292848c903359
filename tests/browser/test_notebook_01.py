"""Notebook 01 in JupyterLab in a real Chromium: run top to bottom, then its live panel, moved by mouse and keys."""

import json

import pytest

from tests.browser.lab import open_notebook, run_all, run_code, screenshot, use_theme

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

PATH = "notebooks/01_power_user_fanout.ipynb"
LONG = 120_000  # ms; only ever waited for when something is broken
ENDING = ".jp-Notebook .jp-Cell:last-child"


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


def live_panel(page):
    """Open a panel on a live system in the cell that shows it, and wait for its slots."""
    run_code(page, "from labs import fanout")
    page.evaluate(
        """() => {
            const notebook = window.labsNotebook.content;
            const index = notebook.widgets.findIndex((cell) => cell.model.sharedModel.source.startsWith("panel = "));
            notebook.activeCellIndex = index;
            notebook.deselectAll();
            return window.jupyterapp.commands.execute("notebook:run-cell");
        }"""
    )
    page.wait_for_function(
        "() => document.querySelector('.lp-sentence')?.innerText.includes('20 connections in use, nobody waits')",
        timeout=LONG,
    )


def slots(page, count):
    """Wait until exactly ``count`` slots are drawn."""
    page.wait_for_function("(n) => document.querySelectorAll('.lp-slot').length === n", arg=count, timeout=LONG)


def knob(page, name):
    """Return where a knob of the running system stands."""
    return json.loads(run_code(page, f"import json; print(json.dumps(panel.driver._system.knobs.{name}))"))


def test_every_cell_runs_and_the_page_has_no_errors(page):
    run_all(page, timeout=600)
    assert page.troubles == []
    assert page.locator(".jp-RenderedImage img").count() >= 8


@pytest.mark.parametrize("width", [1400, 900])
def test_nothing_is_wider_than_the_page(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    wider = page.evaluate(
        """() => [...document.querySelectorAll('.jp-RenderedImage img, .labs-table, .lp')]
            .filter((each) => each.getBoundingClientRect().right > window.innerWidth + 1)
            .map((each) => each.outerHTML.slice(0, 80))"""
    )
    assert wider == []


def test_the_panel_follows_the_pool_size_and_the_followers_while_it_is_live(page):
    page.set_viewport_size({"width": 1400, "height": 900})
    live_panel(page)
    page.get_by_role("button", name="Post as @techinfluencer").click()
    page.locator(".lp-slot", has_text=" s").first.wait_for(timeout=LONG)
    pool = page.locator("input[data-control=pool_size]")
    box = pool.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.19, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    shown = int(page.locator(".lp-value").first.inner_text())
    assert shown > 20
    slots(page, shown)
    assert knob(page, "pool_size") == shown
    followers = page.locator("input[data-control=followers]")
    followers.focus()
    page.keyboard.press("Home")
    page.wait_for_function(
        "() => document.querySelector('.lp-facts').innerText.includes(' of 10')", timeout=LONG
    )
    assert knob(page, "followers") == 10


def test_the_outage_shows_in_light_and_dark_wide_and_narrow(page):
    live_panel(page)
    page.get_by_role("button", name="Post as @techinfluencer").click()
    page.wait_for_function(
        "() => document.querySelector('.lp-sentence')?.innerText.startsWith('Down')", timeout=LONG
    )
    for theme in ("light", "dark"):
        use_theme(page, theme)
        for width in (1400, 900):
            assert screenshot(page, f"panel-down-{theme}", width, selector=".lp").stat().st_size > 10_000
    use_theme(page, "light")
    run_code(page, "panel.close()")


def test_the_figures_are_kept_as_pictures(page):
    for number, image in enumerate(page.locator(".jp-RenderedImage").all()):
        image.scroll_into_view_if_needed()
        for width in (1400, 900):
            screenshot(page, f"notebook-01-{number:02}", width)
    assert page.troubles == []

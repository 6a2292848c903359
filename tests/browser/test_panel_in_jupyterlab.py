"""The panel in a real JupyterLab in a real Chromium."""

import json
import time

import pytest

from tests.browser.lab import open_notebook, page_on, run_all, run_code, screenshot, use_theme

pytestmark = pytest.mark.browser

CELLS = (
    "from labs.kit.panel import Panel\nfrom tests.apps.demo_driver import DemoDriver",
    "driver = DemoDriver()\ndriver.advance(150)\npanel = Panel(driver)\npanel",
)
LONG = 60_000  # ms; only ever waited for when something is broken


@pytest.fixture(scope="module")
def opened(lab, chromium):
    """A page with a notebook that opens a panel on the demo driver, for all tests of this file."""
    with page_on(chromium, lab) as page:
        open_notebook(page, lab.write("panel.ipynb", *CELLS))
        yield page


@pytest.fixture
def panel(opened):
    """The page, with a panel that has just appeared."""
    opened.troubles.clear()
    opened.set_viewport_size({"width": 1400, "height": 900})
    run_all(opened)
    slots(opened, 20)
    yield opened
    run_code(opened, "panel.close()")


def value_in_python(page, name):
    """Return where the control ``name`` stands in the kernel."""
    return json.loads(run_code(page, f"import json; print(json.dumps(panel.values()[{name!r}]))"))


def slots(page, count):
    """Wait until exactly ``count`` slots are drawn."""
    page.wait_for_function("(n) => document.querySelectorAll('.lp-slot').length === n", arg=count, timeout=LONG)


def slider(page, name):
    """Return the slider of the control ``name``."""
    return page.locator(f"input[data-control={name}]")


def test_the_panel_appears_with_its_controls_its_pool_and_its_charts(panel):
    assert panel.locator(".lp-range").count() == 4
    assert panel.locator(".lp-pool .lp-slot").count() == 20
    assert panel.locator(".lp-figure").count() == 2
    assert "20 connections in use" in panel.locator(".lp-sentence").inner_text()
    assert panel.troubles == []


def test_a_dragged_slider_changes_the_value_in_python_and_the_drawing_follows(panel):
    box = slider(panel, "pool_size").bounding_box()
    middle = box["y"] + box["height"] / 2
    panel.mouse.move(box["x"] + box["width"] * 0.2, middle)
    panel.mouse.down()
    for share in (0.3, 0.4, 0.45, 0.5):
        panel.mouse.move(box["x"] + box["width"] * share, middle)
    shown = int(panel.locator(".lp-value").first.inner_text())
    panel.mouse.up()
    assert 40 <= shown <= 60
    slots(panel, shown)
    assert value_in_python(panel, "pool_size") == shown
    assert int(panel.locator(".lp-value").first.inner_text()) == shown


def test_the_arrow_keys_operate_a_slider_and_leave_the_notebook_alone(panel):
    selected = panel.evaluate("() => window.labsNotebook.content.activeCellIndex")
    slider(panel, "pool_size").focus()
    for key in ("ArrowRight", "ArrowUp", "ArrowUp", "ArrowDown"):
        panel.keyboard.press(key)
    slots(panel, 22)
    assert value_in_python(panel, "pool_size") == 22
    panel.keyboard.press("End")
    slots(panel, 100)
    assert panel.evaluate("() => window.labsNotebook.content.activeCellIndex") == selected
    assert panel.evaluate("() => document.activeElement.dataset.control") == "pool_size"


def test_a_logarithmic_slider_stops_exactly_at_the_number_of_the_post_mortem(panel):
    followers = slider(panel, "followers")
    followers.focus()
    panel.keyboard.press("ArrowRight")
    panel.wait_for_function("() => document.querySelectorAll('.lp-value')[1].textContent === '50,000'", timeout=LONG)
    panel.keyboard.press("ArrowLeft")
    assert followers.get_attribute("aria-valuetext") == "45,312"
    run_code(panel, "assert panel.settle(20)")
    panel.wait_for_function("() => document.querySelectorAll('.lp-value')[1].textContent === '45,312'", timeout=LONG)


def test_a_choice_is_made_with_the_keyboard(panel):
    chosen = panel.locator("input[data-control=clients]:checked")
    chosen.focus()
    panel.keyboard.press("ArrowLeft")
    panel.wait_for_function("() => document.querySelector('input[value=wait]').checked", timeout=LONG)
    expect_in_python(panel, "panel.values()['clients'] == 'wait'")


def test_a_button_reaches_the_driver_and_the_pool_turns(panel):
    panel.get_by_role("button", name="Post as @techinfluencer").click()
    expect_in_python(panel, "driver.pressed == ['post']")
    run_code(panel, "driver.advance(120)")
    panel.wait_for_function("() => document.querySelectorAll('.lp-slot[data-tone=bad]').length === 20", timeout=LONG)
    assert panel.locator(".lp-banner").get_attribute("data-tone") == "bad"
    assert panel.locator(".lp-slot").first.get_attribute("aria-label").endswith("by POST /api/v1/posts/create")
    assert panel.locator(".lp-dots circle").count() > 0


def test_a_value_set_in_python_moves_the_slider(panel):
    run_code(panel, "panel.change('pool_size', 7)")
    slots(panel, 7)
    panel.wait_for_function("() => document.querySelector('[data-control=pool_size]').value === '7'", timeout=LONG)


def test_a_refused_change_shows_as_a_sentence_and_not_as_a_traceback(panel):
    run_code(panel, "driver.change = lambda name, value: 1 / 0")
    slider(panel, "pool_size").press("ArrowRight")
    notice = panel.locator(".lp-notice")
    notice.wait_for(state="visible", timeout=LONG)
    assert notice.inner_text() == "Pool size did not work: division by zero."
    panel.wait_for_function("() => document.querySelector('[data-control=pool_size]').value === '20'", timeout=LONG)


def test_the_panel_follows_the_theme(panel):
    backgrounds = {}
    for theme in ("dark", "light"):
        use_theme(panel, theme)
        panel.wait_for_function(
            "(theme) => document.querySelector('.lp').dataset.theme === theme", arg=theme, timeout=LONG
        )
        backgrounds[theme] = panel.evaluate(
            "() => getComputedStyle(document.querySelector('.lp-card')).backgroundColor.match(/[0-9]+/g).map(Number)"
        )
    assert max(backgrounds["dark"][:3]) < 100
    assert min(backgrounds["light"][:3]) > 200


@pytest.mark.parametrize("width", [1400, 900, 600])
def test_nothing_sticks_out_of_the_panel_at_any_width(panel, width):
    run_code(panel, "panel.change('pool_size', 100); panel.press('post'); driver.advance(400)")
    slots(panel, 100)
    screenshot(panel, "panel-full", width, height=900 if width > 1000 else 1500)
    outside = panel.evaluate(
        """() => {
            const card = document.querySelector(".lp-card").getBoundingClientRect();
            return [...document.querySelectorAll(".lp-card *")].filter((node) => {
                const box = node.getBoundingClientRect();
                return box.width && box.right > card.right + 1 && !node.closest(".lp-spoken, .lp-progress, .lp-tip");
            }).map((node) => node.className?.baseVal ?? node.className);
        }"""
    )
    assert outside == []
    assert panel.troubles == []


def test_running_the_cell_again_closes_the_first_panel_and_opens_another(panel):
    run_code(panel, "first = panel")
    run_all(panel)
    assert run_code(panel, "print(first.state['closed'], panel.state['closed'], first is panel)") == "True False False"
    panel.locator(".lp-slot").nth(19).wait_for(timeout=LONG)


def expect_in_python(page, expression):
    """Wait until ``expression`` is true in the kernel, which hears the browser only between two looks."""
    give_up = time.monotonic() + 30
    while run_code(page, f"print({expression})") != "True":
        assert time.monotonic() < give_up, f"never true in the kernel: {expression}"
        page.wait_for_timeout(100)

import json
import re
import textwrap

import pytest

from labs.kit import clock, control, source


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Two modules that differ in two places, far apart."""
    import importlib

    filler = "".join(f"LINE_{number} = {number}\n" for number in range(30))
    (tmp_path / "source_before.py").write_text(f'FIRST = "<b>"\n{filler}def last():\n    return 1\n')
    (tmp_path / "source_after.py").write_text(f'FIRST = "<i>"\n{filler}def last():\n    """Two."""\n    return 2\n')
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("source_before"), importlib.import_module("source_after")


def plain(shown):
    return re.sub(r"<[^>]+>", "", re.sub(r"<style>.*?</style>", "", shown, flags=re.DOTALL))


def test_a_function_is_shown_with_its_place():
    shown = source.show(control.write)
    assert shown.code.startswith("def write(path: Path | str")
    assert re.fullmatch(r"labs/kit/control\.py, line \d+", shown.place)
    assert repr(shown).startswith("# labs/kit/control.py, line ")
    assert "temporary" in plain(shown._repr_html_())


def test_a_module_is_shown_whole():
    shown = source.show(clock)
    assert shown.place == "labs/kit/clock.py"
    assert shown.code.startswith('"""Incident time and wall time.')
    assert "def label" in shown.code


def test_a_method_is_shown_from_its_own_margin():
    assert source.show(clock.Clock.wall).code.startswith("def wall(self")


def test_a_wrapped_function_is_shown_as_it_was_written():
    import functools

    def route(function):
        @functools.wraps(function)
        def outer():
            return function()
        return outer

    @route
    def written():
        return "here"

    assert 'return "here"' in source.show(written).code


@pytest.mark.parametrize("thing", [3, "text", len, None])
def test_what_has_no_source_is_refused(thing):
    with pytest.raises(TypeError, match="source can be shown of a module, function or class written in Python"):
        source.show(thing)


def test_a_diff_marks_lines_with_signs_as_well_as_colours(modules):
    shown = source.diff(*modules)
    page = shown._repr_html_()
    assert shown.counts == (3, 2)
    assert "source_before.py → source_after.py: 3 lines added, 2 removed" in plain(page)
    assert page.count('class="l add"') == 3
    assert page.count('class="l del"') == 2
    assert page.count("<i>+</i>") == 3
    assert page.count("<i>-</i>") == 2


def test_equal_parts_of_a_diff_are_folded_and_still_there(modules):
    page = source.diff(*modules)._repr_html_()
    folded = re.findall(r"<details><summary>(\d+) equal lines</summary>(.*?)</details>", page, re.DOTALL)
    assert [int(number) for number, _ in folded] == [25]
    assert "LINE_15" in plain(folded[0][1])
    assert "LINE_1 " in plain(page)


def test_the_lines_of_a_diff_stay_lines_without_the_style_sheet(modules):
    page = re.sub(r"<details>.*?</details>", "", source.diff(*modules)._repr_html_(), flags=re.DOTALL)
    assert '-FIRST = "&lt;b&gt;"\n+FIRST = "&lt;i&gt;"\n LINE_0 = 0\n' in plain(page).replace("&quot;", '"')


def test_code_is_escaped(modules):
    assert "<b>" not in source.show(modules[0])._repr_html_()


def test_the_text_of_a_diff_is_the_usual_one(modules):
    lines = repr(source.diff(*modules)).splitlines()
    assert lines[:2] == ["--- source_before.py", "+++ source_after.py"]
    assert "-    return 1" in lines
    assert "+    return 2" in lines


def test_equal_modules_are_said_to_be_equal(modules):
    same = source.diff(modules[0], modules[0])
    assert "They are equal." in same._repr_html_()
    assert repr(same) == "source_before.py and source_before.py are equal"


def test_every_line_of_a_module_is_shown_once():
    text = textwrap.dedent(source.show(json.decoder)._repr_html_())
    body = re.search(r"<pre>(.*)</pre>", text, re.DOTALL)[1]
    assert body.count("\n") + 1 == len(source.show(json.decoder).code.split("\n"))

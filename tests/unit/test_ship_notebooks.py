"""The list of notebooks, what makes one fit to commit, and what rendering takes out."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from labs.cli import notebooks, render


def text_output(text="pool exhausted: yes"):
    return new_output("execute_result", {"text/plain": text}, execution_count=1)


def rendered(*cells):
    """A notebook as labs render leaves one: counted, stripped, with one checked cell."""
    notebook = new_notebook(cells=list(cells) or [new_code_cell("verdict", outputs=[text_output()])])
    for number, cell in enumerate(notebook.cells, 1):
        cell.execution_count = number
    if notebook.cells:
        notebook.cells[-1].metadata.setdefault("tags", []).append(notebooks.CHECKED)
    notebooks.strip(notebook)
    return notebook


def sentences(notebook, size=1000):
    return " ".join(notebooks.findings(notebook, size))


def test_a_notebook_as_rendered_has_no_findings():
    assert sentences(rendered()) == ""


def test_a_cell_without_an_execution_count_is_found():
    notebook = rendered()
    notebook.cells[0].execution_count = None
    assert "no execution count" in sentences(notebook)


def test_a_cell_run_out_of_order_is_found():
    notebook = rendered()
    notebook.cells[0].execution_count = 7
    assert "a run from top to bottom gives 1" in sentences(notebook)


def test_a_notebook_in_which_nothing_would_be_compared_is_found():
    notebook = rendered()
    notebook.cells[0].metadata.tags = []
    assert "no output would be compared" in sentences(notebook)


def test_a_checked_cell_that_only_draws_is_found():
    picture = new_output("display_data", {"image/png": "iVBORw0KGgo="})
    assert "no plain text" in sentences(rendered(new_code_cell("chart", outputs=[picture])))


def test_a_cell_left_out_of_the_comparison_is_found():
    assert "left out" in sentences(rendered(new_code_cell("# NBVAL_SKIP\nrun()", outputs=[text_output()])))


def test_a_committed_error_is_found_unless_it_is_meant():
    def failing(tags):
        error = new_output("error", ename="ValueError", evalue="no", traceback=[])
        return new_code_cell("run()", outputs=[text_output(), error], metadata={"tags": tags})

    assert "shows an error" in sentences(rendered(failing([])))
    assert sentences(rendered(failing(["raises-exception"]))) == ""


def test_a_path_of_one_machine_is_found():
    output = text_output(f"file {notebooks.PROJECT}/labs/fanout/steps.py")
    assert "path of one machine" in sentences(rendered(new_code_cell("where()", outputs=[output])))


def test_a_notebook_too_large_to_draw_is_found():
    assert "2.0 MB" in sentences(rendered(), size=2_000_000)


def test_a_long_cell_is_found():
    cell = new_code_cell("\n".join(["x = 1"] * 26), outputs=[text_output()])
    assert "more than 25 lines" in sentences(rendered(cell))


def test_stripping_keeps_what_a_reader_sees_and_drops_what_varies():
    view = {notebooks.WIDGET_VIEW: {"model_id": "abc"}, "text/plain": "Panel"}
    cell = new_code_cell("panel", outputs=[new_output("display_data", view)], metadata={"execution": {"x": "y"}})
    notebook = rendered(cell)
    assert dict(notebook.cells[0].outputs[0].data) == {"text/plain": "Panel"}
    assert "execution" not in notebook.cells[0].metadata
    assert "version" not in notebook.metadata.language_info


def test_an_output_that_was_only_a_widget_is_dropped():
    cell = new_code_cell("panel", outputs=[new_output("display_data", {notebooks.WIDGET_VIEW: {}}), text_output()])
    assert len(rendered(cell).cells[0].outputs) == 1


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project with a list and two notebooks, only one of them listed."""
    (tmp_path / "notebooks").mkdir()
    listing = tmp_path / "listed.txt"
    listing.write_text("# in order\nnotebooks/00_first.ipynb\n\nnotebooks/02_third.ipynb  # later\n")
    for name in ("00_first", "01_second"):
        nbformat.write(rendered(), tmp_path / "notebooks" / f"{name}.ipynb")
    monkeypatch.setattr(notebooks, "PROJECT", tmp_path)
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path / "notebooks")
    monkeypatch.setattr(notebooks, "LISTING", listing)
    return tmp_path


def test_an_unlisted_notebook_and_a_missing_one_are_found(folder):
    unlisted, missing = notebooks.listing_findings()
    assert unlisted.startswith("notebooks/01_second.ipynb is not in listed.txt")
    assert missing == "notebooks/02_third.ipynb is in listed.txt and does not exist."


@pytest.mark.parametrize("name", ["00", "00_first", "00_first.ipynb", "notebooks/00_first.ipynb"])
def test_a_notebook_may_be_named_in_any_of_these_ways(folder, name):
    assert [path.name for path in notebooks.chosen([name])] == ["00_first.ipynb"]


def test_an_unknown_name_is_refused_with_the_names_there_are(folder):
    with pytest.raises(notebooks.NoSuchNotebook, match=r"99 is no listed notebook; there are: 00_first, 02_third\."):
        notebooks.chosen(["99"])


def test_a_file_that_is_no_notebook_is_found(tmp_path):
    path = tmp_path / "x.ipynb"
    path.write_text("{}")
    assert "no valid notebook" in render.file_findings(path)[0]
    path.write_text("not json")
    assert "no valid notebook" in render.file_findings(path)[0]
    assert render.file_findings(tmp_path / "y.ipynb") == ["there is no such file."]

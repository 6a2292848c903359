"""What `labs test` makes of its runners' reports, and nbval's traps."""

import argparse
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from labs.cli import notebooks
from labs.cli import test as command


def report(tmp_path, *cases, code=0):
    path = tmp_path / "report.xml"
    inner = "".join(f'<testcase name="t">{case}</testcase>' for case in cases)
    path.write_text(f"<testsuites><testsuite>{inner}</testsuite></testsuites>")
    return command.read_report("unit", path, code)


def test_a_part_passes_when_every_test_ran_and_passed(tmp_path):
    outcome = report(tmp_path, "", "")
    assert (outcome.ok, outcome.passed, outcome.failed) == (True, 2, 0)


@pytest.mark.parametrize("case", ["<failure/>", "<error/>"])
def test_a_part_fails_with_one_of_its_tests(tmp_path, case):
    outcome = report(tmp_path, "", case, code=1)
    assert (outcome.ok, outcome.passed, outcome.failed) == (False, 1, 1)


def test_a_part_in_which_a_test_was_skipped_fails_unless_the_platform_is_the_reason(tmp_path):
    assert not report(tmp_path, "", '<skipped message="no server"/>').ok
    assert report(tmp_path, "", '<skipped message="only on Linux"/>').ok


def test_a_part_without_tests_fails(tmp_path):
    assert report(tmp_path, code=5).complaint == "no test was found"


def test_a_runner_that_died_before_its_report_fails_its_part(tmp_path):
    assert not command.read_report("unit", tmp_path / "none.xml", -9).ok


def test_a_runner_that_ended_badly_after_passing_fails_its_part(tmp_path):
    assert not report(tmp_path, "", code=3).ok


def test_the_summary_names_what_failed():
    text = command.summary([command.Outcome("unit", passed=3), command.Outcome("browser", failed=1)], 12.3)
    assert text.endswith("labs test: failed: browser, 12 s")
    assert "FAILED" in text


def parts(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return [part.name for part in command.parts_for(parser.parse_args(words))]


def test_quick_leaves_the_notebooks_out_and_keeps_their_list():
    assert parts("--quick") == ["style", "unit, contract, fault", "list of notebooks"]


def test_a_named_notebook_is_run_alone():
    assert parts("01_power") == ["list of notebooks", "01_power_user_fanout"]
    assert parts("01") == ["list of notebooks", "01_power_user_fanout", "01b_what_the_fix_still_loses"]


def test_browser_and_compose_are_run_on_request():
    assert parts("--quick", "--browser", "--compose")[-2:] == ["browser", "compose"]


def notebook_at(path: Path, *sources: str, tags=()) -> Path:
    cells = [
        new_code_cell(
            source,
            execution_count=number,
            outputs=[new_output("stream", name="stdout", text="pool exhausted: yes\n")],
            metadata={"tags": list(tags)},
        )
        for number, source in enumerate(sources, 1)
    ]
    nbformat.write(new_notebook(cells=cells), path)
    return path


def run_notebook(path, monkeypatch, cell_timeout=60):
    monkeypatch.setenv("LABS_HOME", str(path.parent))
    return command.notebook_part(path, cell_timeout).run()


@pytest.mark.live
def test_an_outage_that_no_longer_breaks_fails_its_notebook(tmp_path, monkeypatch):
    said = ['print("pool exhausted: yes")', 'print("pool exhausted: no")']
    outcome = run_notebook(notebook_at(tmp_path / "n.ipynb", *said, tags=[notebooks.CHECKED]), monkeypatch)
    assert (outcome.passed, outcome.failed) == (1, 1)


@pytest.mark.live
def test_a_verdict_in_another_style_sheet_is_the_same_verdict(tmp_path, monkeypatch):
    path = tmp_path / "n.ipynb"
    shown = "display({'text/plain': 'lost: 0', 'text/html': '<b>lost: 0</b>'}, raw=True)"
    was = new_output("display_data", {"text/plain": "lost: 0", "text/html": "<i>lost: 0</i>"})
    cell = new_code_cell(shown, execution_count=1, outputs=[was], metadata={"tags": [notebooks.CHECKED]})
    nbformat.write(new_notebook(cells=[cell]), path)
    assert run_notebook(path, monkeypatch).ok


@pytest.mark.live
def test_a_thread_that_raises_behind_a_cell_fails_the_cell(tmp_path, monkeypatch):
    thread = "import threading\nworker = threading.Thread(target=lambda: 1 / 0)\nworker.start()\nworker.join()"
    outcome = run_notebook(notebook_at(tmp_path / "n.ipynb", thread, "1"), monkeypatch)
    assert (outcome.passed, outcome.failed) == (1, 1)


@pytest.mark.live
def test_a_kernel_that_dies_fails_its_notebook(tmp_path, monkeypatch):
    outcome = run_notebook(notebook_at(tmp_path / "n.ipynb", "import os\nos._exit(1)"), monkeypatch, cell_timeout=1)
    assert not outcome.ok
    assert outcome.failed >= 1

"""The ledger: claims are answered from results or not at all, and its file says what the notebooks show."""

import json

import nbformat
import pytest
from IPython.core.formatters import DisplayFormatter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from labs.cli import ledger as files
from labs.cli import notebooks
from labs.kit.ledger import (
    MIME,
    STATUSES,
    Answer,
    Evidence,
    Finding,
    Inquiry,
    Ledger,
    LedgerError,
    answers_of,
    arithmetic,
    told,
    told_if_fast,
    untold,
)

CLAIMS = """id,incident,kind,claim,figure,how_to_check,status,our_figure,where_shown
F01,fan-out,figure,"one, two",20,live,,,
F02,fan-out,figure,three,13 ms,live,,,
F03,fan-out,gap,four,,live,,,
H01,herd,figure,five,47 min,timeline,,,
"""


@pytest.fixture
def claims(tmp_path):
    path = tmp_path / "claims.csv"
    path.write_text(CLAIMS, encoding="utf-8")
    return path


@pytest.fixture
def inquiry(claims):
    asked = Inquiry(claims)

    @asked.answers("F02", depends_on_speed=True)
    def speed(quick):
        return told_if_fast(quick < 13, f"{quick} ms")

    @asked.answers("F01")
    def pool(alone, retried):
        return told(alone == 20, f"{alone} of 20, {retried} with retries")

    return asked


def evidence_of(path, *answers):
    return Evidence(Ledger.read(path), answers)


def notebook_with(path, evidence, name="01_outage.ipynb"):
    """Write a notebook as render leaves it: two runs in two sections, and the evidence in a third."""
    data = evidence._repr_mimebundle_() if evidence else {"text/plain": "nothing"}
    cells = [
        new_markdown_cell("# A title"),
        new_markdown_cell("## 4. Break it"),
        new_code_cell("retried = run(posts=1)"),
        new_markdown_cell("## 7. Fix it"),
        new_code_cell("fixed = run(step=4)\nprint(retried == fixed)"),
        new_markdown_cell("## 8. What does not add up"),
        new_code_cell("evidence()", outputs=[new_output("execute_result", data, execution_count=1)]),
    ]
    nbformat.write(new_notebook(cells=cells), path / name)
    return path / name


# -- answers ----------------------------------------------------------------------------------------------------------


def test_every_claim_is_answered_in_the_order_of_the_ledger(inquiry):
    evidence = inquiry.evidence(alone=1, retried=20, quick=9)
    assert [(each.claim, each.status) for each in evidence] == [("F01", "contradicted"), ("F02", "reproduced")]
    assert evidence["F01"].figure == "1 of 20, 20 with retries"
    assert evidence["F01"].shown == ("alone", "retried")


def test_the_table_shows_the_published_figure_beside_ours(inquiry):
    table = inquiry.evidence(alone=1, retried=20, quick=9).table()
    assert table.column("published") == ["20", "13 ms"]
    assert table.column("here") == ["1 of 20, 20 with retries", "9 ms"]


def test_the_verdict_leaves_out_what_depends_on_the_machine(inquiry):
    evidence = inquiry.evidence(alone=1, retried=20, quick=9)
    assert repr(evidence.verdict()).splitlines()[1:] == ["F01: contradicted"]


def test_a_slow_machine_changes_no_line_of_the_verdict(inquiry):
    quick, slow = (inquiry.evidence(alone=1, retried=20, quick=took) for took in (9, 99))
    assert slow["F02"].status == "cannot be told on one machine"
    assert quick.verdict() == slow.verdict()


@pytest.mark.parametrize("given", [{"alone": 1, "quick": 9}, {"alone": 1, "quick": 9, "retried": None}])
def test_a_missing_result_is_named_with_the_claims_that_need_it(inquiry, given):
    with pytest.raises(LedgerError, match=r"lacks retried \(F01\)"):
        inquiry.evidence(**given)


def test_a_result_that_no_claim_needs_is_named(inquiry):
    with pytest.raises(LedgerError, match="no claim is answered from retreid"):
        inquiry.evidence(alone=1, retried=20, quick=9, retreid=3)


def test_a_claim_is_answered_once(inquiry):
    with pytest.raises(LedgerError, match="F01 is answered by pool already"):
        inquiry.answers("F01")(lambda alone: told(True, "1"))


def test_a_claim_that_the_ledger_does_not_have_is_refused(inquiry):
    inquiry.answers("F99")(lambda alone: told(True, "1"))
    with pytest.raises(LedgerError, match="F99 is not a claim"):
        inquiry.evidence(alone=1, retried=20, quick=9)


def test_an_answer_without_a_finding_is_refused(claims):
    asked = Inquiry(claims)
    asked.answers("F01")(lambda alone: None)
    with pytest.raises(LedgerError, match="F01 must be a Finding"):
        asked.evidence(alone=1)


@pytest.mark.parametrize(("status", "figure"), [("proved", "1"), ("reproduced", "  ")])
def test_a_finding_has_one_of_five_statuses_and_a_figure(status, figure):
    with pytest.raises(LedgerError):
        Finding(status, figure)


def test_the_five_statuses_are_those_that_findings_have():
    findings = [told(True, "1"), told(False, "1"), untold("1"), arithmetic(True, "1"), arithmetic(False, "1")]
    assert tuple(found.status for found in findings) == STATUSES


def test_a_notebook_carries_the_answers_for_programs(inquiry):
    evidence = inquiry.evidence(alone=1, retried=20, quick=9)
    bundle, _ = DisplayFormatter().format(evidence)
    assert "F01" in bundle["text/plain"]
    assert "<table" in bundle["text/html"]
    read = answers_of(json.loads(json.dumps(bundle[MIME])))
    assert [(each.claim, each.status, each.figure, each.shown) for each in read] == [
        (each.claim, each.status, each.figure, each.shown) for each in evidence
    ]


def test_answers_that_were_tampered_with_are_refused():
    with pytest.raises(LedgerError, match="evidence must be"):
        answers_of({"answers": [{"claim": "F01"}]})
    with pytest.raises(LedgerError, match="status must be"):
        answers_of({"answers": [{"claim": "F01", "status": "fine", "figure": "1", "shown": []}]})


# -- the file ---------------------------------------------------------------------------------------------------------


def test_reading_and_writing_changes_no_byte(claims):
    assert Ledger.read(claims).text() == CLAIMS
    assert not Ledger.read(claims).write(claims)


def test_the_workbooks_own_ledger_changes_no_byte_either():
    assert Ledger.read(files.CLAIMS).text() == files.CLAIMS.read_text(encoding="utf-8")


def test_a_ledger_with_a_claim_twice_is_refused(claims):
    claims.write_text(CLAIMS + "F01,fan-out,figure,again,1,live,,,\n")
    with pytest.raises(LedgerError, match="each claim once"):
        Ledger.read(claims)


def test_a_ledger_without_our_columns_is_refused(claims):
    claims.write_text("id,claim,figure\nF01,one,20\n")
    with pytest.raises(LedgerError, match="must have the column status"):
        Ledger.read(claims)


# -- from the notebooks to the file -----------------------------------------------------------------------------------

F01 = Answer("F01", "contradicted", "1 of 20, 20 with retries", ("retried",))
F02 = Answer("F02", "reproduced", "9 ms", ("fixed", "retried"))
F03 = Answer("F03", "arithmetic agrees", "91", ())


def test_the_ledger_is_written_from_what_the_notebooks_show(claims, tmp_path):
    outage = notebook_with(tmp_path, evidence_of(claims, F01, F02))
    losses = notebook_with(tmp_path, evidence_of(claims, F03), "01b_losses.ipynb")
    assert files.update(claims, [outage, losses])
    ledger = Ledger.read(claims)
    assert ledger.ours("F01") == ("contradicted", "1 of 20, 20 with retries", "01, section 4")
    assert ledger.ours("F02") == ("reproduced", "9 ms", "01, sections 4 and 7")
    assert ledger.ours("F03") == ("arithmetic agrees", "91", "01b, section 8")
    assert ledger.ours("H01") == ("", "", "")
    assert not files.update(claims, [outage, losses])
    assert files.findings(claims, [outage, losses]) == []


def test_render_keeps_the_evidence_and_finds_nothing_wrong_with_it(claims, tmp_path):
    path = notebook_with(tmp_path, evidence_of(claims, F01))
    notebook = nbformat.read(path, as_version=4)
    notebooks.strip(notebook)
    nbformat.validate(notebook)
    assert "F01" in files.answers_of_notebook(notebook, "01")
    assert not any("cell 6 shows" in sentence for sentence in notebooks.findings(notebook, 1000))


def test_a_claim_without_evidence_is_found(claims, tmp_path):
    outage = notebook_with(tmp_path, evidence_of(claims, F01, F02))
    files.update(claims, [outage])
    assert files.findings(claims, [outage]) == ["F03 has no evidence, and its incident has a notebook."]


def test_another_incidents_claims_are_due_when_it_has_a_notebook(claims, tmp_path):
    outage = notebook_with(tmp_path, evidence_of(claims, F01, F02, F03))
    herd = notebook_with(tmp_path, None, "02_herd.ipynb")
    files.update(claims, [outage, herd])
    assert files.findings(claims, [outage, herd]) == ["H01 has no evidence, and its incident has a notebook."]


@pytest.mark.parametrize("column", ["status", "our_figure", "where_shown"])
def test_a_row_that_no_run_said_is_found(claims, tmp_path, column):
    outage = notebook_with(tmp_path, evidence_of(claims, F01, F02, F03))
    files.update(claims, [outage])
    said = Ledger.read(claims)["F02"][column]
    changed = "contradicted" if column == "status" else "10 ms"
    text = claims.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("F02"))
    claims.write_text(text.replace(line, line.replace(f",{said}", f",{changed}").replace(f'"{said}"', changed)))
    (sentence,) = files.findings(claims, [outage])
    assert sentence.startswith("F02 says")
    assert changed in sentence


def test_a_status_that_is_none_of_the_five_is_found(claims, tmp_path):
    outage = notebook_with(tmp_path, evidence_of(claims, F01, F02, F03))
    files.update(claims, [outage])
    claims.write_text(claims.read_text(encoding="utf-8").replace("F02,fan-out,figure,three,13 ms,live,reproduced",
                                                                 "F02,fan-out,figure,three,13 ms,live,proved"))
    assert any("has the status 'proved'" in sentence for sentence in files.findings(claims, [outage]))


def test_a_row_filled_in_without_a_notebook_is_found(claims):
    claims.write_text(CLAIMS.replace("timeline,,,", "timeline,reproduced,47 min,here"))
    assert files.findings(claims, []) == [
        "H01 says reproduced; 47 min; here; the notebooks say nothing: run `labs render --ledger`."
    ]


def test_two_notebooks_that_answer_one_claim_are_refused(claims, tmp_path):
    pair = [notebook_with(tmp_path, evidence_of(claims, F01), name) for name in ("01_a.ipynb", "01b_b.ipynb")]
    with pytest.raises(LedgerError, match="F01 is answered twice"):
        files.update(claims, pair)
    assert claims.read_text(encoding="utf-8") == CLAIMS


# -- the workbook's own -----------------------------------------------------------------------------------------------


def test_every_claim_of_an_incident_with_a_notebook_has_evidence_that_a_run_gave():
    assert files.findings() == []

"""The ledger's columns of ours, written from what the rendered notebooks show and from nothing else."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from labs import PROJECT
from labs.cli import notebooks
from labs.kit.ledger import MIME, STATUSES, Answer, Ledger, LedgerError, answers_of

CLAIMS = PROJECT / "data" / "claims.csv"
INCIDENTS = {"F": "01", "H": "02", "L": "03", "B": "04"}
"""How the claims of an incident begin, and how the names of its notebooks do."""

_SECTION = re.compile(r"^##\s+(\d+)\.", re.MULTILINE)

Ours = tuple[str, str, str]  # status, our figure, where shown


def update(claims: Path = CLAIMS, paths: Iterable[Path] | None = None) -> bool:
    """Write status, our figure and where it is shown of every claim from the notebooks; return whether any changed.

    ``paths``: the notebooks, all listed ones by default. A claim that no notebook answers is left without an answer.
    Raises LedgerError where two notebooks answer one claim, or one answers a claim that the ledger does not have.
    """
    ledger = Ledger.read(claims)
    return ledger.with_answers(answers_in(_there(paths))).write(claims)


def findings(claims: Path = CLAIMS, paths: Iterable[Path] | None = None) -> list[str]:
    """Return a sentence for each claim without evidence, and each whose row is not what the notebooks say."""
    ledger, there = Ledger.read(claims), _there(paths)
    try:
        shown = answers_in(there)
        expected = ledger.with_answers(shown)
    except LedgerError as error:
        return [str(error)]
    found = [sentence for claim in ledger for sentence in _row_findings(claim, ledger, expected)]
    due = {letter for letter, number in INCIDENTS.items() if any(path.name.startswith(number) for path in there)}
    found += [f"{claim} has no evidence, and its incident has a notebook."
              for claim in ledger if claim[:1] in due and claim not in shown]
    return found


def _row_findings(claim: str, ledger: Ledger, expected: Ledger) -> Iterable[str]:
    ours, theirs = ledger.ours(claim), expected.ours(claim)
    if any(ours) and ours[0] not in STATUSES:
        yield f"{claim} has the status {ours[0]!r}, which is none of {', '.join(STATUSES)}."
    if ours != theirs:
        yield f"{claim} says {_said(ours)}; the notebooks say {_said(theirs)}: run `labs render --ledger`."


def _said(ours: Ours) -> str:
    return "; ".join(filter(None, ours)) or "nothing"


def _there(paths: Iterable[Path] | None) -> list[Path]:
    return [path for path in (notebooks.listed() if paths is None else paths) if path.is_file()]


def answers_in(paths: Iterable[Path]) -> dict[str, Ours]:
    """Return what the outputs of these notebooks say by claim; raises LedgerError for a claim answered twice."""
    import nbformat

    found: dict[str, Ours] = {}
    for path in paths:
        for claim, ours in answers_of_notebook(nbformat.read(path, as_version=4), path.stem.partition("_")[0]).items():
            if claim in found:
                raise LedgerError(f"{claim} is answered twice: in {found[claim][2]} and in {ours[2]}.")
            found[claim] = ours
    return found


def answers_of_notebook(notebook: Any, name: str) -> dict[str, Ours]:
    """Return what a notebook's outputs say by claim; ``name`` is how it is called where something is shown, "01b"."""
    found: dict[str, Ours] = {}
    for index, cell in enumerate(notebook.cells):
        for bundle in _bundles(cell):
            for answer in answers_of(bundle):
                if found.get(answer.claim, (answer.status, answer.figure))[:2] != (answer.status, answer.figure):
                    raise LedgerError(f"{answer.claim} is answered in two ways in {name}.")
                found[answer.claim] = (answer.status, answer.figure, _where(notebook.cells, index, answer, name))
    return found


def _bundles(cell: Any) -> list[Mapping[str, Any]]:
    outputs = cell.get("outputs", []) if cell.cell_type == "code" else []
    return [output["data"][MIME] for output in outputs if MIME in output.get("data", {})]


def _where(cells: list[Any], evidence: int, answer: Answer, name: str) -> str:
    """Return the sections in which the answer's results are first made, "01, sections 4 and 7"."""
    places = [_place_of(cells[:evidence], shown) for shown in answer.shown] or [None]
    numbers = sorted({_section(cells, evidence if place is None else place) for place in places})
    known = [str(number) for number in numbers if number]
    if not known:
        return name
    return f"{name}, section{'s' if len(known) > 1 else ''} {' and '.join(known)}"


def _place_of(cells: list[Any], shown: str) -> int | None:
    """Return the index of the first cell that assigns the result ``shown`` or makes that call; None without one."""
    name = re.escape(shown)
    made = re.compile(rf"^[^\n=(#]*\b{name}\b[^\n=(]*=(?!=)|\b{name}\(", re.MULTILINE)
    for index, cell in enumerate(cells):
        if cell.cell_type == "code" and made.search(cell.source):
            return index
    return None


def _section(cells: list[Any], index: int) -> int:
    """Return the number of the section that a cell stands in; 0 before the first."""
    numbers = [int(number) for cell in cells[: index + 1] if cell.cell_type == "markdown"
               for number in _SECTION.findall(cell.source)]
    return numbers[-1] if numbers else 0

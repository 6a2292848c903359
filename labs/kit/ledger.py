"""The ledger: what post-mortems claim, and what runs on this machine say of it.

A notebook's claims are answered by functions of its results, one function a claim:

    inquiry = Inquiry("data/claims.csv")

    @inquiry.answers("F18")
    def twenty_posts(twenty):
        return told(twenty.down, f"{twenty.connections_by_post} connections gone")

    inquiry.evidence(twenty=run(posts=20))      # a table of claims, published figures, ours, and the statuses

The parameters of a function name the results that it needs, as the notebook calls them. The evidence goes into the
notebook's output in a form that programs read too (``MIME``), so that the ledger's columns of ours are only ever
written from what a run said.
"""

import csv
import inspect
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labs.kit.table import Table
from labs.kit.verdict import Fact, Verdict

REPRODUCED = "reproduced"
CONTRADICTED = "contradicted"
CANNOT_BE_TOLD = "cannot be told on one machine"
ARITHMETIC_AGREES = "arithmetic agrees"
ARITHMETIC_DISAGREES = "arithmetic disagrees"
STATUSES = (REPRODUCED, CONTRADICTED, CANNOT_BE_TOLD, ARITHMETIC_AGREES, ARITHMETIC_DISAGREES)

OURS = ("status", "our_figure", "where_shown")
"""The ledger's columns that runs fill in."""

MIME = "application/vnd.labs.evidence+json"
"""The kind under which a notebook's output carries its evidence for programs."""


class LedgerError(ValueError):
    """A claim, an answer or a file of the ledger is not as it must be; the message is a sentence that says what."""


@dataclass(frozen=True)
class Finding:
    """What a run says of a claim. ``status``: one of STATUSES. ``figure``: ours, in words made from what was measured.

    Raises LedgerError for another status or an empty figure.
    """

    status: str
    figure: str

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise LedgerError(f"status must be one of {', '.join(STATUSES)}; got {self.status!r}.")
        object.__setattr__(self, "figure", " ".join(self.figure.split()))
        if not self.figure:
            raise LedgerError("figure must say what was measured; got nothing.")


def told(agrees: bool, figure: str) -> Finding:
    """Return a finding of a run that could tell: reproduced or contradicted."""
    return Finding(REPRODUCED if agrees else CONTRADICTED, figure)


def told_if_fast(agrees: bool, figure: str) -> Finding:
    """Return a finding about a speed: reproduced, or untold, since a slower machine proves nothing wrong."""
    return Finding(REPRODUCED if agrees else CANNOT_BE_TOLD, figure)


def untold(figure: str) -> Finding:
    """Return a finding that one machine cannot judge, with what it saw."""
    return Finding(CANNOT_BE_TOLD, figure)


def arithmetic(agrees: bool, figure: str) -> Finding:
    """Return a finding that was computed from published figures."""
    return Finding(ARITHMETIC_AGREES if agrees else ARITHMETIC_DISAGREES, figure)


@dataclass(frozen=True)
class Answer:
    """A claim's finding. ``shown``: the results it comes from by their names in the notebook, or calls that show it.

    ``same_everywhere``: whether its status is the same on every machine by construction.
    """

    claim: str
    status: str
    figure: str
    shown: tuple[str, ...] = ()
    same_everywhere: bool = True


class Evidence:
    """What one notebook's runs say of its claims, in the order of the ledger. A notebook shows it as a table."""

    def __init__(self, ledger: "Ledger", answers: Iterable[Answer]) -> None:
        self._ledger = ledger
        self.answers = tuple(sorted(answers, key=lambda answer: ledger.place(answer.claim)))

    def __getitem__(self, claim: str) -> Answer:
        for answer in self.answers:
            if answer.claim == claim:
                return answer
        raise KeyError(f"{claim} is not answered here; answered: {', '.join(each.claim for each in self.answers)}")

    def __iter__(self) -> Iterator[Answer]:
        return iter(self.answers)

    def __len__(self) -> int:
        return len(self.answers)

    def table(self) -> Table:
        """Return the claims with their published figures, ours, the statuses, and the results they come from."""
        rows = [self._row(answer) for answer in self.answers]
        return Table(("", "claim", "published", "here", "status", "shown by"), rows)

    def _row(self, answer: Answer) -> tuple[str, ...]:
        claim = self._ledger[answer.claim]
        published = claim["figure"] or "–"
        return (answer.claim, claim["claim"], published, answer.figure, answer.status, ", ".join(answer.shown))

    def verdict(self) -> Verdict:
        """Return the statuses that are the same on every machine; a status that depends on its speed is left out."""
        facts = [Fact(answer.claim, answer.status) for answer in self.answers if answer.same_everywhere]
        return Verdict("What became of the claims", facts)

    def __repr__(self) -> str:
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"text/plain": repr(self), "text/html": self._repr_html_(), MIME: self.as_json()}

    def as_json(self) -> dict[str, Any]:
        """Return the answers as the notebook's output carries them."""
        return {
            "answers": [
                {"claim": each.claim, "status": each.status, "figure": each.figure, "shown": list(each.shown)}
                for each in self.answers
            ]
        }


def answers_of(bundle: Mapping[str, Any]) -> list[Answer]:
    """Return the answers in what ``Evidence.as_json`` made; raises LedgerError where they are not as it leaves them."""
    try:
        written = [(str(each["claim"]), Finding(each["status"], each["figure"]), each["shown"])
                   for each in bundle["answers"]]
    except (KeyError, TypeError, AttributeError):
        raise LedgerError(f"evidence must be a list of answers with claim, status, figure and shown; got {bundle!r}.") \
            from None
    return [Answer(claim, found.status, found.figure, tuple(shown)) for claim, found, shown in written]


Question = Callable[..., Finding]


@dataclass(frozen=True)
class _Asked:
    claim: str
    question: Question
    same_everywhere: bool
    shown: tuple[str, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.question).parameters)


class Inquiry:
    """The claims that one notebook answers, each with a function from the notebook's results to a Finding.

    ``claims``: path of the ledger's CSV file, read when first needed.
    """

    def __init__(self, claims: Path | str) -> None:
        self._claims = Path(claims)
        self._asked: dict[str, _Asked] = {}

    def answers(
        self, claim: str, *, depends_on_speed: bool = False, shown: Iterable[str] = ()
    ) -> Callable[[Question], Question]:
        """Register the decorated function as the one that answers ``claim``.

        ``depends_on_speed``: its status may differ from machine to machine, so the verdict leaves it out. ``shown``:
        the calls that show it, where it needs no results. Raises LedgerError for a claim that is answered already.
        """

        def register(question: Question) -> Question:
            if claim in self._asked:
                raise LedgerError(f"{claim} is answered by {self._asked[claim].question.__name__} already.")
            self._asked[claim] = _Asked(claim, question, not depends_on_speed, tuple(shown))
            return question

        return register

    @property
    def claims(self) -> tuple[str, ...]:
        """The claims that are answered here, in the order of registration."""
        return tuple(self._asked)

    @property
    def needs(self) -> dict[str, list[str]]:
        """The results that the answers need, by name, each with the claims that need it."""
        needed: dict[str, list[str]] = {}
        for asked in self._asked.values():
            for name in asked.needs:
                needed.setdefault(name, []).append(asked.claim)
        return needed

    def evidence(self, **results: Any) -> Evidence:
        """Answer every claim from the notebook's ``results``, by their names.

        Raises LedgerError that names each result that is missing with its claims, and each that no claim needs: a
        claim is never left out quietly.
        """
        ledger, needed = Ledger.read(self._claims), self.needs
        missing = [f"{name} ({', '.join(claims)})" for name, claims in needed.items() if results.get(name) is None]
        if missing:
            raise LedgerError(f"evidence lacks {_listed(missing)}: every claim is answered, or none is shown.")
        unknown = [name for name in results if name not in needed]
        if unknown:
            raise LedgerError(f"no claim is answered from {_listed(unknown)}; results: {', '.join(needed)}.")
        return Evidence(ledger, [self._answer(asked, results) for asked in self._asked.values()])

    def _answer(self, asked: _Asked, results: Mapping[str, Any]) -> Answer:
        found = asked.question(**{name: results[name] for name in asked.needs})
        if not isinstance(found, Finding):
            raise LedgerError(f"the answer to {asked.claim} must be a Finding, not {found!r}.")
        shown = asked.needs + asked.shown
        return Answer(asked.claim, found.status, found.figure, shown, asked.same_everywhere)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


class Ledger:
    """The rows of the ledger by claim, in the file's order; columns are those of the file."""

    def __init__(self, columns: Iterable[str], rows: Iterable[Mapping[str, str]]) -> None:
        self.columns = tuple(columns)
        self._rows = {row["id"]: dict(row) for row in rows}
        self._places = {claim: place for place, claim in enumerate(self._rows)}

    @classmethod
    def read(cls, path: Path | str) -> "Ledger":
        """Read the CSV file at ``path``; raises LedgerError when it lacks a column or has a claim twice."""
        with Path(path).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), tuple(reader.fieldnames or ())
        missing = [name for name in ("id", "claim", "figure", *OURS) if name not in columns]
        if missing:
            raise LedgerError(f"{path} must have the column {missing[0]}; it has {', '.join(columns) or 'none'}.")
        ledger = cls(columns, rows)
        if len(ledger) != len(rows):
            raise LedgerError(f"{path} must have each claim once; it has {len(rows)} rows and {len(ledger)} claims.")
        return ledger

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __contains__(self, claim: str) -> bool:
        return claim in self._rows

    def __getitem__(self, claim: str) -> dict[str, str]:
        """Return the row of a claim by column; raises LedgerError for a claim that is not in the ledger."""
        if claim not in self._rows:
            raise LedgerError(f"{claim} is not a claim of the ledger.")
        return dict(self._rows[claim])

    def place(self, claim: str) -> int:
        """Return where a claim stands, from 0; raises LedgerError for a claim that is not in the ledger."""
        self[claim]
        return self._places[claim]

    def ours(self, claim: str) -> tuple[str, str, str]:
        """Return what stands there of ours: status, figure, where it is shown."""
        row = self[claim]
        return row["status"], row["our_figure"], row["where_shown"]

    def with_answers(self, answers: Mapping[str, tuple[str, str, str]]) -> "Ledger":
        """Return the ledger with these (status, figure, where) by claim, and nothing of ours in any other row."""
        for claim in answers:
            self[claim]
        rows = [row | dict(zip(OURS, answers.get(claim, ("", "", "")), strict=True))
                for claim, row in self._rows.items()]
        return Ledger(self.columns, rows)

    def text(self) -> str:
        """Return the CSV file: the same rows and columns in the same order give the same bytes."""
        written = io.StringIO()
        writer = csv.DictWriter(written, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows.values())
        return written.getvalue()

    def write(self, path: Path | str) -> bool:
        """Write the file unless it says so already; return whether it changed."""
        path, text = Path(path), self.text()
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return False
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(text, encoding="utf-8", newline="")
        fresh.replace(path)
        return True

"""What the post-mortem published: its timeline, its figures, and whether they agree with each other.

The figures are data, in ``data/``; nothing here was measured.
"""

import csv
from functools import cache

from labs import PROJECT
from labs.kit.table import Table, count, seconds

SOURCE = (
    "Darshan Turakhia, “How a Single Power User's Post Triggered 45,000 DB Queries and Crashed Our Mobile API”"
)
DATA = PROJECT / "data"

@cache
def _rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def figure(claim: str) -> str:
    """Return the published figure of a claim in the ledger, such as "F21"; raises KeyError when there is none."""
    for row in _rows("claims.csv"):
        if row["id"] == claim:
            return row["figure"]
    raise KeyError(f"{claim} is not a claim of the ledger; see data/claims.csv")


def value(name: str) -> float:
    """Return a published figure by its name in ``data/fanout_published.csv``, in the unit given there."""
    for row in _rows("fanout_published.csv"):
        if row["name"] == name:
            return float(row["value"])
    raise KeyError(f"{name} is not a published figure; see data/fanout_published.csv")


def timeline() -> Table:
    """Return what happened, as published."""
    rows = [(_when(row), row["what"]) for row in _rows("fanout_timeline.csv")]
    return Table(("when", "what happened"), rows, caption=f"As published: {SOURCE}.")


def _when(row: dict[str, str]) -> str:
    """The clock where it is known; where a row only counts from another, that."""
    if row["counted_from"] in ("", "the post"):
        return row["clock"] or "meanwhile"
    return f"{row['seconds']} s after {row['counted_from']}"


def arithmetic() -> Table:
    """Check the published figures against each other; everything here is computed from them."""
    followers, size = int(value("followers")), int(value("batch_size"))
    look_ups, pushes = followers * value("token_lookup") / 1000, followers * value("fcm_call") / 1000
    batches, even = -(-followers // size), followers // size * size
    in_sequence = batches * value("batch_call") / 1000
    a_connection = value("refusing_after") / value("pool_size")
    rows = [
        (f"{count(followers)} look-ups at {value('token_lookup'):g} ms", *_against(value("token_lookups"), look_ups)),
        (f"{count(followers)} pushes at {value('fcm_call'):g} ms", *_against(value("fcm_calls"), pushes)),
        ("both, one after another", *_against(value("serial_work"), look_ups + pushes)),
        ("the whole request, in its trace", *_against(value("whole_request"), look_ups + pushes)),
        (f"batches of {size}", count(value("batches")), count(batches), _agree(batches == value("batches"))),
        ("all batches, one after another", *_against(value("fan_out"), in_sequence)),
        (f"batches for {count(even)}, by the published len // {size} + 1", count(even // size),
         count(even // size + 1), _agree(False)),
        (f"{value('pool_size'):g} connections lost in {value('refusing_after'):g} s", "by one post",
         f"one more every {seconds(a_connection)}", "only if the post is sent again"),
    ]  # fmt: skip
    return Table(("figure", "published", "computed", "agrees"), rows)


def _against(said: float, computed: float) -> tuple[str, str, str]:
    """Return both in words, and whether they agree to two figures."""
    return seconds(said), seconds(computed), _agree(abs(computed - said) <= 0.02 * said)


def _agree(agrees: bool) -> str:
    return "yes" if agrees else "no"

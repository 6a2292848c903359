import math

import numpy as np
import pytest

from labs.kit.verdict import Fact, Verdict, share_in_words


@pytest.fixture
def verdict():
    return Verdict(
        "One post",
        [
            Fact("pool exhausted", np.bool_(True)),
            Fact("notifications lost", np.int64(45_312)),
            Fact("requests failed", "more than half"),
        ],
    )


def test_a_verdict_reads_the_same_on_every_machine(verdict):
    assert repr(verdict) == (
        "One post\npool exhausted: yes\nnotifications lost: 45,312\nrequests failed: more than half"
    )


def test_a_fact_is_found_by_its_name(verdict):
    assert verdict["pool exhausted"] is True
    assert verdict["notifications lost"] == 45_312
    assert "requests failed" in verdict
    with pytest.raises(KeyError, match="facts: pool exhausted, notifications lost"):
        verdict["pool"]


def test_a_measured_figure_is_no_fact():
    with pytest.raises(ValueError, match=r"p50 must be yes or no, a whole number or words, not 0\.31"):
        Fact("p50", 0.31)


def test_two_facts_of_one_name_are_refused():
    with pytest.raises(ValueError, match="not 'a' twice"):
        Verdict("x", [Fact("a", 1), Fact("a", 2)])


def test_html_escapes_words():
    assert "&lt;b&gt;" in Verdict("<b>", [Fact("a", "<i>")])._repr_html_()
    assert "<i>" not in Verdict("x", [Fact("a", "<i>")])._repr_html_()


def test_verdicts_with_the_same_facts_are_equal():
    assert Verdict("before", [Fact("a", 1)]) == Verdict("after", [Fact("a", 1)])
    assert Verdict("before", [Fact("a", 1)]) != Verdict("after", [Fact("a", 2)])


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0, "none"),
        (0.001, "under a tenth"),
        (0.0999, "under a tenth"),
        (0.1, "less than half"),
        (0.49, "less than half"),
        (0.5, "half"),
        (0.51, "more than half"),
        (0.999, "more than half"),
        (1, "all"),
        (math.nan, "nothing to share"),
    ],
)
def test_shares_are_said_in_words_with_wide_margins(share, words):
    assert share_in_words(share) == words


@pytest.mark.parametrize("share", [-0.1, 1.1, 62])
def test_a_share_outside_its_range_is_refused(share):
    with pytest.raises(ValueError, match="share must be a number from 0 to 1"):
        share_in_words(share)

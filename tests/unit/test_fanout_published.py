"""The published figures, checked against each other and against the ledger."""

import pytest

from labs.fanout import published


def test_every_published_figure_is_found_by_its_name():
    assert published.value("followers") == 45_312
    assert published.value("whole_request") == 312


def test_a_figure_that_was_not_published_is_named():
    with pytest.raises(KeyError, match="lucky_number is not a published figure"):
        published.value("lucky_number")
    with pytest.raises(KeyError, match="Z99 is not a claim"):
        published.figure("Z99")


def test_the_timeline_names_the_post_and_its_source():
    text = repr(published.timeline())
    assert "45,312 followers" in text
    assert "Turakhia" in text


def test_the_arithmetic_finds_what_does_not_add_up():
    agrees = dict(zip(published.arithmetic().column("figure"), published.arithmetic().column("agrees"), strict=True))
    assert agrees["45,312 look-ups at 6 ms"] == "yes"
    assert agrees["45,312 pushes at 45 ms"] == "yes"
    assert agrees["all batches, one after another"] == "yes"
    assert agrees["the whole request, in its trace"] == "no"
    assert agrees["batches for 45,000, by the published len // 500 + 1"] == "no"

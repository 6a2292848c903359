import math

import pytest

from labs.kit.table import Table, count, percent, seconds


@pytest.mark.parametrize(("duration", "words"), [
    (0, "0 s"), (0.0003, "0.3 ms"), (0.0032, "3.2 ms"), (0.00996, "10 ms"), (0.045, "45 ms"), (0.9996, "1.0 s"),
    (1.24, "1.2 s"), (9.96, "10 s"), (14.2, "14 s"), (312, "312 s"), (2310.4, "2,310 s"), (None, "–"), (math.nan, "–"),
])
def test_durations_are_written_with_the_unit_that_reads_best(duration, words):
    assert seconds(duration) == words


def test_counts_and_shares_are_written_as_they_are_read():
    assert (count(45312), count(None), count(2.0)) == ("45,312", "–", "2")
    assert (percent(0.62), percent(0.004), percent(0), percent(math.nan)) == ("62%", "0.4%", "0%", "–")


def test_text_is_aligned_with_figures_to_the_right():
    table = Table(("endpoint", "traces", "longest"), [("GET /feed", 1200, "3.2 ms"), ("POST /posts", 7, "312 s")])
    assert repr(table).splitlines() == [
        "endpoint     traces  longest",
        "-----------  ------  -------",
        "GET /feed     1,200   3.2 ms",
        "POST /posts       7    312 s",
    ]


def test_cells_read_as_words_where_python_would_show_its_own():
    table = Table(("a", "b", "c", "d"), [(True, None, 0.123456, float("nan")), (False, "x", 12345.6, math.inf)])
    assert repr(table).splitlines()[2].split() == ["yes", "–", "0.123", "–"]
    assert repr(table).splitlines()[3].split() == ["no", "x", "12,346", "∞"]


def test_html_escapes_what_it_shows_and_marks_figures():
    shown = Table(("query", "n"), [("SELECT '<b>'", 3)], caption="a & b")._repr_html_()
    assert "SELECT &#x27;&lt;b&gt;&#x27;" in shown
    assert '<td class="n">3</td>' in shown
    assert "<caption>a &amp; b</caption>" in shown


def test_a_table_without_rows_still_shows_its_columns():
    table = Table(("knob", "value"), [], caption="nothing ran")
    assert repr(table).splitlines() == ["nothing ran", "knob  value", "----  -----"]
    assert "<th>knob</th>" in table._repr_html_()


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"row 1 must have 2 cells \(a, b\), not 1"):
        Table(("a", "b"), [(1, 2), (3,)])


def test_a_column_is_found_by_name():
    table = Table(("a", "b"), [(1, 2), (3, 4)])
    assert table.column("b") == [2, 4]
    with pytest.raises(KeyError, match="columns: a, b"):
        table.column("c")


def test_the_style_sheet_touches_nothing_but_our_tables_and_outweighs_the_pages_own():
    from labs.kit.table import TABLE, TABLE_STYLE

    rules = TABLE_STYLE.removeprefix("<style>").removesuffix("</style>").strip().split("}")[:-1]
    selectors = [selector.strip() for rule in rules for selector in rule.split("{")[0].split(",")]
    assert len(selectors) >= 8
    assert all(selector.startswith(TABLE) for selector in selectors)
    assert TABLE.count(".labs-table") == 2

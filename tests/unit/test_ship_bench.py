"""What `labs bench` prints, and the workbook of its own that tests, renders and benchmarks run in."""

import argparse
import importlib
import json
import os

import pytest

from labs.cli import apart, bench
from labs.cli.benches import Row


def options(*words):
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(words)


def test_a_figure_is_judged_by_its_ratio_where_there_is_a_peer():
    row = Row("route at 45,312", 0.012, against="at 12", peer=0.011, most=1.2)
    assert row.cells() == ("route at 45,312", "12 ms", "at 12", "11 ms", "1.09", "at most 1.2 times", True)
    assert Row("route at 45,312", 0.020, against="at 12", peer=0.010, most=1.2).kept is False


def test_a_figure_without_a_peer_is_judged_by_itself_and_without_a_budget_not_at_all():
    assert Row("start", 3.5, most=3.0).kept is False
    assert Row("sends", 9000, "/s", least=5000).kept is True
    assert Row("start", 3.5).kept is None


@pytest.mark.parametrize("name", bench.BENCHMARKS)
def test_every_registered_benchmark_exists(name):
    module, _, function = bench.BENCHMARKS[name][0].partition(":")
    assert callable(getattr(importlib.import_module(f"labs.cli.benches.{module}"), function))


def test_an_unknown_benchmark_is_refused_with_the_names_there_are(capsys):
    assert bench.main(options("speed")) == 2
    assert "speed is no benchmark; there are: install, stack" in capsys.readouterr().err


def test_a_benchmark_that_cannot_run_leaves_the_others_their_figures(tmp_path, monkeypatch, capsys):
    benches = importlib.import_module("labs.cli.benches.stack")
    monkeypatch.setattr(benches, "good", lambda: [Row("one", 1.0)], raising=False)
    monkeypatch.setattr(benches, "bad", lambda: 1 / 0, raising=False)
    monkeypatch.setattr(bench, "BENCHMARKS", {"bad": ("stack:bad", "", False), "good": ("stack:good", "", False)})
    place = tmp_path / "figures.json"
    assert bench.main(options("--json", str(place))) == 1
    figures = json.loads(place.read_text())
    assert [row["measured"] for row in figures["rows"]] == ["one"]
    assert figures["broken"] == {"bad": "ZeroDivisionError: division by zero"}
    assert "bad could not be measured" in capsys.readouterr().err


def test_a_workbook_of_its_own_is_gone_afterwards_whatever_happened(monkeypatch):
    monkeypatch.setenv("LABS_HOME", "/somewhere")
    monkeypatch.delenv("LABS_SERVICES", raising=False)
    seen = []

    def fail_inside():
        with apart.own_home("url") as home:
            seen.append((home, os.environ["LABS_HOME"], os.environ["LABS_SERVICES"]))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_inside()
    home, variable, services = seen[0]
    assert (variable, services) == (str(home), "url")
    assert not home.exists()
    assert os.environ["LABS_HOME"] == "/somewhere"
    assert "LABS_SERVICES" not in os.environ

"""The command line: what it says to a wrong Python, a wrong command, and what the commands print."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from labs import PROJECT
from labs.cli import doctor, entry, status

BEFORE_THE_SENTENCE = ("labs/__init__.py", "labs/__main__.py")


@pytest.mark.parametrize("name", BEFORE_THE_SENTENCE)
def test_an_old_python_can_read_the_file_that_refuses_it(name: str) -> None:
    ast.parse((PROJECT / name).read_text(), feature_version=(3, 6))


def test_a_python_that_is_too_old_gets_one_sentence() -> None:
    code = (
        "import runpy, sys, collections\n"
        "sys.version_info = collections.namedtuple('v', 'major minor micro releaselevel serial')(3, 9, 2, 'final', 0)\n"
        "sys.argv = ['labs', 'start']; runpy.run_module('labs', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "Live Postmortems needs Python 3.11 or newer and this is 3.9; install a newer one "
        "and run it by its name, such as `python3.12 -m labs start`.\n"
    )


def test_an_unknown_command_is_named_and_the_others_are_listed(capsys: pytest.CaptureFixture) -> None:
    assert entry.main(["begin"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("There is no command 'begin'.")
    assert all(f"  {name} " in said for name in entry.COMMANDS)


@pytest.mark.parametrize("name", list(entry.COMMANDS))
def test_every_command_explains_itself_without_any_package(name: str) -> None:
    command = [sys.executable, "-S", "-m", "labs", name, "--help"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: python3 -m labs {name}")


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1"])
def test_a_port_that_is_none_is_refused(port: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        entry.main(["start", f"--port={port}"])
    assert f"{port!r} is no port; it can be 1 to 65535" in capsys.readouterr().err


def test_status_says_what_runs_and_what_does_not() -> None:
    facts = {"url": "redis://127.0.0.1:1/1", "version": "7.2", "pid": 12, "origin": "redis-server on PATH"}
    text = status.table({"postgres": None, "redis": facts, "fcm": {**facts, "pid": None}, "jupyter": None})
    assert text.splitlines() == [
        "postgres  not running",
        "redis     7.2      pid 12       redis-server on PATH",
        "          redis://127.0.0.1:1/1",
        "fcm       7.2      elsewhere    redis-server on PATH",
        "          redis://127.0.0.1:1/1",
        "jupyter   not running",
        "`python3 -m labs reset` starts a server that has stopped.",
    ]


def test_status_in_json_has_the_four_keys_when_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABS_HOME", str(tmp_path))
    monkeypatch.setenv("LABS_SERVICES", "embedded")
    assert json.loads(json.dumps(status.look())) == {"postgres": None, "redis": None, "fcm": None, "jupyter": None}
    assert list(tmp_path.iterdir()) == []  # looking leaves no trace


def test_the_doctor_exits_with_one_when_something_stands_in_the_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("LABS_NO_VENV", "1")
    assert entry.main(["doctor"]) == 0, capsys.readouterr().out
    lines = capsys.readouterr().out.splitlines()
    assert all(line.split()[0] in ("ok", "attention") for line in lines[:-2])
    assert lines[-1] == "This machine can run the workbook."

    monkeypatch.setattr(doctor, "_postgres", lambda: doctor.Finding("PostgreSQL", "broken", "mend it", blocks=True))
    assert entry.main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "attention  PostgreSQL   broken; mend it" in said
    assert said.splitlines()[-1] == "In the way: PostgreSQL."


def test_the_doctor_names_a_pinned_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_installed", lambda name: "" if name == "celery" else dict(doctor._pins())[name])
    finding = doctor._packages()
    assert finding.what.startswith("not installed: celery ")
    assert finding.remedy

"""The set-up: made once, made again when it was cut short, and never left half done."""

import base64
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from labs import PROJECT
from labs.cli import bootstrap
from tests.homes import PATIENCE


def wheel(folder: Path, name: str, version: str) -> Path:
    """Write the smallest wheel there can be, so that pip needs no network."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},sha256={_digest(text)},{len(text)}\n" for file, text in files.items())
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": record + f"{info}/RECORD,,\n"}.items():
            archive.writestr(file, text)
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the real command line and one small package to install."""
    shutil.copytree(PROJECT / "labs" / "cli", tmp_path / "labs" / "cli", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "__main__.py"):
        shutil.copy(PROJECT / "labs" / name, tmp_path / "labs" / name)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "requirements.txt").write_text(f"{wheel(tmp_path, 'tool', '1.0')}\n")
    (tmp_path / "requirements.txt").write_text(f"{wheel(tmp_path, 'part', '1.0')}\n")
    return tmp_path


class Said(list):
    """Progress that is kept instead of printed."""

    def __call__(self, line: str) -> None:
        self.append(line)

    now_and_then = __call__


def installed(environment: bootstrap.Environment, name: str) -> bool:
    command = [str(environment.python), "-c", f"import {name}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.live
def test_an_environment_is_made_once_and_then_brought_up_to_date(project: Path) -> None:
    environment = bootstrap.Environment(project)
    assert not environment.usable()
    assert not environment.complete(development=False)

    environment.make(development=False, say=Said())
    assert environment.complete(development=False)
    assert not environment.complete(development=True)
    assert installed(environment, "part")
    assert installed(environment, "labs")  # any program of the environment finds the package
    assert not installed(environment, "tool")

    said = Said()
    environment.make(development=True, say=said)
    assert environment.complete(development=True)
    assert installed(environment, "tool")
    assert not any("Making" in line for line in said)

    (project / "requirements.txt").write_text(f"{wheel(project, 'part', '2.0')}\n")
    assert not environment.complete(development=False)

    (environment.folder / "labs-unfinished").touch()  # what an installation leaves that was killed in the middle
    assert not environment.usable()
    assert not environment.complete(development=True)


def test_an_unfinished_environment_is_made_again_from_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = bootstrap.Environment(project)
    environment.folder.mkdir()
    (environment.folder / "labs-unfinished").touch()
    monkeypatch.setattr(environment, "_create", environment.folder.mkdir)
    monkeypatch.setattr(environment, "_run_pip", lambda command, say: (0, ""))
    said = Said()
    environment.make(development=False, say=said)
    assert said[0] == "An earlier .venv is unfinished or broken: making it again"
    assert [path.name for path in environment.folder.iterdir()] == ["labs-stamp.json"]


def test_an_environment_whose_python_is_gone_is_not_usable(tmp_path: Path) -> None:
    environment = bootstrap.Environment(tmp_path)
    environment.python.parent.mkdir(parents=True)
    environment.python.symlink_to("/nowhere/python3")
    assert not environment.usable()
    assert not environment.complete(development=False)


def test_an_environment_moved_from_elsewhere_is_not_usable(tmp_path: Path) -> None:
    environment = bootstrap.Environment(tmp_path)
    environment.python.parent.mkdir(parents=True)
    environment.python.symlink_to(sys.executable)  # starts, and belongs to another environment
    assert not environment.usable()


@pytest.mark.live
def test_an_interrupted_set_up_leaves_nothing_half_done(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # an index that takes the call and never answers
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        (project / "requirements.txt").write_text("no-such-part==1.0\n")
        process = subprocess.Popen(
            [sys.executable, "-m", "labs", "start", "--no-browser"],
            cwd=project,
            env={**_outside(), "PIP_INDEX_URL": index, "PIP_CONFIG_FILE": os.devnull},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        silent.settimeout(PATIENCE)
        call, _ = silent.accept()  # pip is at work
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=PATIENCE)
        call.close()
    assert process.returncode == 130, said
    assert not (project / ".venv").exists()
    assert said.splitlines()[-1] == "Interrupted."


def test_without_a_network_one_sentence_says_so(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = bootstrap.Environment(project)
    noise = (
        "WARNING: Retrying (Retry(total=1)) after connection broken by 'NewConnectionError'\n"
        "ERROR: Could not find a version that satisfies the requirement part==1.0 (from versions: none)\n"
        "ERROR: No matching distribution found for part==1.0\n"
    )
    monkeypatch.setattr(environment, "_create", environment.folder.mkdir)
    monkeypatch.setattr(environment, "_run_pip", lambda command, say: (1, noise))
    with pytest.raises(bootstrap.SetUpError) as refused:
        environment.make(development=False, say=Said())
    assert str(refused.value) == (
        "The packages cannot be installed: No matching distribution found for part==1.0. "
        "Check the network (or PIP_INDEX_URL) and run the same command again."
    )
    assert not environment.folder.exists()


@pytest.mark.parametrize(
    ("said", "line", "what_to_do"),
    [
        ("a\nERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n",
         "No space left on device", "Free about 1.5 GB"),
        ("x\n  ... Temporary failure in name resolution'))': /simple/part/\n",
         "Temporary failure in name resolution", "Check the network"),
        ("building\nERROR: Failed building wheel for part\n", "Failed building wheel for part", "doctor"),
        ("", "it said nothing", "doctor"),
    ],
)  # fmt: skip
def test_the_telling_line_of_a_failure_is_found(said: str, line: str, what_to_do: str) -> None:
    found = bootstrap.telling_line(said)
    assert line in found
    assert what_to_do in bootstrap.remedy(found)


def test_a_full_disk_is_noticed_before_anything_is_made(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 5e8))
    with pytest.raises(bootstrap.SetUpError, match=r"has 0\.5 GB free and the environment needs 1\.5 GB; make room"):
        bootstrap.Environment(project).make(development=False, say=Said())
    assert not (project / ".venv").exists()


def test_a_python_without_venv_gets_the_remedy(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else object())
    with pytest.raises(
        bootstrap.SetUpError, match=r"no `ensurepip` module; install it .*apt install python3\.\d+-venv"
    ):
        bootstrap.Environment(project).make(development=False, say=Said())
    assert not (project / ".venv").exists()


def test_another_set_up_of_the_same_folder_is_waited_for(project: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from labs.cli import bootstrap\n"
        "with bootstrap._alone(Path(sys.argv[1])):\n    print('in', flush=True); sys.stdin.readline()"
    )
    command = [sys.executable, "-c", code, str(project)]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": PROJECT}
    with subprocess.Popen(command, **options) as first:
        assert first.stdout.readline() == "in\n"
        with subprocess.Popen(command, **options) as second:
            assert second.stdout.readline() == "Another set-up of this folder is under way: waiting for it\n"
            first.communicate("\n", timeout=PATIENCE)
            assert second.communicate("\n", timeout=PATIENCE)[0] == "in\n"


def test_with_labs_no_venv_missing_packages_are_named(project: Path) -> None:
    bare = [sys._base_executable, "-S", "-m", "labs", "start"]
    done = subprocess.run(
        bare, cwd=project, env={**_outside(), "LABS_NO_VENV": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("LABS_NO_VENV is set and this Python has no psutil, psycopg, redis, jupyterlab;")


def test_before_the_set_up_status_says_that_nothing_runs(project: Path) -> None:
    done = subprocess.run(
        [sys._base_executable, "-S", "-m", "labs", "status", "--json"],
        cwd=project, env=_outside(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert json.loads(done.stdout) == dict.fromkeys(["postgres", "redis", "fcm", "jupyter"])
    assert not (project / ".venv").exists()


def _outside() -> dict[str, str]:
    kept = ("LABS_", "PYTHONPATH", "PIP_")
    return {name: value for name, value in os.environ.items() if not name.startswith(kept)}


def test_the_progress_shows_the_seconds(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(bootstrap, "time", SimpleNamespace(time=lambda: now))
    monkeypatch.setattr(bootstrap, "_HANDED_OVER", None)
    say = bootstrap.Progress()
    say("Making .venv")
    now += bootstrap.NEWS_SECONDS
    say.now_and_then("too soon")
    now += 9
    say.now_and_then("Installing")
    assert capsys.readouterr().out == "[   0 s] Making .venv\n[  12 s] Installing\n"

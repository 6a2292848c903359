"""The pinned lists and the files that read them agree with what the code imports."""

import ast
import functools
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from labs import PROJECT

PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[a-z0-9,]+\])?==(?P<version>[^\s;#]+)")
LISTS = [PROJECT / "requirements.txt", PROJECT / "tests" / "requirements.txt"]


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(path: Path) -> set[str]:
    return {canonical(PIN.match(line)["name"]) for line in lines(path)}


def imported(folder: Path) -> set[str]:
    """The top-level names that the Python files under ``folder`` import, the standard library's and ours left out."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(f"{node.module}.{node.names[0].name}")
    return {name for name in found if name.split(".")[0] not in {*sys.stdlib_module_names, "labs", "tests"}}


@pytest.mark.parametrize("path", LISTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_dependency_is_pinned_to_one_version(path):
    assert [line for line in lines(path) if not PIN.match(line)] == []


@pytest.mark.parametrize("path", LISTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_dependency_says_why_it_is_there(path):
    text = path.read_text()
    unexplained = [line for line in lines(path) if "  # " not in line and f"\n# {PIN.match(line)['name']} " not in text]
    assert unexplained == []


@functools.cache
def installed():
    return packages_distributions()


def providers(name: str) -> set[str]:
    """The distributions that may provide the import ``name``; a namespace such as opentelemetry has many."""
    top = name.partition(".")[0]
    return {canonical(provider) for provider in installed().get(top, [top])}


def test_everything_the_package_imports_is_pinned():
    have = pinned(LISTS[0])
    assert {name for name in imported(PROJECT / "labs") if not providers(name) & have} == set()


def test_everything_the_tests_import_is_pinned():
    have = pinned(LISTS[0]) | pinned(LISTS[1])
    assert {name for name in imported(PROJECT / "tests") if not providers(name) & have} == set()


def test_the_push_server_image_has_what_the_push_server_imports():
    recipe = (PROJECT / "labs" / "fcm" / "Dockerfile").read_text()
    taken = set(re.search(r"\^\((?P<names>[^)]*)\)==", recipe)["names"].split("|"))
    assert taken <= pinned(LISTS[0])
    assert {name for name in imported(PROJECT / "labs" / "fcm") if not providers(name) & taken} == set()


def test_every_published_port_is_on_loopback():
    published = re.findall(r'^\s+- "([^"]*:\d+|[^"]*\})"$', (PROJECT / "docker-compose.yml").read_text(), re.MULTILINE)
    assert len(published) == 4
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []

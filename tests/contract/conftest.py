"""One push server for all contract tests, and one that speaks TLS; each test has a project of its own."""

import itertools
from collections.abc import Iterator

import pytest

from labs.fcm import Admin, Served, serve

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def push_server() -> Iterator[Served]:
    with serve() as served:
        yield served


@pytest.fixture(scope="session")
def tls_push_server() -> Iterator[Served]:
    with serve(self_signed=True) as served:
        yield served


@pytest.fixture
def push(push_server: Served) -> Iterator[Admin]:
    """The admin client of a fresh project that answers at once; ``push.url`` is its server's."""
    with Admin(push_server.url, f"contract-{next(_numbers)}") as admin:
        admin.set(latency_ms=0)
        yield admin

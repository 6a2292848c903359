"""`docker compose up`, as somebody with Docker and no Python types it. Needs a container engine."""

import json
import re
import socket
import subprocess
import urllib.request
import uuid

import pytest

from labs import PROJECT

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1500)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Project:
    """One `docker compose up` with a name and a JupyterLab port of its own."""

    def __init__(self, port: int, monkeypatch) -> None:
        monkeypatch.setenv("LABS_WORKBOOK_PORT", str(port))
        self.port, self.name = port, f"labs-test-{uuid.uuid4().hex[:8]}"

    def compose(self, *arguments: str) -> str:
        command = ["docker", "compose", "--ansi", "never", "-p", self.name, *arguments]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=1200)
        assert done.returncode == 0, f"docker compose {arguments[0]}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def containers(self) -> dict:
        identifiers = self.compose("ps", "--quiet").split()
        done = subprocess.run(["docker", "inspect", *identifiers], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        return {container["Config"]["Labels"]["com.docker.compose.service"]: container for container in found}

    def get(self, address: str) -> dict:
        with urllib.request.urlopen(address, timeout=30) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def everything():
    with pytest.MonkeyPatch.context() as monkeypatch:
        project = Project(free_port(), monkeypatch)
        try:
            project.compose("up", "--detach", "--wait")
            yield project
        finally:
            project.compose("down", "--volumes", "--timeout", "3")


def test_every_service_comes_up_healthy(everything):
    health = {name: container["State"]["Health"]["Status"] for name, container in everything.containers().items()}
    assert health == dict.fromkeys(("postgres", "redis", "fcm", "workbook"), "healthy")


def test_every_port_is_published_on_loopback_only(everything):
    for name, container in everything.containers().items():
        published = [place for places in container["NetworkSettings"]["Ports"].values() for place in places or []]
        assert [place["HostIp"] for place in published] == ["127.0.0.1"], name


def test_the_log_shows_the_address_that_opens_the_first_notebook(everything):
    log = everything.compose("logs", "--no-log-prefix", "workbook")
    address = re.search(rf"http://127\.0\.0\.1:{everything.port}/lab(\S*)\?token=(\w+)", log)
    assert address, log
    path, token = address.groups()
    assert path == "/tree/notebooks/00_start_here.ipynb"
    contents = f"http://127.0.0.1:{everything.port}/api/contents/notebooks/00_start_here.ipynb?content=0&token={token}"
    assert everything.get(contents)["writable"] is True


def test_a_kernel_in_the_workbook_reaches_the_three_servers(everything):
    code = "from labs import stack; s = stack.up(); print([service.origin for service in s.services], s.mode)"
    said = everything.compose("exec", "-T", "workbook", "python", "-c", code)
    assert said.strip().endswith("url")

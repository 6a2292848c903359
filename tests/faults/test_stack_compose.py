"""The same life on containers: started by the first, removed after the last, recovered by a reset."""

import json
import subprocess
from urllib.parse import urlsplit

import pytest

from labs.stack.model import project_name
from tests.homes import Workbook, until

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

COMPOSE = {"LABS_SERVICES": "compose"}
USE = """
import json, psycopg, redis
from labs import stack
up = stack.up()
with psycopg.connect(up.postgres.url.replace("+psycopg", "")) as connection:
    number = connection.execute("SELECT 6 * 7").fetchone()[0]
print(json.dumps([number, redis.Redis.from_url(up.redis.url).ping(), up.mode, up.postgres.origin]))
"""


def containers(workbook: Workbook) -> dict[str, str]:
    """Return the running containers of ``workbook``: service to id."""
    label = f"label=com.docker.compose.project={project_name(workbook.home)}"
    form = '{{.Label "com.docker.compose.service"}} {{.ID}}'
    command = ["docker", "ps", "--filter", label, "--format", form]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(line.split() for line in said.splitlines())


def test_containers_come_with_the_first_kernel_recover_and_go_with_the_last(workbook: Workbook) -> None:
    kernel = workbook.hold(**COMPOSE)
    assert set(containers(workbook)) == {"postgres", "redis", "fcm"}
    assert all("127.0.0.1" in facts["url"] for facts in kernel.stack.values())
    used = workbook.run(USE, **COMPOSE)
    assert json.loads(used.stdout) == [42, True, "compose", "Compose"], used.stderr

    subprocess.run(["docker", "kill", containers(workbook)["postgres"]], capture_output=True, check=True)
    until(
        lambda: json.loads(workbook.labs("status", "--json", **COMPOSE).stdout)["postgres"] is None,
        "PostgreSQL reported as stopped",
    )
    refused = workbook.run(USE, **COMPOSE)
    assert "PostgreSQL has stopped unexpectedly; `python3 -m labs reset` starts it again." in refused.stderr
    reset = workbook.labs("reset", **COMPOSE)
    assert reset.returncode == 0, reset.stderr
    assert json.loads(workbook.run(USE, **COMPOSE).stdout)[0] == 42
    after = json.loads(workbook.labs("status", "--json", **COMPOSE).stdout)
    assert f"@127.0.0.1:{urlsplit(after['postgres']['url']).port}/" in kernel.stack["postgres"]["url"]

    other = workbook.run("from labs import stack; stack.up('embedded')", **COMPOSE)
    assert "The compose servers are running; `python3 -m labs stop` stops them first." in other.stderr

    kernel.kill()
    until(lambda: not containers(workbook), "the end of the containers")


def test_containers_left_by_a_killed_keeper_are_removed_by_stop(workbook: Workbook) -> None:
    workbook.hold(**COMPOSE)
    workbook.keeper().kill()
    assert containers(workbook)

    stopped = workbook.labs("stop", **COMPOSE)

    assert stopped.returncode == 0, stopped.stderr
    assert containers(workbook) == {}

"""``labs start`` with a real JupyterLab: one address, one stop, nothing left."""

import json
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request

import pytest

from tests.homes import PATIENCE, Workbook, running, until, until_gone

pytestmark = pytest.mark.live

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/lab\S*\?token=[0-9a-f]{48}")


def opened(workbook: Workbook, *arguments: str) -> tuple[subprocess.Popen, str]:
    """Start a workbook; return the process and its address, which stands on a line of its own."""
    process = workbook.start("-m", "labs", "start", "--no-browser", *arguments)
    said = []
    for line in process.stdout:
        said.append(line)
        if ADDRESS.fullmatch(line.strip()):
            return process, line.strip()
    raise AssertionError("".join(said) + process.stderr.read())


def api(address: str, path: str, **more) -> dict:
    """Ask JupyterLab's own API."""
    base, token = re.match(r"(http://[^/]+)/.*token=(\w+)", address).groups()
    request = urllib.request.Request(base + path, headers={"Authorization": f"token {token}"}, **more)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


def test_start_opens_jupyterlab_and_stop_leaves_nothing(workbook: Workbook) -> None:
    process, address = opened(workbook)
    status = json.loads(workbook.labs("status", "--json").stdout)
    assert list(status) == ["postgres", "redis", "fcm", "jupyter"]
    for facts in status.values():
        assert list(facts) == ["url", "version", "pid", "origin"]
    assert status["jupyter"]["url"] == address
    with pytest.raises(urllib.error.HTTPError, match="403"):
        api(re.sub("token=.*", "token=0", address), "/api/kernels")
    kernel = api(address, "/api/kernels", data=b'{"name": "python3"}', method="POST")
    found = workbook.run(KERNEL_CODE.replace("KERNEL", kernel["id"]))
    assert json.loads(found.stdout) == status["postgres"]["url"], found.stderr
    everything = workbook.processes()

    again = workbook.labs("start", "--no-browser")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == address

    stopped = workbook.labs("stop")
    assert stopped.returncode == 0, stopped.stderr
    assert process.wait(PATIENCE) == 0
    assert running(everything) == []
    assert workbook.labs("stop").stdout == "Nothing is running.\n"
    assert list(json.loads(workbook.labs("status", "--json").stdout).values()) == [None] * 4


def test_ctrl_c_stops_everything(workbook: Workbook) -> None:
    process, _ = opened(workbook)
    everything = workbook.processes()

    process.send_signal(signal.SIGINT)

    assert process.wait(PATIENCE) == 0
    assert running(everything) == []
    assert process.stdout.read().splitlines()[-1] == "Everything has stopped."


def test_a_killed_workbook_leaves_nothing(workbook: Workbook) -> None:
    process, address = opened(workbook)
    api(address, "/api/kernels", data=b'{"name": "python3"}', method="POST")
    everything = workbook.processes()

    process.kill()

    until_gone(everything)


def test_a_start_can_be_stopped_before_it_is_ready(workbook: Workbook) -> None:
    process = workbook.start("-m", "labs", "start", "--no-browser")
    until((workbook.home / "stack" / "session.json").exists, "the start of the start")

    stopped = workbook.labs("stop")

    assert stopped.returncode == 0, stopped.stderr
    process.wait(PATIENCE)
    until(lambda: not running(workbook.processes()), "the end of what had been started")


def test_a_taken_port_is_refused_in_one_sentence(workbook: Workbook) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = workbook.labs("start", "--no-browser", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"Port {port} cannot be had (Address already in use); choose another, or leave out `--port` for a free one."
    )
    assert not running(workbook.processes())


KERNEL_CODE = """
import json, labs
from jupyter_client import BlockingKernelClient
[connection] = (labs.home() / "jupyter" / "runtime").glob("kernel-KERNEL.json")
client = BlockingKernelClient(connection_file=str(connection))
client.load_connection_file()
client.start_channels()
client.wait_for_ready(timeout=60)
said = []
client.execute_interactive(
    "from labs import stack; print(stack.up().postgres.url)", timeout=60,
    output_hook=lambda message: said.append(message["content"].get("text", "")))
print(json.dumps("".join(said).strip()))
"""

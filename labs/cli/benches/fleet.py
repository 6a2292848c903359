"""The fleet: forty processes forked from a warmed parent, beside the same process started cold."""

import os
import socket
import subprocess
import sys
import time

from labs import PROJECT, home
from labs.cli.benches import Row
from labs.kit.fleet import Fleet, free_port

PODS = 40
COLD = 4
APP = "labs.fanout.step0_as_it_failed:app"
# No pod is asked anything, so the addresses need not answer.
ENVIRONMENT = {
    "DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:9/nothing",
    "JWT_SECRET": "thirty-two-bytes-or-more-for-this-one",
    "FCM_URL": "http://127.0.0.1:9",
    "FCM_PROJECT": "bench",
    "FCM_ACCESS_TOKEN": "bench",
}


def start_of_forty() -> list[Row]:
    """Start 40 API pods, and 4 of them cold; return wall seconds until all listen, and per pod beside a cold one."""
    forty = _forked(PODS)
    cold = _cold(COLD) / COLD
    return [
        Row("40 API pods started, each listening", forty),
        Row("one of these pods", forty / PODS, against="the same started cold", peer=cold),
    ]


def _forked(number: int) -> float:
    run_dir = home() / "runs" / "bench"
    run_dir.mkdir(parents=True)
    ports = _free_ports(number)
    with Fleet(run_dir) as fleet:
        fleet.gunicorn("warm", APP, free_port(), threads=4, env=ENVIRONMENT, probe=False)  # loads the libraries
        started = time.monotonic()
        for port in ports:
            fleet.gunicorn(f"api-{port}", APP, port, threads=4, env=ENVIRONMENT, probe=False)
        for port in ports:
            fleet.wait_for_port("127.0.0.1", port, timeout=120, process=f"api-{port}")
        return time.monotonic() - started


def _free_ports(number: int) -> list[int]:
    ports: set[int] = set()
    while len(ports) < number:
        ports.add(free_port())
    return list(ports)


def _cold(number: int) -> float:
    """Return the wall seconds until ``number`` pods, started by their command line all at once, listen."""
    ports = _free_ports(number)
    started = time.monotonic()
    pods = [
        subprocess.Popen(
            [sys.executable, "-m", "gunicorn", APP, "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread",
             "--threads", "4", "--no-control-socket", "--log-level", "warning"],
            cwd=PROJECT, env={**os.environ, **ENVIRONMENT},
        )
        for port in ports
    ]  # fmt: skip
    try:
        for port, pod in zip(ports, pods, strict=True):
            _until_it_listens(port, pod)
        return time.monotonic() - started
    finally:
        for pod in pods:
            pod.terminate()
        for pod in pods:
            pod.wait(timeout=30)


def _until_it_listens(port: int, pod: subprocess.Popen) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if pod.poll() is not None:
                raise RuntimeError(f"a pod started cold ended with code {pod.returncode}") from None
            time.sleep(0.01)

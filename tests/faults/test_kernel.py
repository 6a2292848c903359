"""A notebook kernel in the middle of a run of incident 1: killed, doubled, robbed of its database, given bad knobs."""

import json
import math
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from queue import Empty
from typing import Any

import psutil
import pytest
from jupyter_client.manager import start_new_kernel

from labs import fanout
from labs.kit.knobs import KnobError
from tests.homes import PATIENCE, Workbook, running, until, until_gone

pytestmark = pytest.mark.live

IMPORT = "from labs import fanout, stack"
LONG_RUN = "fanout.run(followers=2_000, seconds=600, client_timeout_s=5)"
SHORT_RUN = """
from labs.fanout.experiment import quiet_system
with quiet_system(followers=12, client_retries=False) as system:
    print(system.create_post() > 0)
"""
SEEDING = 4 * PATIENCE  # wall seconds that servers, data and pods may take on a loaded machine


class Kernel:
    """A real notebook kernel whose servers and runs are in ``workbook``."""

    def __init__(self, workbook: Workbook) -> None:
        self.workbook = workbook
        self.manager, self.client = start_new_kernel(SEEDING, kernel_name="python3", env=workbook.environment())
        try:
            self.process = psutil.Process(self.manager.provisioner.pid)
            self.run(IMPORT)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the kernel at once."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def run(self, code: str, timeout: float = SEEDING) -> str:
        """Run ``code`` and return what it printed. Fails when it raises."""
        said: list[str] = []
        answer = self.client.execute_interactive(code, timeout=timeout, output_hook=lambda m: said.append(_text(m)))
        assert answer["content"]["status"] == "ok", "\n".join(answer["content"].get("traceback", []))
        return "".join(said)

    def begin(self, code: str) -> str:
        """Begin ``code`` and return the id to wait for."""
        return self.client.execute(code)

    def begin_run(self) -> str:
        """Begin a run that takes minutes and wait until its API has answered readers."""
        started = self.begin(LONG_RUN)
        until(self._readers_were_answered, "the first answers of the run", SEEDING)
        return started

    def _fail_if_over(self) -> None:
        with suppress(Empty):
            answer = self.client.get_shell_msg(timeout=0)["content"]
            raise AssertionError(f"the run ended too early: {answer.get('evalue')}")

    def error(self, message_id: str) -> dict[str, Any]:
        """Wait until what was begun has ended, and return how it failed: ename and evalue."""
        while True:
            answer = self.client.get_shell_msg(timeout=SEEDING)
            if answer["parent_header"].get("msg_id") == message_id:
                assert answer["content"]["status"] == "error", "it did not fail"
                return answer["content"]

    def everything(self) -> list[psutil.Process]:
        """Return the kernel, its children to the last, the keeper, the servers and their children."""
        return [self.process, *self.process.children(recursive=True), *self.workbook.processes()]

    def _readers_were_answered(self) -> bool:
        self._fail_if_over()
        events = [path.read_text() for path in self.workbook.home.glob("runs/*/events.jsonl")]
        return any('"outcome":"ok"' in text.replace(" ", "") for text in events)


def _text(message: dict[str, Any]) -> str:
    plain = message["msg_type"] == "stream" and message["content"]["name"] == "stdout"
    return message["content"]["text"] if plain else ""


@pytest.fixture
def kernel(workbook: Workbook) -> Iterator[Kernel]:
    with Kernel(workbook) as made:
        yield made


def test_a_kernel_killed_in_mid_run_leaves_no_process(kernel: Kernel) -> None:
    kernel.begin_run()
    everything = kernel.everything()
    # the kernel, zygote, recorder, traffic, gunicorn and its worker, the keeper, the servers and their children
    assert len(everything) > 10, everything

    kernel.process.send_signal(signal.SIGKILL)

    until_gone(everything)
    assert running(kernel.workbook.processes()) == []


def test_two_workbooks_run_at_once_and_keep_apart(workbook: Workbook, another_workbook: Workbook) -> None:
    with ExitStack() as both:
        here, there = (both.enter_context(Kernel(each)) for each in (workbook, another_workbook))
        here.begin_run()
        assert there.run(SHORT_RUN).strip() == "True"
        assert not set(_addresses(workbook)) & set(_addresses(another_workbook))

        theirs = another_workbook.servers()
        here.process.send_signal(signal.SIGKILL)
        until(lambda: not running(workbook.processes()), "the end of the first workbook")
        assert running(theirs) == theirs
        assert there.run(SHORT_RUN).strip() == "True"


def _addresses(workbook: Workbook) -> list[str]:
    status = json.loads(workbook.labs("status", "--json").stdout)
    return [status[name]["url"] for name in ("postgres", "redis", "fcm")]


def test_postgres_killed_in_mid_run_is_a_clear_error_and_reset_recovers(kernel: Kernel) -> None:
    run = kernel.begin_run()
    server = json.loads(kernel.workbook.labs("status", "--json").stdout)["postgres"]["pid"]

    os.kill(server, signal.SIGKILL)

    error = kernel.error(run)
    assert error["ename"] == "StackError"
    assert error["evalue"] == "PostgreSQL has stopped unexpectedly; `python3 -m labs reset` starts it again."
    reset = kernel.workbook.labs("reset")
    assert reset.returncode == 0, reset.stderr
    assert kernel.run(SHORT_RUN).strip() == "True"


@pytest.mark.parametrize(
    ("knob", "value", "allowed"),
    [
        ("pool_size", 0, "from 1 to 100"),
        ("pool_size", -3, "from 1 to 100"),
        ("fcm_latency_ms", math.nan, "from 0 to 5,000 ms"),
        ("followers", "many", "from 10 to 1,000,000"),
        ("followers", 2_000_000, "from 10 to 1,000,000"),
        ("step", 7, "published fix"),
    ],
)
def test_a_bad_knob_is_refused_by_name_with_what_it_allows(knob: str, value: Any, allowed: str) -> None:
    with pytest.raises(KnobError) as refused:
        fanout.run(**{knob: value})
    assert knob in str(refused.value)
    assert allowed in str(refused.value)

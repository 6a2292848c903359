"""The mock on the wire: other clients, the batch endpoint, and its life as a process."""

import asyncio
import email
import json
import os
import signal
import socket
import subprocess
import sys
import time
from email.policy import HTTP
from urllib.parse import urlsplit

import aiohttp
import httpx
import pytest
import requests

from labs import PROJECT
from labs.fcm import Admin, serve
from labs.fcm.settings import SettingError
from labs.kit import control

HEADERS = {"Authorization": "Bearer ya29.wire"}
PATIENCE_S = 60


def send_url(push: Admin) -> str:
    return f"{push.url}/v1/projects/{push.project}/messages:send"


def message(token: str = "a") -> dict:
    return {"message": {"token": token}}


def until(true, said: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, said
        time.sleep(0.01)


# -- clients -----------------------------------------------------------------------------------------------------------


def test_requests_keeps_its_connection(push):
    with requests.Session() as session:
        answers = [session.post(send_url(push), json=message(), headers=HEADERS) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        pools = session.get_adapter(push.url).poolmanager.pools
        (pool,) = map(pools.get, pools.keys())
        assert (pool.num_connections, pool.num_requests) == (1, 3)


@pytest.mark.parametrize(("options", "version"), [({}, "HTTP/1.1"), ({"http1": False, "http2": True}, "HTTP/2")])
def test_httpx_speaks_both_versions_in_the_clear(push, options, version):
    with httpx.Client(**options) as client:
        answer = client.post(send_url(push), json=message(), headers=HEADERS)
    assert (answer.status_code, answer.http_version) == (200, version)
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"


def test_http2_over_tls_is_negotiated(tls_push_server):
    import ssl

    trusting = ssl.create_default_context(cafile=str(tls_push_server.certificate))
    with httpx.Client(http2=True, verify=trusting) as client:
        assert client.get(f"{tls_push_server.url}/admin/health").http_version == "HTTP/2"
    with httpx.Client(verify=trusting) as client:
        assert client.get(f"{tls_push_server.url}/admin/health").http_version == "HTTP/1.1"


def test_messages_in_flight_wait_for_their_latency_together(push):
    push.set(latency_ms=1000)

    async def send_all(count: int) -> list[int]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as session:

            async def send(number: int) -> int:
                async with session.post(send_url(push), json=message(f"d{number}")) as answer:
                    await answer.read()
                    return answer.status

            return await asyncio.gather(*map(send, range(count)))

    started = time.monotonic()
    assert asyncio.run(send_all(150)) == [200] * 150
    assert 1 <= time.monotonic() - started < 75  # one after another they would take 150 s
    assert push.counters()["devices"] == 150


def test_a_changed_latency_applies_to_the_next_request(push):
    def took() -> float:
        started = time.monotonic()
        requests.post(send_url(push), json=message(), headers=HEADERS, timeout=PATIENCE_S)
        return time.monotonic() - started

    push.set(latency_ms=300)
    assert took() >= 0.3
    push.set(latency_ms=0)
    assert min(took() for _ in range(20)) < 0.3


def test_a_client_that_gives_up_leaves_the_server_well(push):
    push.set(latency_ms=300)
    with pytest.raises(requests.Timeout):
        requests.post(send_url(push), json=message(), headers=HEADERS, timeout=0.05)
    push.set(latency_ms=0)
    assert requests.post(send_url(push), json=message(), headers=HEADERS, timeout=PATIENCE_S).status_code == 200
    assert push.counters()["duplicates"] == 1  # what was given up on has been sent all the same


def test_a_literal_dollar_before_the_token_is_refused(push):
    token = "ya29.wire"
    as_published = {"Authorization": f"Bearer ${token}"}
    answer = requests.post(send_url(push), json=message(), headers=as_published)
    assert (answer.status_code, answer.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    assert "invalid_token" in answer.headers["WWW-Authenticate"]


def test_the_admin_client_raises_the_servers_sentence(push):
    for value in (-1, float("nan"), "45"):
        with pytest.raises(SettingError, match=rf"^latency_ms: got {value!r}, but it must be"):
            push.set(latency_ms=value)


def test_the_admin_client_resets_with_or_without_settings(push):
    requests.post(send_url(push), json=message(), headers=HEADERS)
    assert push.reset(keep_settings=True)["settings"]["latency_ms"] == 0
    assert push.counters()["accepted"] == 0
    assert push.reset()["settings"]["latency_ms"] == 45


# -- batches -----------------------------------------------------------------------------------------------------------


def multipart(project: str, tokens: list[str]) -> tuple[bytes, dict]:
    """A batch as Google's own client library wrote it."""
    outer = email.message.MIMEPart(policy=HTTP)
    outer["Content-Type"] = 'multipart/mixed; boundary="===============7330845974216740156=="'
    for number, token in enumerate(tokens, 1):
        inner = email.message.MIMEPart(policy=HTTP)
        inner["Content-Type"] = "application/http"
        inner["Content-Transfer-Encoding"] = "binary"
        inner["Content-ID"] = f"<b29c5de2-0db4-490b-b421-6a51b598bd22 + {number}>"
        body = json.dumps(message(token))
        inner.set_payload(
            f"POST /v1/projects/{project}/messages:send HTTP/1.1\r\nContent-Type: application/json\r\n"
            f"MIME-Version: 1.0\r\nContent-Length: {len(body)}\r\nHost: fcm.googleapis.com\r\n\r\n{body}"
        )
        outer.attach(inner)
    headers = {"Content-Type": outer["Content-Type"], **HEADERS}
    return outer.as_bytes().partition(b"\r\n\r\n")[2], headers


def parts_of(answer: requests.Response) -> list[tuple[str, int, dict]]:
    """(Content-ID, status, JSON) of each part, read with Python's email package."""
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    parts = []
    for part in email.message_from_bytes(head + answer.content, policy=HTTP).iter_parts():
        assert part.get_content_type() == "application/http"
        response = part.get_payload(decode=True)
        status_line, _, rest = response.partition(b"\r\n")
        parts.append((part["Content-ID"], int(status_line.split()[1]), json.loads(rest.partition(b"\r\n\r\n")[2])))
    return parts


def test_a_multipart_batch_of_five_hundred_is_answered_part_by_part(push):
    push.set(dead_tokens=["d3"])
    body, headers = multipart(push.project, [f"d{number}" for number in range(1, 501)])
    answer = requests.post(f"{push.url}/batch", data=body, headers=headers)
    assert answer.status_code == 200
    parts = parts_of(answer)
    assert [part[0] for part in parts] == [
        f"<response-b29c5de2-0db4-490b-b421-6a51b598bd22 + {number}>" for number in range(1, 501)
    ]
    assert [number for number, part in enumerate(parts, 1) if part[1] != 200] == [3]
    assert parts[2][2]["error"]["status"] == "NOT_FOUND"
    assert len({part[2]["name"] for part in parts if part[1] == 200}) == 499
    counted = push.counters()
    assert (counted["accepted"], counted["requests"], counted["batches"]) == (499, 1, 1)


def test_a_multipart_batch_of_five_hundred_and_one_is_refused_whole(push):
    body, headers = multipart(push.project, [f"d{number}" for number in range(501)])
    answer = requests.post(f"{push.url}/batch", data=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert push.counters()["accepted"] == 0


def test_a_multipart_batch_with_a_dollar_before_the_token_is_unauthenticated_in_every_part(push):
    body, headers = multipart(push.project, ["a", "b"])
    answer = requests.post(f"{push.url}/batch", data=body, headers={**headers, "Authorization": "Bearer $x"})
    assert [part[1] for part in parts_of(answer)] == [401, 401]


def test_the_post_mortems_json_batch_is_answered_message_by_message(push):
    push.set(dead_tokens=["gone"])
    batch = {"messages": [{"token": "a", "notification": {"title": "New post"}}, {"token": "gone"}]}
    answer = requests.post(f"{push.url}/batch", json=batch, headers={**HEADERS, "X-Goog-User-Project": push.project})
    first, second = answer.json()["responses"]
    assert first["name"].startswith(f"projects/{push.project}/messages/")
    assert second["error"]["details"][0]["errorCode"] == "UNREGISTERED"


def test_a_batch_told_to_fail_does_so_once_and_the_repeat_makes_duplicates(push):
    push.set(fail_batches=[2])
    chunks = [[{"token": f"d{first + number}"} for number in range(10)] for first in (0, 10, 20)]

    def run_all() -> list[int]:
        headers = {**HEADERS, "X-Goog-User-Project": push.project}
        statuses = []
        for chunk in chunks:
            statuses.append(requests.post(f"{push.url}/batch", json={"messages": chunk}, headers=headers).status_code)
            if statuses[-1] != 200:
                break
        return statuses

    assert run_all() == [200, 503]
    assert run_all() == [200, 200, 200]
    assert (push.counters()["devices"], push.counters()["duplicates"]) == (30, 10)


def test_the_retired_endpoint_answers_as_it_does_today(push):
    push.set(retired=True)
    body, headers = multipart(push.project, ["a"])
    answer = requests.post(f"{push.url}/batch", data=body, headers=headers)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "text/html; charset=UTF-8"
    assert "404" in answer.text
    assert requests.post(send_url(push), json=message(), headers=HEADERS).status_code == 200


# -- its life as a process ---------------------------------------------------------------------------------------------


def test_the_ready_file_tells_address_and_process_once_connections_are_accepted(tmp_path):
    ready = tmp_path / "ready.json"
    server = subprocess.Popen([sys.executable, "-m", "labs.fcm", "--ready-file", str(ready)], cwd=PROJECT)
    try:
        until(ready.exists, "the server did not become ready")
        told = control.read(ready)
        assert told["pid"] == server.pid
        assert urlsplit(told["url"]).hostname == "127.0.0.1"
        assert httpx.get(f"{told['url']}/admin/health").status_code == 200
    finally:
        server.terminate()
        server.wait(PATIENCE_S)
    assert not ready.exists()


def test_it_ends_when_told_to_with_requests_still_in_flight():
    with serve() as served:
        Admin(served.url, "p").set(latency_ms=600_000)
        target = urlsplit(served.url)
        with socket.create_connection((target.hostname, target.port)) as client:
            body = json.dumps(message()).encode()
            client.sendall(
                b"POST /v1/projects/p/messages:send HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            until(lambda: Admin(served.url, "p").counters()["requests"] == 1, "the request did not arrive")
            os.kill(served.pid, signal.SIGTERM)
            client.settimeout(PATIENCE_S)
            assert client.recv(1) == b""


def test_a_taken_port_is_one_clear_sentence(push_server):
    port = urlsplit(push_server.url).port
    second = subprocess.run(
        [sys.executable, "-m", "labs.fcm", "--port", str(port)],
        cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert second.returncode != 0
    assert f"cannot listen on 127.0.0.1:{port}" in second.stderr
    assert "Traceback" not in second.stderr


def test_it_ends_with_the_process_that_started_it_even_when_that_is_killed(tmp_path):
    ready = tmp_path / "ready.json"
    starter = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-m', 'labs.fcm', '--ready-file', {str(ready)!r}])\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", starter], cwd=PROJECT)
    try:
        until(ready.exists, "the server did not become ready")
        url = urlsplit(control.read(ready)["url"])
    finally:
        parent.kill()
        parent.wait(PATIENCE_S)

    def refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((url.hostname, url.port)) != 0

    until(refused, "the server outlived its parent")


def test_the_static_server_answers_like_an_accepted_message():
    with serve(module="labs.fcm.static") as served:
        answer = requests.post(f"{served.url}/v1/projects/p/messages:send", json=message())
        assert answer.json()["name"].startswith("projects/static/messages/")

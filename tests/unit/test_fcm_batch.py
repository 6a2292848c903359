"""The retired batch endpoint: reading its multipart bodies and writing its answers."""

import email
import json
from email.policy import HTTP

import pytest

from labs.fcm import answers, batch

BODY = b'{"message": {"token": "a"}}'


def part(number: int, request: bytes = b"POST /v1/projects/p/messages:send HTTP/1.1", headers: bytes = b"") -> bytes:
    return (
        b"--=B=\r\nContent-Type: application/http\r\nContent-ID: <run + %d>\r\n\r\n%s\r\n"
        b"Content-Type: application/json\r\n%s\r\n%s\r\n" % (number, request, headers, BODY)
    )


def test_parts_are_read_with_their_ids_projects_and_bodies():
    parts = batch.read_parts(part(1) + part(2, headers=b"Authorization: Bearer x\r\n") + b"--=B=--\r\n", "=B=")
    assert parts == [
        batch.Part("<run + 1>", "p", None, BODY),
        batch.Part("<run + 2>", "p", "Bearer x", BODY),
    ]


def test_bare_newlines_a_preamble_and_absolute_addresses_are_understood():
    absolute = b"POST https://fcm.googleapis.com/v1/projects/p/messages:send HTTP/1.1"
    body = b"preamble\r\n" + part(1, absolute) + b"--=B=--"
    assert batch.read_parts(body, "=B=") == batch.read_parts(body.replace(b"\r\n", b"\n"), "=B=")
    assert batch.read_parts(body, "=B=")[0].project == "p"


def test_a_part_that_is_no_send_has_no_project():
    assert batch.read_parts(part(1, b"GET /v1/projects/p HTTP/1.1") + b"--=B=--", "=B=")[0].project is None


def test_five_hundred_parts_are_allowed_and_one_more_is_not():
    assert len(batch.read_parts(b"".join(map(part, range(500))) + b"--=B=--", "=B=")) == 500
    with pytest.raises(batch.NotABatch, match="contains 501 parts, but at most 500 are allowed"):
        batch.read_parts(b"".join(map(part, range(501))) + b"--=B=--", "=B=")


@pytest.mark.parametrize("body", [b"", b"hello", part(1), b"--=B=--", b"\r\n--=B=--\r\n", b"--=B=\r\n"])
def test_an_empty_or_unfinished_body_is_no_batch(body):
    with pytest.raises(batch.NotABatch):
        batch.read_parts(body, "=B=")


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ('multipart/mixed; boundary="===1 2=="', "===1 2=="),
        ("multipart/mixed; boundary=batch_x; charset=utf-8", "batch_x"),
        ("Multipart/Mixed; Boundary=b", "b"),
    ],
)
def test_the_boundary_is_read_quoted_or_not(content_type, boundary):
    assert batch.boundary_of(content_type) == boundary


def test_a_content_type_without_boundary_is_no_batch():
    with pytest.raises(batch.NotABatch, match="no boundary"):
        batch.boundary_of("multipart/mixed")


def test_the_answer_is_multipart_that_a_mail_parser_reads():
    answer = batch.write_parts([("<a + 1>", answers.accepted("projects/p/messages/1")), ("2", answers.unregistered())])
    head = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
    read = email.message_from_bytes(head.encode() + b"\r\n" + answer.body, policy=HTTP)
    parts = list(read.iter_parts())
    assert [inner["content-id"] for inner in parts] == ["<response-a + 1>", "response-2"]
    first, second = (inner.get_payload(decode=True) for inner in parts)
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert second.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert json.loads(second.partition(b"\r\n\r\n")[2])["error"]["status"] == "NOT_FOUND"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"messages": {}}', b'{"messages": []}', b"\xff"])
def test_a_json_batch_needs_a_list_of_messages(body):
    with pytest.raises(batch.NotABatch):
        batch.read_messages(body)


def test_a_json_batch_of_more_than_five_hundred_is_refused():
    assert len(batch.read_messages(json.dumps({"messages": [{}] * 500}).encode())) == 500
    with pytest.raises(batch.NotABatch, match="501"):
        batch.read_messages(json.dumps({"messages": [{}] * 501}).encode())

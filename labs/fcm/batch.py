"""The batch endpoint that FCM deprecated in June 2023 and shut down in 2024, in both of its spellings here.

multipart/mixed: each part is an HTTP request for ``/v1/projects/{p}/messages:send``; the answer is multipart as well,
its parts in the same order, ``Content-ID: <response-X>`` answering ``Content-ID: <X>``.
JSON: ``{"messages": [{...}, ...]}``, the post-mortem's own shorthand, answered by ``{"responses": [...]}``.
"""

import json
import re
import uuid
from http.client import responses as reasons
from typing import NamedTuple

from labs.fcm import answers
from labs.fcm.answers import Answer, Violation

MAX_PARTS = 500

_BOUNDARY = re.compile(r'boundary=(?:"([^"]+)"|([^\s;]+))', re.IGNORECASE)
_REQUEST_LINE = re.compile(rb"POST (?:https?://[^/ ]+)?/v1/projects/([^/ ?]+)/messages:send(?:\?\S*)? HTTP/")


class Part(NamedTuple):
    """One request inside a multipart batch; ``project`` is None when it is not a send."""

    content_id: str
    project: str | None
    authorization: str | None
    body: bytes


class NotABatch(ValueError):
    """The body cannot be read as a batch; the message is a sentence saying why."""


def boundary_of(content_type: str) -> str:
    """Return the boundary named by a multipart Content-Type. Raises NotABatch."""
    found = _BOUNDARY.search(content_type)
    if not found:
        raise NotABatch("Failed to parse batch request, error: no boundary in the content type of the request.")
    return found[1] or found[2]


def read_parts(body: bytes, boundary: str) -> list[Part]:
    """Split a multipart body into its requests. Raises NotABatch when it is malformed, empty or has over 500 parts."""
    sections = (b"\r\n" + body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")).split(b"\r\n--" + boundary.encode())
    if len(sections) < 2 or not sections[-1].startswith(b"--"):
        raise NotABatch("Failed to parse batch request, error: the closing boundary is missing.")
    sections = sections[1:-1]
    refuse_count(len(sections))
    return [_read_part(section, number) for number, section in enumerate(sections, 1)]


def refuse_count(parts: int) -> None:
    """Raise NotABatch for an empty batch or one of more than 500 messages."""
    if parts == 0:
        raise NotABatch("Failed to parse batch request, error: 0 items. Received batch body: (empty)")
    if parts > MAX_PARTS:
        raise NotABatch(f"The batch request contains {parts} parts, but at most {MAX_PARTS} are allowed.")


def _read_part(section: bytes, number: int) -> Part:
    outer, _, request = section.partition(b"\r\n\r\n")
    head, _, body = request.lstrip(b"\r\n").partition(b"\r\n\r\n")
    line, _, header_block = head.partition(b"\r\n")
    found = _REQUEST_LINE.match(line)
    inner = _headers(header_block)
    return Part(
        content_id=_headers(outer).get("content-id", str(number)),
        project=found[1].decode() if found else None,
        authorization=inner.get("authorization"),
        body=body.strip(b"\r\n"),
    )


def _headers(block: bytes) -> dict[str, str]:
    headers = {}
    for line in block.decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return headers


def write_parts(parts: list[tuple[str, Answer]]) -> Answer:
    """Return the multipart answer for (Content-ID of the request, answer) pairs."""
    boundary = f"batch_{uuid.uuid4().hex}"
    out = bytearray()
    for content_id, answer in parts:
        out += f"--{boundary}\r\nContent-Type: application/http\r\n".encode()
        out += f"Content-ID: {_response_id(content_id)}\r\n\r\n".encode()
        out += f"HTTP/1.1 {answer.status} {reasons[answer.status]}\r\n".encode()
        for name, value in answer.headers:
            out += f"{name.title()}: {value}\r\n".encode()
        out += b"\r\n" + answer.body + b"\r\n"
    out += f"--{boundary}--\r\n".encode()
    return Answer(200, (("content-type", f"multipart/mixed; boundary={boundary}"), ("vary", "Origin")), bytes(out))


def _response_id(content_id: str) -> str:
    if content_id.startswith("<"):
        return "<response-" + content_id[1:]
    return "response-" + content_id


def write_json(parts: list[Answer]) -> Answer:
    """Return the simplified JSON answer: {"name": ...} or {"error": {...}} for each message, in order."""
    entries = b",".join(answer.body.strip() for answer in parts)
    return Answer(200, answers.JSON_HEADERS, b'{"responses": [' + entries + b"]}\n")


def read_messages(body: bytes) -> list:
    """Return the messages of a simplified JSON batch. Raises NotABatch."""
    try:
        batch = json.loads(body)
    except (ValueError, RecursionError):
        raise NotABatch("Failed to parse batch request, error: the body is not JSON.") from None
    listed = batch.get("messages") if isinstance(batch, dict) else None
    if not isinstance(listed, list):
        raise NotABatch('Failed to parse batch request, error: {"messages": [...]} expected.')
    refuse_count(len(listed))
    return listed


def refused(why: NotABatch) -> Answer:
    """Return the 400 for a body that is not a batch."""
    return answers.invalid_argument(str(why), [Violation("", str(why))], fcm=False)

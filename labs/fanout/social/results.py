"""What FCM says about each message, read.

Codes and what to do about them: https://firebase.google.com/docs/cloud-messaging/error-codes
"""

import json
from typing import NamedTuple

import requests

from . import config

GONE = {"UNREGISTERED"}  # the app was removed from this phone
REFUSED = {"INVALID_ARGUMENT", "SENDER_ID_MISMATCH"}  # asking again would change nothing
OVER_QUOTA = {"RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"}


class Result(NamedTuple):
    """What became of one message: FCM's code, or "OK", and the seconds it asks to wait before the next attempt."""

    code: str
    wait: float = 0

    @property
    def gone(self) -> bool:
        return self.code in GONE

    @property
    def refused(self) -> bool:
        return self.code in REFUSED

    @property
    def retriable(self) -> bool:
        """Everything that is not the message's own fault: an overloaded service, a spent quota, expired credentials."""
        return self.code != "OK" and not self.gone and not self.refused


NO_ANSWER = Result("NO_ANSWER")  # it may have arrived or not


def of_message(status: int, body: bytes, retry_after: str | None = None) -> Result:
    """Read the answer to one message."""
    if status == 200:
        return Result("OK")
    return _read_error(_json(body), f"HTTP_{status}", _seconds(retry_after))


def of_batch(answer: requests.Response, messages: int) -> list[Result]:
    """Read the answer to a batch: one result for each of its messages, in their order.

    A batch that failed as a whole can be tried again as a whole, whatever the reason.
    """
    wait = _seconds(answer.headers.get("Retry-After"))
    entries = _json(answer.content).get("responses", [])
    if answer.status_code != 200 or len(entries) != messages:
        return [Result(f"HTTP_{answer.status_code}", wait)] * messages
    return [Result("OK") if "name" in entry else _read_error(entry, "UNKNOWN", wait) for entry in entries]


def _read_error(body: dict, otherwise: str, wait: float) -> Result:
    error = body.get("error", {})
    codes = [detail["errorCode"] for detail in error.get("details", []) if "errorCode" in detail]
    code = codes[0] if codes else error.get("status", otherwise)
    if code in OVER_QUOTA and not wait:
        wait = config.FCM_QUOTA_WAIT
    return Result(code, wait)


def _json(body: bytes) -> dict:
    try:
        read = json.loads(body)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.isdecimal() else 0

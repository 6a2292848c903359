"""Validation of a send request as FCM does it: first the shape of the JSON, then what the message asks for.

The shape follows the public reference (https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages): names
in camelCase or snake_case, null for "not set", unknown names and wrong types refused with the path of the field.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from labs.fcm import answers
from labs.fcm.answers import Answer, Violation

MAX_PAYLOAD = 4096  # bytes, to a device
MAX_TOPIC_PAYLOAD = 2048  # bytes, to a topic or a condition
TARGETS = ("token", "fid", "topic", "condition")

_TOKEN = re.compile(r"[!-~]{1,4096}", re.ASCII)
_TOPIC = re.compile(r"(?:/topics/)?[a-zA-Z0-9\-_.~%]{1,900}", re.ASCII)
_CONDITION = re.compile(r"'[a-zA-Z0-9\-_.~%]+' in topics")
_DURATION = re.compile(r"\d{1,12}(\.\d{1,9})?s", re.ASCII)
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_RESERVED_DATA_KEY = re.compile(r"from|message_type|google\..*|gcm\..*", re.DOTALL)
_PREFIX = "type.googleapis.com/google.firebase.fcm.v1."


def _not_json(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")  # though Python's reader takes NaN and Infinity


_decode = json.JSONDecoder(parse_constant=_not_json).decode


class Request(NamedTuple):
    """A valid send request: one of TARGETS, which of them it names, and whether it is only to be validated."""

    kind: str
    target: str
    validate_only: bool


class Refused(Exception):
    """The request is not valid; ``answer`` is what FCM says."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body.decode())
        self.answer = answer


# A check appends what is wrong with ``value``, found at ``path``, to ``found``.
Check = Callable[[Any, str, list[Violation]], None]


def _wrong(path: str, kind: str, value: Any) -> Violation:
    return Violation(path, f"Invalid value at '{path}' ({kind}), {json.dumps(value)}")


def _string(value: Any, path: str, found: list[Violation]) -> None:
    if type(value) is not str:
        found.append(_wrong(path, "TYPE_STRING", value))


def _boolean(value: Any, path: str, found: list[Violation]) -> None:
    if value is not True and value is not False and value not in ("true", "false"):
        found.append(_wrong(path, "TYPE_BOOL", value))


def _integer(value: Any, path: str, found: list[Violation]) -> None:
    try:
        whole = not isinstance(value, bool) and int(value) == float(value)
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole or not -(2**31) <= int(value) < 2**31:
        found.append(_wrong(path, "TYPE_INT32", value))


def _float(value: Any, path: str, found: list[Violation]) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        found.append(_wrong(path, "TYPE_FLOAT", value))


def _string_map(value: Any, path: str, found: list[Violation]) -> None:
    if type(value) is not dict:
        found.append(Violation(path, f"Invalid value at '{path}' (Map), {json.dumps(value)}"))
        return
    for index, entry in enumerate(value.values()):
        if type(entry) is not str:
            found.append(_wrong(f"{path}[{index}].value", "TYPE_STRING", entry))


def _any_object(value: Any, path: str, found: list[Violation]) -> None:
    if type(value) is not dict:
        found.append(_wrong(path, "type.googleapis.com/google.protobuf.Struct", value))


def _duration(value: Any, path: str, found: list[Violation]) -> None:
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        said = "Illegal duration format; duration must end with 's'"
        name = path.rpartition(".")[2]
        found.append(
            Violation(
                path,
                f"Invalid value at '{path}' (type.googleapis.com/google.protobuf.Duration), Field '{name}', {said}",
            )
        )


def _timestamp(value: Any, path: str, found: list[Violation]) -> None:
    if not isinstance(value, str) or not _TIMESTAMP.fullmatch(value):
        found.append(_wrong(path, "type.googleapis.com/google.protobuf.Timestamp", value))


def _enum(name: str, *values: str) -> Check:
    def check(value: Any, path: str, found: list[Violation]) -> None:
        if value not in values:
            found.append(_wrong(path, _PREFIX + name, value))

    return check


def _list_of(check_one: Check) -> Check:
    def check(value: Any, path: str, found: list[Violation]) -> None:
        # proto3 JSON takes a single value for a list of one
        for index, entry in enumerate(value if isinstance(value, list) else [value]):
            check_one(entry, f"{path}[{index}]", found)

    return check


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _object(type_name: str, **known: Check) -> Check:
    """Return the check of a message type with the fields ``known``, given by their proto (snake_case) names."""
    by_name = {spelling: check for name, check in known.items() for spelling in (name, _camel(name))}

    def check(value: Any, path: str, found: list[Violation]) -> None:
        if type(value) is not dict:
            found.append(_wrong(path, _PREFIX + type_name, value))
            return
        for name, entry in value.items():
            check_one = by_name.get(name)
            if check_one is None:
                where = f" at '{path}'" if path else ""
                said = f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.'
                found.append(Violation(path, said))
            elif entry is not None:
                check_one(entry, f"{path}.{name}" if path else name, found)

    return check


_analytics = _object("FcmOptions", analytics_label=_string)
_color = _object("Color", red=_float, green=_float, blue=_float, alpha=_float)

_android_notification = _object(
    "AndroidNotification",
    title=_string,
    body=_string,
    icon=_string,
    color=_string,
    sound=_string,
    tag=_string,
    click_action=_string,
    body_loc_key=_string,
    body_loc_args=_list_of(_string),
    title_loc_key=_string,
    title_loc_args=_list_of(_string),
    channel_id=_string,
    ticker=_string,
    sticky=_boolean,
    event_time=_timestamp,
    local_only=_boolean,
    notification_priority=_enum(
        "AndroidNotification.NotificationPriority",
        "PRIORITY_UNSPECIFIED",
        "PRIORITY_MIN",
        "PRIORITY_LOW",
        "PRIORITY_DEFAULT",
        "PRIORITY_HIGH",
        "PRIORITY_MAX",
    ),
    default_sound=_boolean,
    default_vibrate_timings=_boolean,
    default_light_settings=_boolean,
    vibrate_timings=_list_of(_duration),
    visibility=_enum("AndroidNotification.Visibility", "VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"),
    notification_count=_integer,
    light_settings=_object("LightSettings", color=_color, light_on_duration=_duration, light_off_duration=_duration),
    image=_string,
    bypass_proxy_notification=_boolean,
    proxy=_enum("AndroidNotification.Proxy", "PROXY_UNSPECIFIED", "ALLOW", "DENY", "IF_PRIORITY_LOWERED"),
)

_message = _object(
    "Message",
    name=_string,
    data=_string_map,
    token=_string,
    fid=_string,
    topic=_string,
    condition=_string,
    notification=_object("Notification", title=_string, body=_string, image=_string),
    android=_object(
        "AndroidConfig",
        collapse_key=_string,
        priority=_enum("AndroidMessagePriority", "NORMAL", "HIGH", "normal", "high"),
        ttl=_duration,
        restricted_package_name=_string,
        data=_string_map,
        notification=_android_notification,
        fcm_options=_analytics,
        direct_boot_ok=_boolean,
        bandwidth_constrained_ok=_boolean,
        restricted_satellite_ok=_boolean,
    ),
    webpush=_object(
        "WebpushConfig",
        headers=_string_map,
        data=_string_map,
        notification=_any_object,
        fcm_options=_object("WebpushFcmOptions", link=_string, analytics_label=_string),
    ),
    apns=_object(
        "ApnsConfig",
        headers=_string_map,
        payload=_any_object,
        live_activity_token=_string,
        fcm_options=_object("ApnsFcmOptions", analytics_label=_string, image=_string),
    ),
    fcm_options=_analytics,
)

_request = _object("SendMessageRequest", message=_message, validate_only=_boolean)


def read(body: bytes) -> Request:
    """Parse and check the body of ``messages:send``. Raises Refused with FCM's answer."""
    try:
        request = _decode(body.decode())
    except (ValueError, RecursionError):
        raise Refused(answers.malformed([_syntax(body)])) from None
    return check(request, len(body))


def check(request: Any, size: int) -> Request:
    """Check a parsed send request of at most ``size`` bytes. Raises Refused with FCM's answer."""
    found: list[Violation] = []
    if type(request) is not dict:
        said = 'Invalid JSON payload received. Unknown name "": Root element must be a message.'
        raise Refused(answers.malformed([Violation("", said)]))
    _request(request, "", found)
    message = request.get("message")
    targets = [name for name in TARGETS if message.get(name) is not None] if type(message) is dict else []
    found += [_second_target(name) for name in targets[1:]]
    if found:
        raise Refused(answers.malformed(found))
    if message is None:
        raise Refused(_not_allowed("message", "The message is not set."))
    if not targets:
        raise Refused(_not_allowed("message", "Recipient of the message is not set."))
    kind = targets[0]
    target = message[kind]
    _check_target(kind, target)
    _check_payload(message, kind, size)
    dry = request.get("validate_only", request.get("validateOnly"))
    return Request(kind, target, dry is True or dry == "true")


def _syntax(body: bytes) -> Violation:
    text = body.decode("utf-8", "replace")
    said = "Unexpected end of string." if not text.strip() else "Unexpected token."
    return Violation("", f"Invalid JSON payload received. {said}\n{text[:60]}\n^")


def _second_target(name: str) -> Violation:
    said = f"Invalid value at 'message' (oneof), oneof field 'target' is already set. Cannot set '{name}'"
    return Violation("message", said)


def _not_allowed(field: str, said: str) -> Answer:
    return answers.invalid_argument(said, [Violation(field, said)])


def _check_target(kind: str, target: str) -> None:
    if kind in ("token", "fid"):
        if not _TOKEN.fullmatch(target):
            raise Refused(answers.invalid_token(f"message.{kind}"))
    elif kind == "topic":
        if not _TOPIC.fullmatch(target):
            raise Refused(_not_allowed("message.topic", "Invalid topic name: it must match [a-zA-Z0-9-_.~%]+."))
    elif not _valid_condition(target):
        raise Refused(_not_allowed("message.condition", "Invalid condition expression provided."))


def _valid_condition(condition: str) -> bool:
    """True for topics joined by && and ||, with ! and brackets: at most five topics."""
    skeleton, topics = _CONDITION.subn("t", condition)
    if not 1 <= topics <= 5:
        return False
    skeleton = re.sub(r"\s+", "", skeleton)
    while True:
        shorter = re.sub(r"!t|\(t\)|t(?:&&|\|\|)t", "t", skeleton)
        if shorter == skeleton:
            return shorter == "t"
        skeleton = shorter


def _check_payload(message: dict, kind: str, size: int) -> None:
    data = message.get("data")
    if data:
        for key in data:
            if _RESERVED_DATA_KEY.fullmatch(key):
                raise Refused(_not_allowed("message.data", f"Invalid data payload key: {key}"))
    limit = MAX_PAYLOAD if kind in ("token", "fid") else MAX_TOPIC_PAYLOAD
    # The payload is part of the body, so a small body needs no counting.
    if size > limit and payload_size(message) > limit:
        raise Refused(_not_allowed("message", "Message is too big"))


def payload_size(message: dict) -> int:
    """Return the bytes that count towards the limit: keys and values of the notification and the data."""
    android, apns, webpush = (message.get(name) or {} for name in ("android", "apns", "webpush"))
    shared = _bytes(message.get("notification")) + _bytes(message.get("data"))
    return max(
        shared + _bytes(android.get("notification")) + _bytes(android.get("data")),
        shared + _bytes(apns.get("payload")),
        shared + _bytes(webpush.get("notification")) + _bytes(webpush.get("data")),
    )


def _bytes(value: Any) -> int:
    """Count the bytes of all keys and values in ``value``, however deep it is."""
    total, left = 0, [value]
    while left:
        entry = left.pop()
        if isinstance(entry, dict):
            left += entry.keys()
            left += entry.values()
        elif isinstance(entry, list):
            left += entry
        elif entry is not None:
            total += len(str(entry).encode("utf-8", "surrogatepass"))
    return total

"""Validation of send requests, in the words of the real service."""

import json

import pytest

from labs.fcm import messages

MESSAGE = "type.googleapis.com/google.firebase.fcm.v1.Message"
FCM_ERROR = {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "INVALID_ARGUMENT"}


def read(request) -> messages.Request:
    return messages.read(request if isinstance(request, bytes) else json.dumps(request).encode())


def refusal(request) -> dict:
    with pytest.raises(messages.Refused) as refused:
        read(request)
    assert refused.value.answer.status == 400
    error = json.loads(refused.value.answer.body)["error"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    return error


def violations(request) -> list[tuple[str | None, str]]:
    found = refusal(request)["details"][0]
    assert found["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    return [(violation.get("field"), violation["description"]) for violation in found["fieldViolations"]]


FULL_MESSAGE = {
    "token": "cHrX:APA91b_-x",
    "notification": {"title": "New post", "body": "Hello", "image": "https://example.com/a.png"},
    "data": {"post": "7"},
    "android": {
        "collapse_key": "posts", "priority": "HIGH", "ttl": "3600s", "restrictedPackageName": "com.example",
        "data": {"a": "b"}, "direct_boot_ok": True, "fcmOptions": {"analyticsLabel": "x"},
        "notification": {
            "title": "t", "body": "b", "icon": "i", "color": "#aabbcc", "title_loc_args": ["1"], "sticky": False,
            "event_time": "2026-01-01T00:00:00Z", "notification_priority": "PRIORITY_HIGH", "visibility": "PUBLIC",
            "vibrate_timings": ["0.5s", "1s"], "notification_count": 3, "proxy": "ALLOW",
            "light_settings": {"color": {"red": 1, "green": 0.5, "blue": 0, "alpha": 1}, "light_on_duration": "1s",
                               "light_off_duration": "2.5s"},
        },
    },
    "apns": {"headers": {"apns-priority": "5"}, "payload": {"aps": {"badge": 1}}, "fcm_options": {"image": "x"},
             "live_activity_token": "abc"},
    "webpush": {"headers": {"TTL": "15"}, "notification": {"title": "x", "actions": []}, "fcm_options": {"link": "l"}},
    "fcm_options": {"analytics_label": "launch"},
}  # fmt: skip


def test_a_message_with_every_part_filled_is_accepted():
    assert read({"message": FULL_MESSAGE}) == ("token", "cHrX:APA91b_-x", False)


@pytest.mark.parametrize("kind", ["token", "fid", "topic"])
def test_a_message_may_be_aimed_at_a_token_an_installation_or_a_topic(kind):
    assert read({"message": {kind: "abc"}}) == (kind, "abc", False)


@pytest.mark.parametrize(
    "condition",
    ["'a' in topics", "'a' in topics && ('b' in topics || !('c' in topics))", "!('a' in topics)&&'b' in topics"],
)
def test_a_condition_joins_topics(condition):
    assert read({"message": {"condition": condition}}).kind == "condition"


SIX_TOPICS = " || ".join(f"'{topic}' in topics" for topic in "abcdef")


@pytest.mark.parametrize(
    "condition",
    ["", "a in topics", "'a' in topics &&", "('a' in topics", "'a' in topics 'b' in topics", SIX_TOPICS],
)
def test_a_malformed_condition_or_one_of_six_topics_is_refused(condition):
    error = refusal({"message": {"condition": condition}})
    assert error["message"] == "Invalid condition expression provided."


@pytest.mark.parametrize(
    ("request_", "dry"),
    [({"validate_only": True}, True), ({"validateOnly": True}, True), ({"validate_only": None}, False), ({}, False)],
)
def test_validate_only_is_read_in_both_spellings(request_, dry):
    assert read({"message": {"token": "a"}, **request_}).validate_only is dry


def test_a_field_that_is_null_counts_as_not_set():
    assert read({"message": {"token": "a", "topic": None, "notification": None}}).kind == "token"


def test_a_message_without_a_recipient_is_refused():
    error = refusal({"message": {"notification": {"title": "x"}}})
    assert error["message"] == "Recipient of the message is not set."
    assert FCM_ERROR in error["details"]


def test_a_request_without_a_message_is_refused():
    assert FCM_ERROR in refusal({})["details"]


def test_a_message_with_two_recipients_is_refused_as_a_oneof_set_twice():
    assert violations({"message": {"token": "a", "topic": "b"}}) == [
        ("message", "Invalid value at 'message' (oneof), oneof field 'target' is already set. Cannot set 'topic'")
    ]


def test_an_unknown_field_is_named_with_its_place():
    unknown = "Invalid JSON payload received. Unknown name"
    assert violations({"message": {"token": "a", "notification": {"subtitle": "x"}}, "dry_run": True}) == [
        ("message.notification", f"{unknown} \"subtitle\" at 'message.notification': Cannot find field."),
        (None, f'{unknown} "dry_run": Cannot find field.'),
    ]


def test_all_violations_are_told_at_once_in_details_and_message():
    request = {"message": {"token": 5, "data": {"a": "x", "b": 1, "c": None}}}
    found = violations(request)
    assert found == [
        ("message.token", "Invalid value at 'message.token' (TYPE_STRING), 5"),
        ("message.data[1].value", "Invalid value at 'message.data[1].value' (TYPE_STRING), 1"),
        ("message.data[2].value", "Invalid value at 'message.data[2].value' (TYPE_STRING), null"),
    ]
    assert refusal(request)["message"] == "\n".join(description for _, description in found)
    assert FCM_ERROR not in refusal(request)["details"]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("hello", "message"),
        ({"notification": "hello"}, "message.notification"),
        ({"data": ["a"]}, "message.data"),
        ({"android": {"priority": "URGENT"}}, "message.android.priority"),
        ({"android": {"ttl": "3600"}}, "message.android.ttl"),
        ({"android": {"ttl": 3600}}, "message.android.ttl"),
        ({"android": {"direct_boot_ok": "yes"}}, "message.android.direct_boot_ok"),
        ({"android": {"notification": {"notification_count": 1.5}}}, "message.android.notification.notification_count"),
        ({"android": {"notification": {"title_loc_args": [1]}}}, "message.android.notification.title_loc_args[0]"),
        ({"android": {"notification": {"event_time": "noon"}}}, "message.android.notification.event_time"),
        ({"apns": {"payload": []}}, "message.apns.payload"),
        ({"apns": {"headers": {"apns-priority": 5}}}, "message.apns.headers[0].value"),
        ({"webpush": {"fcm_options": {"link": {}}}}, "message.webpush.fcm_options.link"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(message, field):
    assert [where for where, _ in violations({"message": message})] == [field]


NO_JSON = [b"", b"{", b"not json", b'{"message": {"token": "a"}', b"\xff\xfe", b"[" * 100_000, b'{"message": NaN}']


@pytest.mark.parametrize("body", NO_JSON)
def test_a_body_that_is_no_json_is_refused_and_not_a_crash(body):
    assert refusal(body)["message"].startswith("Invalid JSON payload received. ")


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"3", b"null"])
def test_a_body_that_is_no_object_is_refused(body):
    assert "Root element must be a message" in refusal(body)["message"]


@pytest.mark.parametrize("token", ["", "has space", "naïve", "a" * 4097, "line\nbreak"])
def test_what_cannot_be_a_registration_token_is_refused_as_such(token):
    error = refusal({"message": {"token": token}})
    assert error["message"] == "The registration token is not a valid FCM registration token"
    assert error["details"][0]["fieldViolations"][0]["field"] == "message.token"
    assert error["details"][1] == FCM_ERROR


@pytest.mark.parametrize("topic", ["", "two words", "a/b", "news\n"])
def test_a_malformed_topic_is_refused(topic):
    assert refusal({"message": {"topic": topic}})["details"][0]["fieldViolations"][0]["field"] == "message.topic"


@pytest.mark.parametrize("key", ["from", "message_type", "google.x", "gcm.y"])
def test_a_reserved_data_key_is_refused(key):
    assert refusal({"message": {"token": "a", "data": {key: "x"}}})["message"] == f"Invalid data payload key: {key}"


@pytest.mark.parametrize(("kind", "limit"), [("token", 4096), ("fid", 4096), ("topic", 2048)])
def test_a_payload_may_fill_the_limit_but_not_exceed_it_by_a_byte(kind, limit):
    def sized(size: int) -> dict:
        return {"message": {kind: "a", "notification": {"body": "x" * (size - len("body"))}}}

    assert read(sized(limit)).kind == kind
    assert refusal(sized(limit + 1))["message"] == "Message is too big"


def test_a_payload_is_counted_however_deep_it_is():
    payload = {"aps": {}}
    for _ in range(5_000):
        payload = {"in": payload}
    assert messages.payload_size({"apns": {"payload": payload}}) == 5_000 * len("in") + len("aps")


def test_the_payload_is_counted_in_bytes_and_by_platform():
    message = {"data": {"a": "é"}, "android": {"data": {"bb": "c"}}, "apns": {"payload": {"aps": {"badge": 10}}}}
    assert messages.payload_size(message) == 3 + max(3, len("aps") + len("badge") + len("10"))

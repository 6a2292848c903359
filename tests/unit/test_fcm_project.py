"""One project of the mock: credentials, errors, dead devices, quota and what is counted."""

import json
import statistics

import pytest

from labs.fcm.project import Project
from labs.fcm.settings import SettingError

GOOD = "Bearer ya29.a0Af-token_~+/=="


def body(token: str = "device-1", **more) -> bytes:
    return json.dumps({"message": {"token": token, "notification": {"title": "New post"}}, **more}).encode()


def project(**settings) -> Project:
    made = Project("labs-test")
    made.change(settings)
    return made


def error_of(answer) -> dict:
    return json.loads(answer.body)["error"]


def test_an_accepted_message_gets_a_name_of_its_own():
    push = project()
    names = [json.loads(push.send(body(), GOOD).body)["name"] for _ in range(100)]
    assert len(set(names)) == 100
    assert all(name.startswith("projects/labs-test/messages/0:") for name in names)


@pytest.mark.parametrize("header", [GOOD, "bearer abc", "Bearer  abc", "BEARER 123=="])
def test_a_well_formed_bearer_token_is_accepted(header):
    assert project().send(body(), header).status == 200


@pytest.mark.parametrize(
    "header",
    ["Bearer $abc", "Bearer", "Bearer ", "abc", "key=abc", "Basic abc", "Bearer a b", "Bearer a=b", "Bearer ${token}",
     "Bearerabc", "Bearer abc\n"],
)  # fmt: skip
def test_a_malformed_bearer_token_is_unauthenticated(header):
    answer = project().send(body(), header)
    assert answer.status == 401
    assert error_of(answer)["status"] == "UNAUTHENTICATED"
    assert ("www-authenticate", 'Bearer realm="https://accounts.google.com/", error="invalid_token"') in answer.headers


def test_a_missing_credential_is_told_from_a_bad_one():
    assert error_of(project().send(body(), None))["details"][0]["reason"] == "CREDENTIALS_MISSING"
    assert error_of(project().send(body(), "Bearer $"))["details"][0]["reason"] != "CREDENTIALS_MISSING"


def test_with_auth_off_no_credential_is_needed():
    assert project(auth="off").send(body(), None).status == 200


def test_with_one_token_named_only_that_token_is_accepted():
    push = project(auth="secret")
    assert push.send(body(), "Bearer secret").status == 200
    assert push.send(body(), "Bearer other").status == 401


def test_a_refused_credential_does_not_use_up_the_quota():
    push = project(quota_per_minute=1)
    push.send(body(), None)
    assert push.send(body(), GOOD).status == 200


def test_counters_tell_accepted_from_devices_and_duplicates():
    push = project()
    for token in ("a", "b", "a", "a"):
        push.send(body(token), GOOD)
    counted = push.counters()
    assert (counted["accepted"], counted["devices"], counted["duplicates"]) == (4, 2, 2)
    assert counted["first_accepted_at"] <= counted["last_accepted_at"]
    assert push.tokens(least=2) == [{"token": "a", "accepted": 3, "rejected": 0}]
    assert [entry["token"] for entry in push.tokens(limit=1)] == ["a"]


def test_rejections_are_counted_by_reason():
    push = project(dead_tokens=["gone"])
    push.send(body("gone"), GOOD)
    push.send(body("gone"), GOOD)
    push.send(body("not a token"), GOOD)
    push.send(body(), None)
    counted = push.counters()
    assert counted["rejected"] == 4
    assert counted["rejected_by"] == {"UNREGISTERED": 2, "INVALID_ARGUMENT": 1, "UNAUTHENTICATED": 1}
    assert counted["accepted"] == counted["devices"] == 0
    assert push.tokens() == [{"token": "gone", "accepted": 0, "rejected": 2}]


def test_a_dry_run_is_validated_but_not_sent():
    push = project(dead_tokens=["gone"])
    assert push.send(body(validate_only=True), GOOD).status == 200
    assert push.send(body("gone", validate_only=True), GOOD).status == 404
    counted = push.counters()
    assert (counted["accepted"], counted["validated"], counted["devices"]) == (0, 1, 0)


def test_a_topic_message_is_accepted_without_reaching_a_known_device():
    push = project()
    answer = push.send(json.dumps({"message": {"topic": "news"}}).encode(), GOOD)
    assert json.loads(answer.body)["name"].rpartition("/")[2].isdecimal()
    assert (push.counters()["accepted"], push.counters()["devices"]) == (1, 0)


@pytest.mark.parametrize(
    ("error", "status", "canonical", "code"),
    [
        ("UNREGISTERED", 404, "NOT_FOUND", "UNREGISTERED"),
        ("INVALID_ARGUMENT", 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        ("SENDER_ID_MISMATCH", 403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"),
        ("QUOTA_EXCEEDED", 429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"),
        ("THIRD_PARTY_AUTH_ERROR", 401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"),
        ("UNAVAILABLE", 503, "UNAVAILABLE", "UNAVAILABLE"),
        ("INTERNAL", 500, "INTERNAL", "INTERNAL"),
    ],
)
def test_an_error_has_its_status_and_carries_its_fcm_code(error, status, canonical, code):
    answer = project(error_rates={error: 1}).send(body(), GOOD)
    told = error_of(answer)
    assert (answer.status, told["code"], told["status"]) == (status, status, canonical)
    assert {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code} in told["details"]


def test_errors_come_at_their_rates():
    push = project(error_rates={"UNAVAILABLE": 0.2, "INTERNAL": 0.1}, auth="off")
    for number in range(5000):
        push.send(body(f"d{number}"), None)
    counted = push.counters()["rejected_by"]
    assert 800 < counted["UNAVAILABLE"] < 1200
    assert 380 < counted["INTERNAL"] < 620
    assert push.counters()["accepted"] == 5000 - sum(counted.values())


def test_the_same_run_after_a_reset_meets_the_same_errors():
    push = project(error_rates={"UNAVAILABLE": 0.5}, auth="off")

    def statuses() -> list[int]:
        return [push.send(body(), None).status for _ in range(50)]

    first = statuses()
    push.reset(keep_settings=True)
    assert statuses() == first
    assert len(set(first)) == 2


def test_a_share_of_devices_is_dead_and_stays_dead():
    push = project(dead_fraction=0.05, auth="off")
    tokens = [f"device-{number}" for number in range(4000)]
    dead = {token for token in tokens if push.send(body(token), None).status == 404}
    assert 140 < len(dead) < 260
    assert {token for token in tokens if push.send(body(token), None).status == 404} == dead
    push.change({"dead_fraction": 0.1})
    assert dead < {token for token in tokens if push.send(body(token), None).status == 404}


def test_beyond_the_quota_the_answer_says_when_to_come_back():
    now = [600.0]
    push = Project("labs-test", clock=lambda: now[0])
    push.change({"quota_per_minute": 2})
    assert [push.send(body(), GOOD).status for _ in range(3)] == [200, 200, 429]
    now[0] = 617.0
    answer = push.send(body(), GOOD)
    assert ("retry-after", "43") in answer.headers
    reason = error_of(answer)["details"][0]
    assert reason["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert reason["reason"] == "RATE_LIMIT_EXCEEDED"
    assert reason["metadata"]["quota_limit_value"] == "2"
    now[0] = 660.0
    assert push.send(body(), GOOD).status == 200


def test_the_latency_is_the_mean_that_was_asked_for_with_and_without_jitter():
    assert {project(latency_ms=45).latency() for _ in range(10)} == {0.045}
    push = project(latency_ms=40, latency_jitter=0.5)
    drawn = [push.latency() for _ in range(20_000)]
    assert statistics.mean(drawn) == pytest.approx(0.040, rel=0.03)
    assert statistics.median(drawn) < 0.038
    assert len(set(drawn)) > 19_000
    assert project(latency_ms=0, latency_jitter=0.5).latency() == 0


def test_a_refused_change_changes_nothing():
    push = project(latency_ms=7)
    with pytest.raises(SettingError):
        push.change({"latency_ms": 9, "retired": "maybe"})
    assert push.state()["settings"]["latency_ms"] == 7


def test_batches_told_to_fail_do_so_once_each_and_count_from_now():
    push = project()
    assert push.begin_batch() is None
    push.change({"fail_batches": [1, 3]})
    assert push.state()["settings"]["fail_batches"] == [1, 3]
    assert [getattr(push.begin_batch(), "status", None) for _ in range(5)] == [503, None, 503, None, None]
    assert push.state()["settings"]["fail_batches"] == []
    assert push.counters()["batches"] == 6


def test_another_change_leaves_batches_told_to_fail_as_they_were():
    push = project(fail_batches=[2])
    push.begin_batch()
    push.change({"latency_ms": 1})
    assert push.begin_batch().status == 503


def test_a_reset_forgets_counts_and_settings_or_counts_alone():
    push = project(latency_ms=3, dead_tokens=["x"])
    push.send(body(), GOOD)
    push.reset(keep_settings=True)
    assert push.counters()["accepted"] == push.counters()["requests"] == 0
    assert push.tokens() == []
    assert push.state()["settings"]["latency_ms"] == 3
    push.reset()
    assert push.state()["settings"]["latency_ms"] == 45
    assert push.send(body("x"), GOOD).status == 200

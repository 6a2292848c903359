"""The routes of the mock, without a network: latency, projects apart from each other, the admin interface."""

import json

import pytest

from labs import __version__
from labs.fcm.app import App

SEND = "/v1/projects/{}/messages:send"
BODY = {"message": {"token": "a"}}


class Request:
    def __init__(self, method, target, headers):
        self.method = method
        self.path, _, self.query_string = target.partition("?")
        self.headers = {"authorization": "Bearer abc", **headers}


class Answered:
    """What came back: the answer, and the latency in seconds it was to have."""

    def __init__(self, answer, latency: float) -> None:
        self.status, self.headers, self.body = answer.status, dict(answer.headers), answer.body
        self.latency = latency

    def json(self):
        return json.loads(self.body)


@pytest.fixture
def app():
    return App()


def call(app, method, target, body=b"", **headers) -> Answered:
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answered(*app.respond(Request(method, target, headers), body))


def test_health_names_the_version(app):
    assert call(app, "GET", "/admin/health").json() == {"status": "ok", "version": __version__}


def test_a_message_is_answered_after_the_latency(app):
    assert call(app, "POST", SEND.format("p"), BODY).latency == 0.045
    call(app, "PATCH", "/admin/projects/p/settings", {"latency_ms": 400})
    assert call(app, "POST", SEND.format("p"), BODY).latency == 0.4


def test_the_admin_interface_answers_at_once(app):
    for method, target in (("GET", ""), ("PATCH", "/settings"), ("POST", "/reset"), ("GET", "/tokens")):
        assert call(app, method, f"/admin/projects/p{target}", b"{}").latency == 0


def test_a_batch_takes_the_latency_once_for_all_its_messages(app):
    answered = call(app, "POST", "/batch?project=p", {"messages": [{"token": str(number)} for number in range(500)]})
    assert (len(answered.json()["responses"]), answered.latency) == (500, 0.045)


def test_a_refused_message_takes_as_long_as_an_accepted_one(app):
    for body, headers in ((b"{", {}), (BODY, {"authorization": "Bearer $x"})):
        answered = call(app, "POST", SEND.format("p"), body, **headers)
        assert answered.status != 200
        assert answered.latency == 0.045


def test_projects_share_nothing(app):
    call(app, "PATCH", "/admin/projects/one/settings", {"auth": "off", "quota_per_minute": 0})
    statuses = [call(app, "POST", SEND.format(name), BODY).status for name in ("one", "one", "two", "two")]
    assert statuses == [429, 429, 200, 200]
    one, two = (call(app, "GET", f"/admin/projects/{name}").json() for name in ("one", "two"))
    assert (one["counters"]["accepted"], two["counters"]["accepted"]) == (0, 2)
    assert (one["settings"]["auth"], two["settings"]["auth"]) == ("off", "bearer")
    call(app, "POST", "/admin/projects/two/reset")
    assert call(app, "GET", "/admin/projects/one").json()["counters"]["rejected"] == 2


def test_a_refused_setting_is_a_400_with_its_sentence(app):
    answer = call(app, "PATCH", "/admin/projects/p/settings", {"latency_ms": -5})
    assert answer.status == 400
    assert answer.json()["error"].startswith("latency_ms: got -5, but it must be")


@pytest.mark.parametrize("body", [b"", b"{", b"[]"])
def test_settings_that_are_no_json_object_are_a_400(app, body):
    assert call(app, "PATCH", "/admin/projects/p/settings", body).status == 400


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/admin/nothing", 404),
        ("DELETE", "/admin/projects/p", 405),
        ("GET", "/admin/projects/p/reset", 405),
        ("POST", "/admin/projects/p/reset?keep=all", 400),
        ("GET", "/admin/projects/p/tokens?min=two", 400),
        ("GET", "/admin/projects/p/tokens?min=2&limit=5", 200),
        ("POST", "/admin/projects/p/reset?keep=settings", 200),
    ],
)
def test_the_admin_interface_says_what_is_wrong_with_a_call(app, method, target, status):
    answer = call(app, method, target)
    assert answer.status == status
    assert status == 200 or answer.json()["error"]


def test_an_address_fcm_does_not_serve_is_a_page_of_html(app):
    for method, target in (("GET", SEND.format("p")), ("POST", "/fcm/send"), ("POST", "/<script>")):
        answer = call(app, method, target)
        assert answer.status == 404
        assert answer.headers["content-type"].startswith("text/html")
        assert b"<script>" not in answer.body


def test_the_retired_batch_endpoint_answers_with_todays_page(app):
    call(app, "PATCH", "/admin/projects/p/settings", {"retired": True})
    answer = call(app, "POST", "/batch", {"messages": [{"token": "a"}]})
    assert answer.status == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert b"/batch" in answer.body
    assert call(app, "GET", "/admin/projects/p").json()["counters"]["accepted"] == 0


def test_a_json_batch_answers_each_message_in_its_place(app):
    call(app, "PATCH", "/admin/projects/p/settings", {"dead_tokens": ["b"]})
    answer = call(app, "POST", "/batch", {"messages": [{"token": "a"}, {"token": "b"}, {"tok": "c"}]})
    first, second, third = answer.json()["responses"]
    assert first["name"].startswith("projects/p/messages/")
    assert second["error"]["details"][0]["errorCode"] == "UNREGISTERED"
    assert third["error"]["code"] == 400


def test_a_json_batch_finds_its_project_by_address_header_or_as_the_only_one(app):
    batch = {"messages": [{"token": "a"}]}
    assert call(app, "POST", "/batch", batch).status == 400
    call(app, "POST", "/batch?project=one", batch)
    assert "projects/one/" in call(app, "POST", "/batch", batch).json()["responses"][0]["name"]
    named = call(app, "POST", "/batch", batch, **{"x-goog-user-project": "two"})
    assert "projects/two/" in named.json()["responses"][0]["name"]
    refused = call(app, "POST", "/batch", batch)
    assert refused.status == 400
    assert "X-Goog-User-Project" in refused.json()["error"]["message"]


def test_a_json_batch_with_bad_credentials_is_refused_whole(app):
    answer = call(app, "POST", "/batch?project=p", {"messages": [{"token": "a"}]}, authorization="Bearer $x")
    assert answer.status == 401


def test_topic_subscriptions_are_kept(app):
    base = "/v1/projects/p/registrations/device%3A1/topicSubscriptions"
    assert call(app, "POST", f"{base}?topic_name=news").json() == {}
    assert call(app, "GET", "/admin/projects/p").json()["counters"]["topics"] == {"news": 1}
    assert call(app, "DELETE", f"{base}/news?allow_missing=true").json() == {}
    assert call(app, "DELETE", f"{base}/news?allow_missing=true").status == 200
    assert call(app, "DELETE", f"{base}/news").status == 404
    assert call(app, "GET", "/admin/projects/p").json()["counters"]["topics"] == {}

"""The official firebase-admin client cannot tell the mock from Firebase Cloud Messaging."""

import asyncio
import json
import warnings
from collections.abc import Iterator

import firebase_admin
import google.auth.credentials
import google.auth.exceptions
import pytest
from firebase_admin import credentials, exceptions, messaging

from labs.fcm import Admin

warnings.filterwarnings("ignore", message=".*token.* is deprecated", category=DeprecationWarning)


class Anonymous(credentials.Base):
    """No credential at all."""

    def get_credential(self):
        return google.auth.credentials.AnonymousCredentials()


class FixedToken(google.auth.credentials.Credentials):
    """An access token that stays the same whenever it is refreshed."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._fixed = token

    def refresh(self, request) -> None:
        self.token = self._fixed


class Bearer(credentials.Base):
    def __init__(self, token: str) -> None:
        self._credential = FixedToken(token)

    def get_credential(self):
        return self._credential


@pytest.fixture(scope="module")
def apps() -> Iterator[dict]:
    """Apps of the official SDK by server and credential: each loads certificates for a while, so they are kept."""
    made: dict[tuple, firebase_admin.App] = {}
    yield made
    for app in made.values():
        firebase_admin.delete_app(app)


@pytest.fixture
def push(push_server) -> Iterator[Admin]:
    """The project all these tests share, as new."""
    with Admin(push_server.url, "official") as admin:
        admin.reset()
        admin.set(latency_ms=0)
        yield admin


@pytest.fixture
def app_for(apps, monkeypatch):
    """Make an app that talks to a project on the mock, by default with a bearer token."""

    def make(push: Admin, token: str | None = "ya29.contract") -> firebase_admin.App:
        monkeypatch.setattr(messaging._MessagingService, "FCM_URL", f"{push.url}/v1/projects/{{0}}/messages:send")
        if (push.url, token) not in apps:
            credential = Anonymous() if token is None else Bearer(token)
            options = {"projectId": push.project}
            apps[push.url, token] = firebase_admin.initialize_app(credential, options, name=f"{token} {push.url}")
        return apps[push.url, token]

    return make


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The waits between the SDK's attempts, in seconds: written down instead of slept."""
    slept: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", slept.append)
    return slept


def message(token: str = "device-1") -> messaging.Message:
    return messaging.Message(token=token, notification=messaging.Notification("New post", "Hello"), data={"post": "7"})


def test_send_returns_the_name_of_the_message(app_for, push):
    name = messaging.send(message(), app=app_for(push))
    assert name.startswith(f"projects/{push.project}/messages/")
    assert push.tokens() == [{"token": "device-1", "accepted": 1, "rejected": 0}]


def test_an_anonymous_client_is_served_when_credentials_are_not_asked_for(app_for, push):
    push.set(auth="off")
    assert messaging.send(message(), app=app_for(push, token=None))


def test_an_anonymous_client_is_unauthenticated_when_they_are(app_for, push):
    # The client answers a 401 by refreshing its credential, and none cannot be refreshed.
    with pytest.raises(google.auth.exceptions.InvalidOperation):
        messaging.send(message(), app=app_for(push, token=None))
    assert push.counters()["rejected_by"] == {"UNAUTHENTICATED": 1}


def test_a_token_with_a_dollar_sign_is_unauthenticated(app_for, push):
    with pytest.raises(exceptions.UnauthenticatedError):
        messaging.send(message(), app=app_for(push, "$ya29.contract"))
    assert push.counters()["accepted"] == 0


def test_only_the_named_access_token_is_served_when_one_is_named(app_for, push):
    push.set(auth="ya29.right")
    assert messaging.send(message(), app=app_for(push, "ya29.right"))
    with pytest.raises(exceptions.UnauthenticatedError):
        messaging.send(message(), app=app_for(push, "ya29.wrong"))


def test_a_dry_run_is_validated_and_not_sent(app_for, push):
    assert messaging.send(message(), dry_run=True, app=app_for(push))
    assert (push.counters()["accepted"], push.counters()["validated"]) == (0, 1)


def test_an_installation_id_is_a_device_like_a_token(app_for, push):
    assert messaging.send(messaging.Message(fid="cFid-1"), app=app_for(push))
    assert push.tokens()[0]["token"] == "cFid-1"


def test_a_topic_and_a_condition_are_served(app_for, push):
    app = app_for(push)
    assert messaging.send(messaging.Message(topic="/topics/news"), app=app)
    assert messaging.send(messaging.Message(condition="'a' in topics || 'b' in topics"), app=app)
    assert (push.counters()["accepted"], push.counters()["devices"]) == (2, 0)


def test_topic_subscriptions_are_made_and_ended(app_for, push, monkeypatch):
    app = app_for(push)
    service = messaging._get_messaging_service(app)
    monkeypatch.setattr(service, "_fcm_topic_url", f"{push.url}/v1/projects/{push.project}/registrations")
    subscribed = messaging.subscribe_to_topic(["a:1", "b", "c"], "news", app=app)
    assert (subscribed.success_count, subscribed.failure_count) == (3, 0)
    assert push.counters()["topics"] == {"news": 3}
    assert messaging.unsubscribe_from_topic(["a:1", "b"], "news", app=app).success_count == 2
    assert push.counters()["topics"] == {"news": 1}


def test_every_option_the_client_can_express_is_valid(app_for, push):
    full = messaging.Message(
        token="device-1",
        data={"a": "b"},
        notification=messaging.Notification("t", "b", "https://example.com/x.png"),
        fcm_options=messaging.FCMOptions(analytics_label="l"),
        android=messaging.AndroidConfig(
            collapse_key="k", priority="high", ttl=3600, restricted_package_name="p", data={"a": "b"},
            direct_boot_ok=True, fcm_options=messaging.AndroidFCMOptions("l"),
            notification=messaging.AndroidNotification(
                title="t", body="b", icon="i", color="#a1b2c3", sound="s", tag="g", click_action="c", body_loc_key="k",
                body_loc_args=["1"], title_loc_key="k", title_loc_args=["2"], channel_id="c", image="i", ticker="t",
                sticky=True, local_only=False, priority="max", vibrate_timings_millis=[100, 1500],
                default_vibrate_timings=False, default_sound=True, visibility="private", notification_count=2,
                default_light_settings=False, proxy="deny",
                light_settings=messaging.LightSettings("#aabbcc", 200, 300),
            ),
        ),
        apns=messaging.APNSConfig(
            headers={"apns-priority": "10"},
            payload=messaging.APNSPayload(messaging.Aps(
                alert=messaging.ApsAlert(title="t", body="b", loc_key="k", loc_args=["1"]), badge=3, sound="default",
                content_available=True, mutable_content=True, category="c", thread_id="t",
            )),
            fcm_options=messaging.APNSFCMOptions("l", "i"),
        ),
        webpush=messaging.WebpushConfig(
            headers={"TTL": "15"}, data={"a": "b"},
            notification=messaging.WebpushNotification(
                "t", "b", actions=[messaging.WebpushNotificationAction("a", "b")],
            ),
            fcm_options=messaging.WebpushFCMOptions("https://example.com"),
        ),
    )  # fmt: skip
    assert messaging.send(full, app=app_for(push))


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ("UNREGISTERED", messaging.UnregisteredError),
        ("SENDER_ID_MISMATCH", messaging.SenderIdMismatchError),
        ("INVALID_ARGUMENT", exceptions.InvalidArgumentError),
        ("THIRD_PARTY_AUTH_ERROR", messaging.ThirdPartyAuthError),
        ("QUOTA_EXCEEDED", messaging.QuotaExceededError),
        ("RESOURCE_EXHAUSTED", exceptions.ResourceExhaustedError),
        ("UNAVAILABLE", exceptions.UnavailableError),
        ("INTERNAL", exceptions.InternalError),
    ],
)
def test_each_error_becomes_the_clients_own_exception(app_for, push, waits, error, raised):
    push.set(error_rates={error: 1})
    with pytest.raises(raised) as refused:
        messaging.send(message(), app=app_for(push))
    assert type(refused.value) is raised
    assert push.counters()["accepted"] == 0


def test_a_malformed_token_is_an_invalid_argument(app_for, push):
    with pytest.raises(exceptions.InvalidArgumentError, match="not a valid FCM registration token"):
        messaging.send(message("not a token"), app=app_for(push))


def test_a_payload_that_is_too_big_is_an_invalid_argument(app_for, push):
    with pytest.raises(exceptions.InvalidArgumentError, match="too big"):
        messaging.send(messaging.Message(token="a", data={"text": "x" * 4100}), app=app_for(push))


@pytest.mark.parametrize("error", ["UNAVAILABLE", "INTERNAL"])
def test_the_client_tries_again_four_times_without_jitter(app_for, push, waits, error):
    push.set(error_rates={error: 1})
    with pytest.raises(exceptions.FirebaseError):
        messaging.send(message(), app=app_for(push))
    assert push.counters()["rejected_by"] == {error: 5}
    assert waits == [1.0, 2.0, 4.0]  # the first retry comes at once


def test_beyond_the_quota_the_client_waits_as_long_as_retry_after_says(app_for, push, waits):
    push.set(quota_per_minute=0)
    with pytest.raises(exceptions.ResourceExhaustedError, match="Quota exceeded for quota metric") as told:
        messaging.send(message(), app=app_for(push))
    details = told.value.http_response.json()["error"]["details"]
    assert details[0]["reason"] == "RATE_LIMIT_EXCEEDED"
    assert waits
    assert all(1 <= seconds <= 60 for seconds in waits)


def test_send_each_answers_five_hundred_messages_in_their_places(app_for, push):
    push.set(dead_tokens=["d7", "d499"])
    sent = messaging.send_each([message(f"d{number}") for number in range(500)], app=app_for(push))
    assert (sent.success_count, sent.failure_count) == (498, 2)
    failed = {number: type(answer.exception) for number, answer in enumerate(sent.responses) if not answer.success}
    assert failed == dict.fromkeys((7, 499), messaging.UnregisteredError)
    assert push.counters()["devices"] == 498


def test_a_multicast_reaches_each_device_once(app_for, push):
    multicast = messaging.MulticastMessage(fids=[f"f{number}" for number in range(20)], data={"a": "b"})
    assert messaging.send_each_for_multicast(multicast, app=app_for(push)).success_count == 20
    assert (push.counters()["devices"], push.counters()["duplicates"]) == (20, 0)


@pytest.fixture
def tls_push(tls_push_server, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(tls_push_server.certificate))
    with Admin(tls_push_server.url, "official", certificate=tls_push_server.certificate) as admin:
        admin.set(latency_ms=0, dead_tokens=["d3"])
        yield admin


def test_send_each_async_speaks_http2_over_tls(app_for, tls_push):
    app = app_for(tls_push)
    versions = set()

    async def note_version(response) -> None:
        versions.add(response.http_version)

    async def send():
        client = messaging._get_messaging_service(app)._async_client.async_client
        client.event_hooks["response"].append(note_version)
        sent = await messaging.send_each_async([message(f"d{number}") for number in range(100)], app=app)
        await client.aclose()
        return sent

    sent = asyncio.run(send())
    assert (sent.success_count, sent.failure_count) == (99, 1)
    assert isinstance(sent.responses[3].exception, messaging.UnregisteredError)
    assert versions == {"HTTP/2"}


def test_the_error_details_survive_the_way_through_the_client(app_for, push):
    push.set(dead_tokens=["gone"])
    with pytest.raises(messaging.UnregisteredError) as refused:
        messaging.send(message("gone"), app=app_for(push))
    body = json.loads(refused.value.http_response.content)
    assert body["error"]["message"] == str(refused.value)

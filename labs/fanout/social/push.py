"""Push notifications through Firebase Cloud Messaging."""

import requests

from . import config


def send(token: str, title: str, body: str) -> requests.Response:
    """Send one notification to the phone with this registration token."""
    return post(f"/v1/projects/{config.FCM_PROJECT}/messages:send", {"message": message(token, title, body)})


def send_batch(tokens: list[str], title: str, body: str) -> requests.Response:
    """Send one notification to as many as 500 phones in a single request."""
    return post("/batch", {"messages": [message(token, title, body) for token in tokens]})


def message(token: str, title: str, body: str) -> dict:
    return {"token": token, "notification": {"title": title, "body": body}}


def post(path: str, payload: dict) -> requests.Response:
    headers = {"Authorization": f"Bearer {config.FCM_ACCESS_TOKEN}", "X-Goog-User-Project": config.FCM_PROJECT}
    return requests.post(f"{config.FCM_URL}{path}", json=payload, headers=headers, timeout=config.FCM_TIMEOUT)

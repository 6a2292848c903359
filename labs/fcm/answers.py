"""What FCM answers, in its own words: google.rpc.Status in JSON, the retired batch endpoint's page, and their headers.

Sources: https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode for the codes; for the wording, answers of the
real service quoted in public issues of the Admin SDKs (UNREGISTERED: firebase-admin-java #972; project quota:
firebase-admin-go #719).
"""

import json
from typing import Any, NamedTuple

Headers = tuple[tuple[str, str], ...]

JSON_HEADERS: Headers = (("content-type", "application/json; charset=UTF-8"), ("vary", "X-Origin, Referer"))
HTML_HEADERS: Headers = (("content-type", "text/html; charset=UTF-8"), ("referrer-policy", "no-referrer"))

FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
QUOTA_FAILURE = "type.googleapis.com/google.rpc.QuotaFailure"
HELP = "type.googleapis.com/google.rpc.Help"


class Answer(NamedTuple):
    """One answer: HTTP status, headers, body, and the error's name for the counters (None when accepted)."""

    status: int
    headers: Headers
    body: bytes
    error: str | None = None


class Violation(NamedTuple):
    """One broken rule of the request: the field's path in the JSON body and what is wrong with it."""

    field: str
    description: str


def accepted(name: str) -> Answer:
    """Return the answer to an accepted message; ``name`` is ``projects/{project}/messages/{id}``."""
    return Answer(200, JSON_HEADERS, b'{\n  "name": "%s"\n}\n' % name.encode())


def empty() -> Answer:
    """Return 200 and an empty object: google.protobuf.Empty."""
    return Answer(200, JSON_HEADERS, b"{}\n")


def status(
    code: int, canonical: str, message: str, details: list[dict], error: str, *, headers: Headers = ()
) -> Answer:
    """Return a google.rpc.Status as Google's JSON APIs serialise it."""
    body: dict[str, Any] = {"code": code, "message": message, "status": canonical}
    if details:
        body["details"] = details
    return Answer(code, JSON_HEADERS + headers, json.dumps({"error": body}, indent=2).encode() + b"\n", error)


def fcm_error(code: str) -> dict[str, str]:
    """Return the FcmError detail that carries FCM's own error code."""
    return {"@type": FCM_ERROR, "errorCode": code}


def invalid_argument(message: str, violations: list[Violation] = (), fcm: bool = True) -> Answer:
    """Return 400 INVALID_ARGUMENT; ``fcm`` False when the JSON itself does not fit the message type."""
    details: list[dict] = []
    if violations:
        listed = [
            {"field": field, "description": description} if field else {"description": description}
            for field, description in violations
        ]
        details.append({"@type": BAD_REQUEST, "fieldViolations": listed})
    if fcm:
        details.append(fcm_error("INVALID_ARGUMENT"))
    return status(400, "INVALID_ARGUMENT", message, details, "INVALID_ARGUMENT")


def malformed(violations: list[Violation]) -> Answer:
    """Return 400 for a body that is not this API's JSON: all violations at once, as Google's front end words them."""
    return invalid_argument("\n".join(violation.description for violation in violations), violations, fcm=False)


def invalid_token(field: str) -> Answer:
    """Return 400 for something that cannot be a registration token."""
    said = "The registration token is not a valid FCM registration token"
    return invalid_argument(said, [Violation(field, said)])


def unregistered() -> Answer:
    """Return 404 UNREGISTERED: the app was uninstalled, or the token has expired."""
    return status(404, "NOT_FOUND", "Requested entity was not found.", [fcm_error("UNREGISTERED")], "UNREGISTERED")


def sender_id_mismatch() -> Answer:
    """Return 403 SENDER_ID_MISMATCH: the token belongs to another project."""
    details = [fcm_error("SENDER_ID_MISMATCH")]
    return status(403, "PERMISSION_DENIED", "SenderId mismatch", details, "SENDER_ID_MISMATCH")


def third_party_auth_error() -> Answer:
    """Return 401 THIRD_PARTY_AUTH_ERROR: Apple or the web push service refused the project's credentials."""
    message = "Request is missing required authentication credential. Auth error from APNS or Web Push Service"
    details = [fcm_error("THIRD_PARTY_AUTH_ERROR")]
    return status(401, "UNAUTHENTICATED", message, details, "THIRD_PARTY_AUTH_ERROR")


def unauthenticated(missing: bool) -> Answer:
    """Return 401: no credential at all (``missing``), or one that is not acceptable."""
    said = (
        "Request is missing required authentication credential."
        if missing
        else ("Request had invalid authentication credentials.")
    )
    said += (
        " Expected OAuth 2 access token, login cookie or other valid authentication credential."
        " See https://developers.google.com/identity/sign-in/web/devconsole-project."
    )
    reason = "CREDENTIALS_MISSING" if missing else "ACCESS_TOKEN_TYPE_UNSUPPORTED"
    service = {
        "service": "fcm.googleapis.com",
        "method": "google.firebase.fcm.v1.FcmService.SendMessage",
    }
    details = [{"@type": ERROR_INFO, "reason": reason, "domain": "googleapis.com", "metadata": service}]
    challenge = 'Bearer realm="https://accounts.google.com/"' + ("" if missing else ', error="invalid_token"')
    headers = (("www-authenticate", challenge),)
    return status(401, "UNAUTHENTICATED", said, details, "UNAUTHENTICATED", headers=headers)


def quota_spent(project: str, limit: int, retry_after_s: int) -> Answer:
    """Return 429 for a project that has sent its messages of this minute."""
    metadata = {
        "quota_limit_value": str(limit),
        "consumer": f"projects/{project}",
        "quota_metric": "fcm.googleapis.com/send_requests",
        "quota_unit": "1/min/{project}",
        "service": "fcm.googleapis.com",
        "quota_location": "global",
        "quota_limit": "SendsPerMinutePerProject",
    }
    more = {
        "description": "Request a higher quota limit.",
        "url": "https://cloud.google.com/docs/quotas/help/request_increase",
    }
    message = (
        "Quota exceeded for quota metric 'Send requests' and limit 'Send requests per minute' of service "
        f"'fcm.googleapis.com' for consumer 'project_number:{project}'."
    )
    details = [
        {"@type": ERROR_INFO, "reason": "RATE_LIMIT_EXCEEDED", "domain": "googleapis.com", "metadata": metadata},
        {"@type": HELP, "links": [more]},
    ]
    headers = (("retry-after", str(retry_after_s)),)
    return status(429, "RESOURCE_EXHAUSTED", message, details, "RESOURCE_EXHAUSTED", headers=headers)


def target_quota_exceeded() -> Answer:
    """Return 429 QUOTA_EXCEEDED: too many messages to one device or topic."""
    failure = {"subject": "device", "description": "Device message rate exceeded"}
    details = [{"@type": QUOTA_FAILURE, "violations": [failure]}, fcm_error("QUOTA_EXCEEDED")]
    return status(
        429,
        "RESOURCE_EXHAUSTED",
        "Device message rate exceeded.",
        details,
        "QUOTA_EXCEEDED",
        headers=(("retry-after", "60"),),
    )


def unavailable() -> Answer:
    """Return 503 UNAVAILABLE: the server is overloaded, try again later."""
    details = [fcm_error("UNAVAILABLE")]
    return status(503, "UNAVAILABLE", "The service is currently unavailable.", details, "UNAVAILABLE")


def internal() -> Answer:
    """Return 500 INTERNAL: an unknown internal error."""
    return status(500, "INTERNAL", "Internal error encountered.", [fcm_error("INTERNAL")], "INTERNAL")


def not_found(path: str) -> Answer:
    """Return the page that Google's front end shows for an address it does not serve."""
    page = (
        "<!DOCTYPE html>\n<html lang=en>\n  <meta charset=utf-8>\n"
        '  <meta name=viewport content="initial-scale=1, minimum-scale=1, width=device-width">\n'
        "  <title>Error 404 (Not Found)!!1</title>\n"
        "  <p><b>404.</b> <ins>That’s an error.</ins>\n"
        f"  <p>The requested URL <code>{_escaped(path)}</code> was not found on this server."
        "  <ins>That’s all we know.</ins>\n"
    )
    return Answer(404, HTML_HEADERS, page.encode(), "NOT_FOUND")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


#: Errors that a share of messages can be made to meet, by the name the counters use, and what answers each.
ERRORS = {
    "INVALID_ARGUMENT": lambda: invalid_token("message.token"),
    "UNAUTHENTICATED": lambda: unauthenticated(missing=False),
    "THIRD_PARTY_AUTH_ERROR": third_party_auth_error,
    "SENDER_ID_MISMATCH": sender_id_mismatch,
    "UNREGISTERED": unregistered,
    "RESOURCE_EXHAUSTED": lambda: quota_spent("0", 0, 60),
    "QUOTA_EXCEEDED": target_quota_exceeded,
    "UNAVAILABLE": unavailable,
    "INTERNAL": internal,
}

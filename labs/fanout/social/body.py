"""The JSON body of a request."""

from flask import abort, request


def required(field: str) -> str:
    """Return a text field of the request's body; answer 400 if it is missing or blank."""
    body = request.get_json()
    text = body.get(field) if isinstance(body, dict) else None
    if not isinstance(text, str) or not text.strip():
        abort(400, f"{field} is required.")
    return text

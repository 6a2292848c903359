"""Signing in: a password once, then a JSON Web Token with every request."""

import time
from collections.abc import Callable
from functools import wraps

import jwt
from flask import abort, g, request
from werkzeug.security import check_password_hash

from . import config
from .models import User

ALGORITHM = "HS256"


def password_matches(user: User | None, password: str) -> bool:
    return user is not None and check_password_hash(user.password_hash, password)


def issue_token(user: User) -> str:
    """Return a token that says who ``user`` is, so that a request can be attributed without asking the database."""
    claims = {"sub": str(user.id), "exp": time.time() + config.JWT_LIFETIME}
    return jwt.encode(claims, config.JWT_SECRET, ALGORITHM)


def signed_in(view: Callable) -> Callable:
    """Answer 401 unless the request carries a valid token; leave the user's id in ``g.user_id``."""

    @wraps(view)
    def guarded(*args, **kwargs):
        token = request.authorization.token if request.authorization else None
        try:
            claims = jwt.decode(token or "", config.JWT_SECRET, [ALGORITHM])
        except jwt.InvalidTokenError:
            abort(401, "Sign in first.")
        g.user_id = int(claims["sub"])
        return view(*args, **kwargs)

    return guarded

"""The Flask application."""

from flask import Blueprint, Flask
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException

from .api import api
from .db import session


def create_app(posts: Blueprint) -> Flask:
    """Return the API, with ``posts`` as the part that publishes them."""
    app = Flask(__name__)
    app.register_blueprint(api)
    app.register_blueprint(posts)
    app.register_error_handler(PoolTimeout, out_of_connections)
    app.register_error_handler(HTTPException, refused)
    app.teardown_appcontext(close_session)
    return app


def close_session(_error: BaseException | None) -> None:
    session.remove()


def out_of_connections(_error: PoolTimeout):
    return {"error": "Try again later."}, 503


def refused(error: HTTPException):
    return {"error": error.description}, error.code

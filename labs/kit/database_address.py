"""Connecting to a reader's own database: one connection, and no password in anything that is said about it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

APPLICATION = "labs checks"
CONNECT_TIMEOUT = 5  # seconds
SHAPE = "postgresql://user:password@host:5432/database"

# What a refusal says, names left out -> what happened and what to do. Its own words may be in any language or hold a
# part of the URL, so they are not repeated.
REMEDIES = {
    r"password authentication failed|no password supplied": (
        "the server did not accept the password", "check user and password"),
    r"role \S+ does not exist": ("there is no such role", "check the user"),
    r"database \S+ does not exist": ("there is no such database", "check the database's name"),
    r"no pg_hba\.conf entry": (
        "the server lets nobody in this way", "try sslmode=require, or ask for an entry in pg_hba.conf"),
    r"too many (clients|connections)|remaining connection slots": (
        "every place for a client is taken, which is an answer in itself",
        "ask as a superuser, for whom some are reserved"),
    r"refused": ("nothing listens there", "check host and port, and whether the server runs"),
    r"timeout|timed out": (
        "there was no answer in time", "check the host, the network and any firewall between"),
    r"resol|translate host|name or service|nodename": ("there is no host of that name", "check the host"),
    r"no such file": ("there is no such socket", "name a host, or the folder of the server's socket"),
    r"invalid (connection option|\w+ value|integer|port)": (
        "an option in the URL is not one that libpq knows", f"write it as {SHAPE}?sslmode=require"),
    r"ssl|certificate": ("the two sides do not agree on TLS", "set sslmode in the URL as your provider says"),
}
OTHERWISE = ("it did not work", "try the same URL with psql, which shows the server's own words")


class Unreachable(Exception):
    """There is no connection. The message is what was tried, what happened and the remedy, without a password."""

    def __init__(self, target: str, happened: str, remedy: str) -> None:
        super().__init__(f"Could not connect to {target}: {happened}; {remedy}.")
        self.target = target


@contextmanager
def connect(url: Any) -> Iterator[tuple[psycopg.Connection, str]]:
    """Connect to ``url`` for the length of a ``with`` block and give the connection and its name without password.

    Rows are dictionaries, nothing is prepared on the server (a pooler may stand between), and whatever the block did
    is rolled back. Raises Unreachable.
    """
    options = read(url)
    target = described(options)
    try:
        connection = psycopg.connect(**options, row_factory=dict_row, prepare_threshold=None)
    except psycopg.Error as error:
        raise Unreachable(target, *_why(error)) from None
    try:
        yield connection, target
    except psycopg.OperationalError:
        raise Unreachable(target, "the connection was lost in the middle", "try again") from None
    except psycopg.Error:
        raise Unreachable(target, "the server allows no ordinary transaction", "ask PostgreSQL itself") from None
    finally:
        connection.close()


def read(url: Any) -> dict[str, Any]:
    """Return the options of a connection from a URL in any spelling, or libpq's ``host=... dbname=...``.

    Raises Unreachable, which repeats nothing of a URL that it cannot read: any part might be the password.
    """
    try:
        options = _options(url)
    except (ArgumentError, ValueError, psycopg.Error):
        raise Unreachable("the database", "the URL could not be read", f"write it as {SHAPE}") from None
    options.setdefault("connect_timeout", CONNECT_TIMEOUT)
    return {**options, "application_name": APPLICATION}


def described(options: dict[str, Any]) -> str:
    """Return what a connection goes to, in words, without its password."""
    name, host = options.get("dbname") or "of the user's name", options.get("host") or "the local socket"
    port, user = options.get("port"), options.get("user")
    place = f"{host}:{port}" if port else f"{host}"
    return f"database {name} on {place}{f' as {user}' if user else ''}"


def _options(url: Any) -> dict[str, Any]:
    if isinstance(url, str):
        text = url.strip()
        if "://" not in text and "=" in text:
            return conninfo_to_dict(text)
        if text.count("@") > 1:
            # Read as written, the end of such a password would be taken for the host and be shown.
            raise Unreachable("the database", "the URL has more than one @ in it", "write those inside a part as %40")
        url = make_url(text)
    if not isinstance(url, URL):
        raise ValueError
    if not re.match(r"postgres(ql)?(\+|$)", url.drivername):
        raise Unreachable("the database", "the URL is not one of PostgreSQL", f"write it as {SHAPE}")
    named = {"host": url.host, "port": url.port, "user": url.username, "password": url.password, "dbname": url.database}
    asked = {key: value if isinstance(value, str) else ",".join(value) for key, value in url.query.items()}
    return {**asked, **{key: value for key, value in named.items() if value is not None and value != ""}}


def _why(error: psycopg.Error) -> tuple[str, str]:
    said = re.sub(r"\"[^\"]*\"|'[^']*'", "_", str(error).lower())
    for pattern, answer in REMEDIES.items():
        if re.search(pattern, said):
            return answer
    return OTHERWISE

"""The servers under the lab, as a table: asked, not assumed."""

import httpx
import redis
from sqlalchemy import NullPool, create_engine, text

from labs.kit.table import Table
from labs.stack import Stack
from labs.stack.model import TITLES


def table(stack: Stack) -> Table:
    """Connect to each server, ask it for its version, and return what answered and where it comes from."""
    answers = {
        "postgres": _ask_postgres(stack.postgres.url),
        "redis": _ask_redis(stack.redis.url),
        "fcm": _ask_push(stack.fcm.url),
    }
    rows = [
        (TITLES[service.name], answers[service.name], service.origin, "this machine only" if service.pid else "given")
        for service in stack.services
    ]
    return Table(("server", "says its version is", "where it comes from", "reachable from"), rows)


def _ask_postgres(url: str) -> str:
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return str(connection.scalar(text("SHOW server_version"))).split()[0]


def _ask_redis(url: str) -> str:
    with redis.Redis.from_url(url) as client:
        return client.info("server")["redis_version"]


def _ask_push(url: str) -> str:
    return httpx.get(f"{url}/admin/health", trust_env=False).raise_for_status().json()["version"]

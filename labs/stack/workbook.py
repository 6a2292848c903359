"""One workbook's own place on servers it may share with others: a database, a Redis database, an FCM project."""

import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from labs.stack import files
from labs.stack.model import StackError, database_name, project_name, workbook_id

CLAIM_SECONDS = 7 * 24 * 3600  # a claim on a Redis database lapses a week after its workbook was last attached

# KEYS: none. ARGV: workbook id, number of databases, seconds. Database 0 holds the claims and nobody's data.
CLAIM = """
for n = 1, tonumber(ARGV[2]) - 1 do
  if redis.call('GET', 'labs:owner:' .. n) == ARGV[1] then
    redis.call('EXPIRE', 'labs:owner:' .. n, ARGV[3])
    return n
  end
end
for n = 1, tonumber(ARGV[2]) - 1 do
  if redis.call('SET', 'labs:owner:' .. n, ARGV[1], 'NX', 'EX', ARGV[3]) then return n end
end
return 0
"""


def plain(url: str) -> str:
    """Return a PostgreSQL URL without SQLAlchemy's driver name, as psycopg takes it."""
    scheme, _, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}://{rest}"


def postgres_url(server: str, database: str) -> str:
    """Return the SQLAlchemy URL of ``database`` on the server that ``server`` (any PostgreSQL URL) names."""
    parts = urllib.parse.urlsplit(plain(server))
    return urllib.parse.urlunsplit(("postgresql+psycopg", parts.netloc, f"/{database}", parts.query, ""))


def redis_url(server: str, number: int) -> str:
    """Return the URL of logical database ``number`` on the Redis server that ``server`` names."""
    return urllib.parse.urlunsplit(urllib.parse.urlsplit(server)._replace(path=f"/{number}"))


def claim(home: Path, postgres: str, redis: str) -> None:
    """Make this workbook's database if it is missing and claim a Redis database for it.

    ``postgres`` and ``redis`` are server URLs. Raises StackError where a server refuses.
    """
    _ensure_database(postgres, database_name(home))
    number = _claim_redis(redis, workbook_id(home))
    files.write_private(files.folder(home) / "workbook.json", {"redis_database": number})


def redis_number(home: Path) -> int:
    """Return the Redis database this workbook claimed last."""
    return int(files.read(files.folder(home) / "workbook.json").get("redis_database", 1))


def clean(home: Path, postgres: str, redis: str, fcm: str) -> None:
    """Empty this workbook's place: drop and make its database, flush its Redis database, reset its FCM project."""
    _recreate_database(postgres, database_name(home))
    claim(home, postgres, redis)
    _flush_redis(redis_url(redis, redis_number(home)))
    reset_project(fcm, project_name(home))


def _connect(server: str):
    import psycopg

    return psycopg.connect(plain(server), autocommit=True, connect_timeout=5)


def _ensure_database(server: str, name: str) -> None:
    import psycopg

    try:
        with _connect(server) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                connection.execute(f'CREATE DATABASE "{name}"')
    except psycopg.errors.DuplicateDatabase:
        return  # another process of this workbook was quicker
    except psycopg.errors.UniqueViolation:
        return
    except psycopg.Error as error:
        raise _refused("PostgreSQL", error) from error


def _recreate_database(server: str, name: str) -> None:
    import psycopg

    try:
        with _connect(server) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}"')
    except psycopg.Error as error:
        raise _refused("PostgreSQL", error) from error


def postgres_version(server: str) -> str:
    """Return the server's version, such as "18.4". Raises StackError where it cannot be reached."""
    import psycopg

    try:
        with _connect(server) as connection:
            return connection.execute("SHOW server_version").fetchone()[0].split()[0]
    except psycopg.Error as error:
        raise _refused("PostgreSQL", error) from error


def _redis(url: str):
    import redis

    return redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=10)


def redis_version(server: str) -> str:
    """Return the server's version, such as "7.2.4". Raises StackError where it cannot be reached."""
    import redis

    try:
        with _redis(server) as client:
            facts = client.info("server")
            return str(facts.get("valkey_version") or facts["redis_version"])
    except redis.RedisError as error:
        raise _refused("Redis", error) from error


def _claim_redis(server: str, owner: str) -> int:
    import redis

    try:
        with _redis(redis_url(server, 0)) as client:
            databases = _databases(client)
            number = int(client.eval(CLAIM, 0, owner, databases, CLAIM_SECONDS))
    except redis.RedisError as error:
        raise _refused("Redis", error) from error
    if not number:
        raise StackError(
            f"All {databases - 1} Redis databases are claimed by other workbooks; "
            "raise `databases` in the server's configuration or delete a key labs:owner:* in its database 0."
        )
    return number


def _databases(client: Any) -> int:
    import redis

    try:
        return int(client.config_get("databases")["databases"])
    except (redis.ResponseError, KeyError):
        return 16  # the default; a hosted server may keep CONFIG to itself


def _flush_redis(url: str) -> None:
    import redis

    try:
        with _redis(url) as client:
            client.flushdb()
    except redis.RedisError as error:
        raise _refused("Redis", error) from error


def fcm_version(server: str) -> str:
    """Return the push server's version. Raises StackError where it cannot be reached."""
    return str(_fcm("GET", f"{server.rstrip('/')}/admin/health").get("version", "unknown"))


def reset_project(server: str, project: str) -> None:
    """Set the counters of ``project`` to zero and its settings to their defaults."""
    _fcm("POST", f"{server.rstrip('/')}/admin/projects/{project}/reset")


def _fcm(method: str, url: str) -> dict:
    request = urllib.request.Request(url, data=b"" if method == "POST" else None, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as answer:
            body = answer.read()
            return json.loads(body) if body else {}
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise _refused("The push server", error) from error


def _refused(who: str, error: Exception) -> StackError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip().rstrip(".")
    return StackError(f"{who} does not answer ({reason}); see `python3 -m labs status`.")

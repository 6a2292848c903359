"""A gate in front of a server: for one system the server can be "away for a few seconds", and for nobody else.

    with Fleet(run_dir, recorder) as fleet:
        gate = Gate(fleet, "gate-redis", stack.redis.url)
        fleet.gunicorn("api-1", "team.api:app", port, env={"REDIS_URL": gate.url})
        gate.away(3)

It works the same whoever started the server: what it closes is the way there, not the server. What the server was
doing for a connection that is reset it may well finish, as with a real network.
"""

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import SplitResult, parse_qs, quote, urlencode, urlsplit, urlunsplit

from labs.kit import control
from labs.kit.fleet import Fleet

PORTS = {"postgresql": 5432, "postgres": 5432, "redis": 6379, "rediss": 6379, "http": 80}
HOST = "127.0.0.1"
PATIENCE = 60.0  # wall seconds: it answers in milliseconds; a machine that is busy beyond measure may take longer


class GateError(ValueError):
    """There can be no gate before such a server, or it does not answer; the sentence says why and what to do."""


class Gate:
    """A gate in front of the server at ``url``, open from the start: the process ``name`` of ``fleet``.

    ``url``: SQLAlchemy's form for PostgreSQL (postgresql+psycopg://...), redis://.../N, unix://... or http://...
    ``url`` of the gate is the same with the gate's host and port. To connect to an open gate succeeds whatever state
    the server is in; where it cannot be reached the connection is reset right after.
    Raises GateError for a URL that cannot be led through a gate, or when its process does not come up.
    """

    def __init__(self, fleet: Fleet, name: str, url: str) -> None:
        to, parts = target(name, url)
        self.name = name
        self.closed = False
        self._fleet = fleet
        self._control = fleet.run_dir / f"{name}.json"
        self._answer = fleet.run_dir / f"{name}.answer.json"
        self._answer.unlink(missing_ok=True)
        self._orders: dict[str, Any] = {"to": to, "order": 0, "answer": str(self._answer.resolve())}
        self._write(shut=False)
        fleet.start(self.name, "labs.kit.gate_server", [self._control.resolve()])
        self.port: int = self._wait()["port"]
        user, at, _ = parts.netloc.rpartition("@")
        host = parts.hostname if "hostaddr=" in parts.query else HOST
        self.url = urlunsplit(parts._replace(netloc=f"{user}{at}{host}:{self.port}"))

    def shut(self) -> None:
        """Reset every connection, on both sides, and refuse new ones, as a dead server does. All done on return."""
        self._order(shut=True)

    def open(self) -> None:
        """Accept connections again, on the same port; they are accepted when this returns."""
        self._order(shut=False)

    def away(self, seconds: float) -> None:
        """Be shut for ``seconds`` wall seconds, and return when the gate is open again."""
        with self.kept_shut():
            time.sleep(seconds)

    @contextmanager
    def kept_shut(self) -> Iterator[None]:
        """Be shut for the length of a ``with`` block, however it ends."""
        try:
            self.shut()
            yield
        finally:
            self.open()

    def _order(self, shut: bool) -> None:
        if not self._fleet.alive(self.name):
            raise GateError(f"The gate {self.name} has ended:\n{self._fleet[self.name].tail()}")
        if shut != self.closed:
            self._write(shut)
            self._wait()
            self.closed = shut

    def _write(self, shut: bool) -> None:
        self._orders |= {"order": self._orders["order"] + 1, "shut": shut}
        control.write(self._control, self._orders)

    def _wait(self) -> dict[str, Any]:
        """Wait until the last order has been carried out; return the answer."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                answer = control.read(self._answer)
            except FileNotFoundError:
                answer = {"order": 0}
            if answer["order"] == self._orders["order"]:
                return answer
            if not self._fleet.alive(self.name):
                raise GateError(f"The gate {self.name} has ended:\n{self._fleet[self.name].tail()}")
            if time.monotonic() > until:
                raise GateError(f"The gate {self.name} did not answer in {PATIENCE:g} s; see {self._control}.")
            time.sleep(0.005)

    def __repr__(self) -> str:
        return f"<Gate {self.name} on port {self.port}, {'shut' if self.closed else 'open'}>"


def target(name: str, url: str) -> tuple[dict[str, Any], SplitResult]:
    """Return where the server is ({"host", "port"} or {"path"}) and the URL's parts as a client of a gate needs them.

    A server behind a Unix socket is reached there by the gate, which itself listens on TCP. Where a PostgreSQL URL asks
    for the server's name to be verified (sslmode=verify-full), the name stays in it and "hostaddr" leads to the gate.
    Raises GateError, which repeats nothing of the URL but its scheme: any part might be the password.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        shape = "scheme://user:password@host:port/name"
        raise GateError(f"The URL of {name} cannot be read; write it as {shape}.") from None
    kind = parts.scheme.partition("+")[0]
    if kind == "unix":
        return {"path": parts.path}, _redis_over_tcp(parts)
    if kind not in PORTS:
        allowed = ", ".join([*PORTS, "unix"])
        raise GateError(f"The URL of {name} has the scheme {parts.scheme!r}; a gate can be before {allowed}.")
    query = parse_qs(parts.query, keep_blank_values=True)
    if kind in ("postgresql", "postgres"):
        return _postgres(name, parts, host, port, query)
    if kind == "rediss" and not _name_unchecked(query):
        raise GateError(
            f"The URL of {name} asks for TLS and for a certificate of the host it names, which a gate has not; "
            "add ssl_check_hostname=false to it, or use redis://."
        )
    return {"host": host or "localhost", "port": port or PORTS[kind]}, parts


def _postgres(
    name: str, parts: SplitResult, host: str | None, port: int | None, query: dict[str, list[str]]
) -> tuple[dict[str, Any], SplitResult]:
    host = query.pop("host", [host])[0]
    port = query.pop("port", [port or PORTS["postgresql"]])[0]
    reached = query.pop("hostaddr", [host])[0]
    if not reached or "," in f"{parts.netloc}{host}{port}":
        raise GateError(f"The URL of {name} names {'several hosts' if reached else 'no host'}; a gate needs one.")
    if reached.startswith("/"):
        return {"path": f"{reached}/.s.PGSQL.{port}"}, _asking(parts, query)
    if ":" in reached and parts.hostname is None:
        reached, _, port = reached.rpartition(":")
    if query.get("sslmode") == ["verify-full"]:
        user, at, _ = parts.netloc.rpartition("@")
        parts = parts._replace(netloc=f"{user}{at}{host}")
        query["hostaddr"] = [HOST]
    return {"host": reached, "port": int(port)}, _asking(parts, query)


def _asking(parts: SplitResult, query: dict[str, list[str]]) -> SplitResult:
    return parts._replace(query=urlencode(query, doseq=True, quote_via=quote))


def _redis_over_tcp(parts: SplitResult) -> SplitResult:
    """Return unix://user:password@/path?db=N as redis://user:password@/N."""
    query = parse_qs(parts.query)
    number = query.pop("db", ["0"])[0]
    return _asking(parts._replace(scheme="redis", path=f"/{number}"), query)


def _name_unchecked(query: dict[str, list[str]]) -> bool:
    """Whether a rediss:// URL leaves the server's name unchecked, in the words that redis-py and Celery take."""
    unchecked = query.get("ssl_check_hostname", ["true"])[0].lower() in ("false", "0", "no")
    no_certificate = query.get("ssl_cert_reqs", [""])[0].lower() in ("none", ssl.CERT_NONE.name.lower())
    return unchecked or no_certificate

"""The gate: a server that is away for one system, and for nobody else."""

import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import redis

from labs.kit.fleet import Fleet
from labs.kit.gate import Gate, GateError, target
from tests.running import eventually

PATIENCE = 60


@pytest.fixture
def fleet(tmp_path):
    with Fleet(tmp_path) as fleet:
        yield fleet


@pytest.fixture
def server():
    """A server in this process: what it accepts is in the list that comes with its address."""
    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    accepted.append(listener.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        yield address, accepted
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for each in accepted:
        each.close()


def through(gate):
    return socket.create_connection(("127.0.0.1", gate.port), timeout=PATIENCE)


def carried(gate, accepted):
    """A client's socket and the server's, with a byte through both."""
    before = len(accepted)
    client = through(gate)
    client.sendall(b"?")
    eventually(lambda: len(accepted) > before)
    assert accepted[before].recv(1) == b"?"
    return client, accepted[before]


def test_redis_and_postgres_answer_through_a_gate_as_without(fleet, stack):
    postgres, store = Gate(fleet, "gate-pg", stack.postgres.url), Gate(fleet, "gate-redis", stack.redis.url)
    with redis.Redis.from_url(store.url) as client:
        assert client.echo("x" * 3_000_000) == b"x" * 3_000_000
    with psycopg.connect(postgres.url.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == (stack.database,)


def test_while_one_gate_is_shut_the_server_answers_everybody_else(fleet, stack):
    ours, theirs = (Gate(fleet, name, stack.redis.url) for name in ("ours", "theirs"))
    with redis.Redis.from_url(theirs.url) as other, redis.Redis.from_url(ours.url, retry=None) as client:
        assert client.ping()
        with ours.kept_shut():
            with pytest.raises(redis.ConnectionError):
                client.ping()
            assert other.ping()
        assert client.ping()


def test_a_shut_gate_refuses_like_a_dead_server_and_opens_on_the_same_port(fleet, server):
    address, accepted = server
    gate = Gate(fleet, "gate", address)
    for _ in range(3):
        gate.shut()
        gate.shut()
        assert gate.closed
        with pytest.raises(ConnectionRefusedError):
            through(gate)
        gate.open()
        gate.open()
        assert not gate.closed
        carried(gate, accepted)[0].close()


def test_shutting_resets_every_connection_on_both_sides_before_it_returns(fleet, server):
    address, accepted = server
    gate = Gate(fleet, "gate", address)
    pairs = [carried(gate, accepted) for _ in range(8)]
    gate.shut()
    for each in (each for pair in pairs for each in pair):
        each.setblocking(False)
        with pytest.raises(ConnectionResetError):
            each.recv(1)
        each.close()


def test_connections_that_are_just_being_made_are_reset_too(fleet, server):
    address, _ = server
    gate = Gate(fleet, "gate", address)
    clients = [through(gate) for _ in range(64)]
    gate.shut()
    for client in clients:
        client.setblocking(False)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        client.close()


def test_nobody_can_take_the_port_of_a_shut_gate(fleet, server):
    gate = Gate(fleet, "gate", server[0])
    gate.shut()
    for option in (None, socket.SO_REUSEADDR):
        with socket.socket() as thief:
            if option:
                thief.setsockopt(socket.SOL_SOCKET, option, 1)
            with pytest.raises(OSError, match="in use"):
                thief.bind(("127.0.0.1", gate.port))


def test_an_end_of_speech_goes_through_and_the_answer_still_comes(fleet, server):
    address, accepted = server
    client, peer = carried(Gate(fleet, "gate", address), accepted)
    client.shutdown(socket.SHUT_WR)
    assert peer.recv(1) == b""
    peer.sendall(b"the answer")
    peer.close()
    with client:
        assert client.makefile("rb").read() == b"the answer"


def test_a_reset_goes_through_as_a_reset(fleet, server):
    address, accepted = server
    client, peer = carried(Gate(fleet, "gate", address), accepted)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    with client, pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_slow_reader_slows_the_sender_down_and_gets_every_byte(fleet, server):
    address, accepted = server
    client, peer = carried(Gate(fleet, "gate", address), accepted)
    size = 64 * 2**20
    with ThreadPoolExecutor(1) as sender, client:
        sent = sender.submit(peer.sendall, b"y" * size)
        # Far more than all buffers hold: it cannot have been taken in while nobody reads.
        with pytest.raises(TimeoutError):
            sent.result(timeout=0.5)
        got = 0
        while got < size:
            got += len(client.recv(2**20))
        sent.result(timeout=PATIENCE)


def test_a_server_that_is_dead_resets_whoever_comes_through_an_open_gate(fleet, server):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gate = Gate(fleet, "gate", f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
    with through(gate) as client, pytest.raises(ConnectionResetError):
        client.recv(1)


def test_away_opens_again_also_when_it_is_interrupted(fleet, server, monkeypatch):
    gate = Gate(fleet, "gate", server[0])
    seen = []

    def interrupted(seconds):
        seen.append((seconds, gate.closed))
        raise KeyboardInterrupt

    monkeypatch.setattr("labs.kit.gate.time.sleep", lambda seconds: interrupted(seconds) if seconds == 3 else None)
    with pytest.raises(KeyboardInterrupt):
        gate.away(3)
    assert seen == [(3, True)]
    through(gate).close()


def test_a_server_behind_a_unix_socket_is_reached_over_tcp(fleet, tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        gate = Gate(fleet, "gate", f"unix://:secret@{path}?db=3")
        assert gate.url == f"redis://:secret@127.0.0.1:{gate.port}/3"
        with through(gate) as client, listener.accept()[0] as peer:
            client.sendall(b"?")
            assert peer.recv(1) == b"?"


def test_a_gate_whose_process_has_ended_says_so(fleet, server):
    gate = Gate(fleet, "gate", server[0])
    fleet.kill("gate")
    with pytest.raises(GateError, match="The gate gate has ended"):
        gate.shut()


def test_the_url_keeps_all_but_host_and_port(fleet):
    gate = Gate(fleet, "gate", "postgresql+psycopg://me:p%40ss@db.example:5433/shop?connect_timeout=5&sslmode=require")
    where = f"127.0.0.1:{gate.port}"
    assert gate.url == f"postgresql+psycopg://me:p%40ss@{where}/shop?connect_timeout=5&sslmode=require"


@pytest.mark.parametrize(
    ("url", "to"),
    [
        ("postgresql://me@db/shop", {"host": "db", "port": 5432}),
        ("postgresql+psycopg://me@/shop?host=/run/pg&port=5433", {"path": "/run/pg/.s.PGSQL.5433"}),
        ("postgresql://me@/shop?host=db:5433", {"host": "db", "port": 5433}),
        ("redis://[::1]:6380/2", {"host": "::1", "port": 6380}),
        ("redis://store", {"host": "store", "port": 6379}),
        ("rediss://store/1?ssl_check_hostname=false", {"host": "store", "port": 6379}),
    ],
)
def test_the_server_is_found_in_every_spelling(url, to):
    assert target("it", url)[0] == to


def test_a_name_that_is_to_be_verified_stays_in_the_url_of_postgres(fleet):
    gate = Gate(fleet, "gate", "postgresql://me:secret@db.example/shop?sslmode=verify-full")
    asked = f"db.example:{gate.port}/shop?sslmode=verify-full&hostaddr=127.0.0.1"
    assert gate.url == f"postgresql://me:secret@{asked}"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://me:secret@/shop", "names no host"),
        ("postgresql://me:secret@a,b/shop", "names several hosts"),
        ("mysql://me:secret@a/shop", "has the scheme 'mysql'; a gate can be before postgresql"),
        ("rediss://:secret@a/1", "add ssl_check_hostname=false"),
        ("redis://:secret@a:port/1", "cannot be read"),
    ],
)
def test_a_url_that_no_gate_can_be_before_is_refused_in_a_sentence_without_its_password(url, words):
    with pytest.raises(GateError, match=words) as caught:
        target("it", url)
    assert "secret" not in str(caught.value)

import math
import secrets

import psycopg
import pytest
from sqlalchemy.engine import make_url

from labs.kit import database_checks
from labs.kit.database_checks import Checks, Service, ServiceError, check
from labs.kit.statement_text import without_values

PASSWORD = "Pa55-w0rd_of-a-test"
TITLES = ["Connections by application and state", "Oldest idle in transaction", "Fleet arithmetic",
          "Statements by calls"]


@pytest.fixture(scope="module")
def url(stack):
    return stack.postgres.url


def libpq(url, **more):
    parts = make_url(url)
    return {"host": parts.host, "port": parts.port, "user": parts.username, "password": parts.password,
            "dbname": parts.database, **more}


@pytest.fixture(scope="module")
def admin(url):
    with psycopg.connect(**libpq(url, application_name="admin of a test"), autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def visitor_url(url, admin):
    """The URL of a role that may log in and nothing more."""
    name = f"visitor_{secrets.token_hex(4)}"
    admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    yield make_url(url).set(username=name, password=PASSWORD).render_as_string(hide_password=False)
    admin.execute(f"DROP ROLE {name}")


@pytest.fixture
def holder(url):
    """A session that holds a transaction open and does nothing in it."""
    with psycopg.connect(**libpq(url, application_name="fan-out")) as connection:
        connection.execute("SELECT 'secret of a customer', 4711 /* by hand */")
        yield connection
        connection.rollback()


def told(checks):
    return repr(checks) + checks._repr_html_()


def test_four_questions_are_answered_each_with_how_to_read_it(url, admin):
    checks = check(url)
    assert checks.connected
    assert [each.title for each in checks] == TITLES
    assert len(checks) == 4
    assert repr(checks).count("How to read it: ") == 4
    assert checks._repr_html_().count("How to read it: ") == 4
    assert checks.target in repr(checks)
    assert make_url(url).database in checks.target


def test_a_session_idle_in_a_transaction_is_named_with_its_last_statement(url, holder):
    checks = check(url)
    table = checks["Oldest idle in transaction"].table
    row = table.rows[table.column("application").index("fan-out")]
    assert row[1] == str(holder.info.backend_pid)
    assert row[4] == "SELECT ?, ?"
    by_state = checks["Connections by application and state"].table
    assert ("fan-out", "idle in transaction", 1) in [row[:3] for row in by_state]
    assert "customer" not in told(checks)


def test_the_checks_do_not_count_themselves(url, admin):
    assert "labs checks" not in check(url)["Connections by application and state"].table.column("application")


def test_without_rights_the_checks_answer_what_they_may_and_say_what_is_hidden(visitor_url, holder):
    checks = check(visitor_url)
    assert checks.connected
    states = checks["Connections by application and state"]
    assert ("fan-out", "hidden from this role", 1) in [row[:3] for row in states.table]
    assert "pg_read_all_stats" in states.sentence
    idle = checks["Oldest idle in transaction"]
    assert idle.table is None
    assert "hidden from this role" in idle.sentence
    assert checks["Fleet arithmetic"].sentence.startswith("The server has ")


@pytest.fixture
def during(monkeypatch):
    """What is to be asked of the connection of the checks itself: a function that takes the statement."""
    seen = []

    def ask(statement):
        def question(connection):
            seen.append(connection.execute(statement).fetchone())
            return None, "asked"

        monkeypatch.setattr(database_checks, "_by_application", question)
        return seen

    return ask


def test_the_connection_reads_only_gives_up_early_and_says_who_it_is(url, during):
    seen = during("""SELECT current_setting('transaction_read_only') AS read_only,
        current_setting('statement_timeout') AS statement, current_setting('lock_timeout') AS lock,
        current_setting('application_name') AS name,
        (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'labs checks') AS connections""")
    check(url)
    assert seen == [{"read_only": "on", "statement": "2s", "lock": "200ms", "name": "labs checks", "connections": 1}]


def test_a_question_that_would_write_is_refused_and_the_others_are_answered(url, during):
    during("CREATE TABLE never_made (n int)")
    checks = check(url)
    assert checks[TITLES[0]].sentence == "The server could not answer: ReadOnlySqlTransaction, SQLSTATE 25006."
    assert checks["Fleet arithmetic"].sentence.startswith("The server has ")


def test_a_slow_question_is_stopped_and_the_others_are_answered(url, during, monkeypatch):
    monkeypatch.setattr(database_checks, "STATEMENT_TIMEOUT", 100)
    during("SELECT pg_sleep(60)")
    checks = check(url)
    assert "was asked to stop" in checks[TITLES[0]].sentence
    assert checks["Fleet arithmetic"].sentence.startswith("The server has ")


def test_a_connection_lost_in_the_middle_is_a_sentence(url, during, admin):
    during("SELECT pg_terminate_backend(pg_backend_pid())")
    checks = check(url)
    assert not checks.connected
    assert "the connection was lost in the middle; try again." in checks.failure


# -- the fleet

def places(url):
    with psycopg.connect(**libpq(url)) as connection:
        return connection.execute(
            "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
            " - coalesce(current_setting('reserved_connections', true), '0')::int").fetchone()[0]


def test_a_fleet_is_set_beside_the_places_for_clients(url):
    free = places(url)
    fleet = check(url, services={"api": (free, 1, 1), "worker": Service(pods=2, pool=5)})["Fleet arithmetic"]
    assert fleet.table.rows == (("api", free, 1, 1, 2 * free), ("worker", 2, 5, 0, 10),
                                ("together", "", "", "", 2 * free + 10))
    assert f"may ask for {2 * free + 10:,}, {free + 10:,} more than there are." in fleet.sentence


def test_a_fleet_that_fits_says_what_is_left(url):
    free = places(url)
    sentence = check(url, services={"api": {"pods": 2, "pool": 3, "overflow": 1}})["Fleet arithmetic"].sentence
    assert f"The server has {free:,} places for clients" in sentence
    assert f"may ask for 8, which leaves {free - 8:,}." in sentence


def test_an_overflow_without_a_limit_is_said(url):
    fleet = check(url, services={"api": (1, 5, -1)})["Fleet arithmetic"]
    assert "no limit" in fleet.table.column("overflow")
    assert "may take every place" in fleet.sentence


def test_a_limit_of_the_role_itself_is_the_one_that_counts(visitor_url, admin):
    role = make_url(visitor_url).username
    admin.execute(f"ALTER ROLE {role} CONNECTION LIMIT 7")
    sentence = check(visitor_url, services={"api": (1, 10)})["Fleet arithmetic"].sentence
    assert "has 7 places for clients (this role's own limit)" in sentence
    assert "may ask for 10, 3 more than there are." in sentence
    admin.execute(f"ALTER ROLE {role} CONNECTION LIMIT -1")


@pytest.mark.parametrize(("given", "said"), [
    ((0, 5, 0), "services['api']: pods must be a whole number from 1, not 0."),
    ((1, 5, -2), "services['api']: overflow must be a whole number from -1, not -2."),
    ((1, 2.5), "services['api']: pool must be a whole number from 1, not 2.5."),
    (7, "services['api'] must be (pods, pool, overflow), not 7."),
    ({"pod": 1}, "services['api'] must be (pods, pool, overflow), not {'pod': 1}."),
])
def test_a_service_that_cannot_be_is_a_sentence_in_the_answer(url, given, said):
    assert check(url, services={"api": given})["Fleet arithmetic"].sentence.endswith(said)


def test_a_service_made_by_hand_is_refused_by_field():
    with pytest.raises(ServiceError, match=r"^pool must be a whole number from 1, not 0"):
        Service(pods=1, pool=0)
    assert Service(12, 20, 10).at_most == 360
    assert math.isinf(Service(1, 5, -1).at_most)


# -- statement statistics

def test_a_server_without_statistics_says_what_to_do(url, monkeypatch):
    monkeypatch.setattr(database_checks, "EXTENSION", "SELECT 'x' AS nspname WHERE false")
    statements = check(url)["Statements by calls"]
    assert statements.table is None
    assert "shared_preload_libraries" in statements.sentence
    assert "CREATE EXTENSION pg_stat_statements" in statements.sentence


@pytest.fixture
def statistics(admin, monkeypatch):
    """A view with the columns of the extension, on servers that do not have it."""
    schema = f"stand_in_{secrets.token_hex(4)}"
    admin.execute(f"CREATE SCHEMA {schema}")
    admin.execute(f"""CREATE VIEW {schema}.pg_stat_statements AS
        SELECT (SELECT oid FROM pg_database WHERE datname = current_database()) AS dbid, *
        FROM (VALUES ('SELECT token FROM devices WHERE user_id = $1', 45312, 45312, 9000::float8, 1),
                     ('ALTER ROLE x PASSWORD ''hunter2''', 2, 0, 1000, 2),
                     ('<insufficient privilege>', 1, 1, 0, NULL))
             AS t (query, calls, rows, total_exec_time, queryid)""")
    monkeypatch.setattr(database_checks, "EXTENSION", f"SELECT '{schema}' AS nspname")
    yield schema
    admin.execute(f"DROP SCHEMA {schema} CASCADE")


def test_statements_are_listed_by_calls_without_their_values(url, statistics):
    answer = check(url)["Statements by calls"]
    assert answer.table.rows == (
        (45_312, 1, "0.2 ms", "90%", "SELECT token FROM devices WHERE user_id = $1"),
        (2, 0, "500 ms", "10%", "ALTER ROLE x PASSWORD ?"),
        (1, 1, "0 s", "0%", "hidden from this role"),
    )
    assert "pg_read_all_stats" in answer.sentence


def test_statistics_that_this_role_may_not_read_are_a_sentence(visitor_url, statistics):
    assert "pg_monitor" in check(visitor_url)["Statements by calls"].sentence


# -- no connection, and no password anywhere

def with_parts(url, **parts):
    return make_url(url).set(**{"password": PASSWORD, **parts}).render_as_string(hide_password=False)


@pytest.mark.parametrize(("parts", "happened", "remedy"), [
    ({}, "the server did not accept the password", "check user and password"),
    ({"port": 1}, "nothing listens there", "check host and port"),
    ({"host": "no-such-host.invalid"}, "there is no host of that name", "check the host"),
    ({"query": {"ssl": "yes"}}, "an option in the URL is not one that libpq knows", "sslmode=require"),
    ({"query": {"sslmode": "verify-full"}}, "the two sides do not agree on TLS", "set sslmode"),
    ({"drivername": "mysql"}, "the URL is not one of PostgreSQL", "postgresql://"),
])
def test_no_connection_is_one_sentence_with_what_was_tried_and_a_remedy(url, parts, happened, remedy):
    checks = check(with_parts(url, **parts))
    assert not checks.connected
    assert checks.failure.startswith("Could not connect to ")
    assert happened in checks.failure
    assert remedy in checks.failure
    assert repr(checks) == checks.failure
    assert "\n" not in checks.failure
    assert PASSWORD not in told(checks) + repr(vars(checks))


def test_a_database_that_does_not_exist_is_named(visitor_url):
    checks = check(make_url(visitor_url).set(database="no_such_place").render_as_string(hide_password=False))
    assert "database no_such_place on 127.0.0.1:" in checks.failure
    assert "there is no such database" in checks.failure


@pytest.mark.parametrize("bad", [
    f"postgresql://reader:{PASSWORD}@rest@host:5432/shop",
    f"postgresql://reader:half@{PASSWORD}?x@host/shop",
    f"postgresql://reader:half@{PASSWORD}/x@host/shop",
    f"postgresql://reader@host:{PASSWORD}/shop",
    f"host=db password='{PASSWORD}",
    f"{PASSWORD}", f"://{PASSWORD}", f"jdbc:postgresql://host/shop?password={PASSWORD}", None, 5432,
])
def test_a_url_that_cannot_be_read_is_never_repeated(bad):
    checks = check(bad)
    assert not checks.connected
    assert "Could not connect to the database: the URL " in checks.failure
    assert PASSWORD not in told(checks) + repr(vars(checks))


@pytest.mark.parametrize("spelling", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+asyncpg"])
def test_every_spelling_of_a_url_is_read(url, spelling):
    assert check(make_url(url).set(drivername=spelling).render_as_string(hide_password=False)).connected


def test_sqlalchemys_own_url_and_libpqs_words_are_read_too(url):
    assert check(make_url(url)).connected
    assert check(psycopg.conninfo.make_conninfo(**libpq(url))).connected


def test_an_answer_never_holds_the_password(visitor_url):
    checks = check(visitor_url, services={"api": (2, 5, 0)})
    assert PASSWORD not in told(checks) + repr(vars(checks)) + "".join(repr(vars(each)) for each in checks)


def test_no_reader_of_the_page_meets_markup_from_a_database():
    checks = Checks("database <b> on x", failure="Could not connect to <b>.")
    assert "<b>" not in checks._repr_html_()


# -- statements without their values

@pytest.mark.parametrize(("statement", "bare"), [
    ("SELECT * FROM users\n WHERE email = 'a@b.c' AND id = 42", "SELECT * FROM users WHERE email = ? AND id = ?"),
    ("SELECT $1, t1.c2 FROM t1", "SELECT $1, t1.c2 FROM t1"),
    ("SELECT 'it''s', E'it\\'s', 1.5e3", "SELECT ?, ?, ?"),
    ("SELECT date'2024-01-01'", "SELECT date?"),
    ("SELECT $$a 'b' c$$, $x$ 1 $x$ FROM t", "SELECT ?, ? FROM t"),
    ("SELECT 1 -- by a@b.c\n, 2 /* for 'them' */ FROM t", "SELECT ? , ? FROM t"),
    ("SELECT '-- no comment', \"Column 1\"", "SELECT ?, \"Column 1\""),
    ("SELECT 'cut off in the mid", "SELECT ?"),
    (None, ""),
])
def test_values_and_comments_are_left_out_of_a_statement(statement, bare):
    assert without_values(statement) == bare


def test_a_long_statement_is_cut():
    assert without_values("SELECT " + "column_name, " * 50, longest=20) == "SELECT column_name,…"

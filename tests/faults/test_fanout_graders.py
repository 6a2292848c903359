"""The graders of incident 1 on real outages: references pass, wrong answers fail for their reason."""

import pytest
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on

from labs.fanout.graded import (
    bulk_query,
    decisions,
    find_the_hog,
    fleet_size,
    killed_worker,
    last_connection,
    read_the_answers,
    tokens,
)
from labs.fanout.social.models import Device, Follow
from labs.kit.grading_proof import assert_graded

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("stack")]


def test_the_attempt_that_takes_the_last_connection():
    wrong = {
        "repetitions instead of attempts": (5, "too early: connections are left after it: yes, target no, missed"),
        "the pool of one pod": (3, "Count the pools of both pods"),
        "the published pool": (20, "too late: the last connection is gone: yes, target no, missed"),
    }
    assert_graded(last_connection, 6, wrong, stub=...)


# -- one statement ----------------------------------------------------------------------------------------------------


def phones(author_id):
    return (
        select(Device.token)
        .join(Follow, Follow.follower_id == Device.user_id)
        .where(Follow.followee_id == author_id, Device.token.is_not(None))
    )


def every_phone(session, author_id):
    return session.scalars(phones(author_id)).all()


def one_phone_of_all(session, author_id):
    return session.scalars(phones(author_id).limit(1)).all()


def oldest_phones(session, author_id):
    return session.scalars(phones(author_id).ext(distinct_on(Device.user_id)).order_by(Device.user_id, Device.id)).all()


def newest_phones_with_or_without_token(session, author_id):
    newest = (
        select(Device.token)
        .join(Follow, Follow.follower_id == Device.user_id)
        .where(Follow.followee_id == author_id)
        .ext(distinct_on(Device.user_id))
        .order_by(Device.user_id, Device.id.desc())
    )
    return session.scalars(newest).all()


def a_loop(session, author_id):
    found = []
    for follower_id in session.scalars(select(Follow.follower_id).where(Follow.followee_id == author_id)).all():
        newest = select(Device.token).where(Device.user_id == follower_id, Device.token.is_not(None))
        token = session.scalar(newest.order_by(Device.id.desc()).limit(1))
        found += [token] if token else []
    return found


def a_statement(session, author_id):
    return phones(author_id)


def a_result(session, author_id):
    return session.scalars(phones(author_id))


def phones_of_everybody(session, author_id):
    return list(set(session.scalars(select(Device.token).where(Device.token.is_not(None)))))


def each_phone_thrice(session, author_id):
    return 3 * session.scalars(phones(author_id)).all()


def misspelled(session, author_id):
    return session.scalars(phones(author)).all()  # noqa: F821


def test_one_statement():
    wrong = {
        "every phone": (every_phone, "followers called more than once: 54, target 0, missed"),
        "limit for all": (one_phone_of_all, "followers who could be called and were not: 188"),
        "oldest first": (oldest_phones, "order them, newest first"),
        "tokens that are null": (newest_phones_with_or_without_token, "calls that the push service refused: 30"),
        "a loop": (a_loop, "statements to find the phones: 211, target 1, missed"),
        "not a list": (a_statement, "not a Select that nobody has run"),
        "a result that is no list": (a_result, "a ScalarResult, which can be read once"),
        "everybody's phones": (phones_of_everybody, "Keep only the rows of `follows` whose `followee_id`"),
        "each phone many times": (each_phone_thrice, "tokens in your list: 729, target at most 273, missed"),
        "misspelled": (misspelled, "misspelled stopped with NameError"),
    }
    assert_graded(bulk_query, tokens.solution, wrong)


def test_find_the_hog():
    first, where = "SELECT application_name FROM pg_stat_activity", "WHERE state = 'idle in transaction'"
    reference = f"{first} {where} GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
    most = f"{first} GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
    longest = f"{first} WHERE state = 'active' AND pid <> pg_backend_pid() ORDER BY query_start LIMIT 1"
    wrong = {
        "a name typed in": ("SELECT 'social-api'", "the next day: connections that the service you name keeps"),
        "a wrong name typed in": ("SELECT 'api'", "Your text names a service and asks the database nothing"),
        "most connections": (most, "the outage: connections that the service you name keeps for nothing: 0"),
        "longest query": (longest, "the outage: connections that the service you name keeps for nothing: 0"),
        "oldest transaction": (f"{first} {where} ORDER BY xact_start LIMIT 1", "another one keeps more of them"),
        "too slow": ("SELECT pg_sleep(60)::text FROM pg_stat_activity", "took longer than 3 s and was stopped"),
        "not one row": (f"{first} {where}", "must return one row with one column, not 9 with 1"),
        "no such column": (f"SELECT app FROM ({first}) AS a", 'refused your query: column "app" does not exist'),
        "a change": ("DELETE FROM posts", "cannot execute DELETE in a read-only transaction"),
    }
    assert_graded(find_the_hog, reference, wrong, stub="-- your query")


def fleet(pods, pool_size, threads):
    return {"pods": pods, "pool_size": pool_size, "threads": threads}


def test_size_the_fleet():
    wrong = {
        "the published pool": (fleet(2, 20, 64), "connections during a deployment: 60"),
        "pools too small": (fleet(2, 2, 64), "requests not served, under load: target at most 24, three times"),
        "no room for crowds": (fleet(2, 5, 64), "connections of the whole fleet: 10, target at least 12, missed"),
        "too few threads": (fleet(2, 8, 2), "threads of each pod: 2, target at least 8, missed"),
        "threads below the pool": (fleet(4, 5, 3), "threads of each pod: 3, target at least 5, missed"),
        "no pod may die": (fleet(2, 6, 6), "connections left when one pod has died: 6, target at least 8, missed"),
        "one giant pod": (fleet(1, 13, 64), "pods: 1, target at least 2, missed"),
    }
    assert_graded(fleet_size, fleet(3, 6, 12), wrong)


def celery(late, visibility=None):
    options = {} if visibility is None else {"broker_transport_options": {"visibility_timeout": visibility}}
    return {"task_acks_late": late, **options}


def test_a_killed_worker():
    wrong = {
        "only late": (celery(True), "visibility time-out: 3,600 s, target from 60 to 120 s, missed"),
        "only a time-out": (celery(False, 90), "The broker had already forgotten the message."),
        "shorter than the task": (celery(True, 5), "nobody dies: phones told twice: yes, target no, missed"),
        "shorter than the task at its worst": (celery(True, 30), "handed to a second worker"),
    }
    assert_graded(killed_worker, celery(True, 90), wrong)


# -- read the answers -------------------------------------------------------------------------------------------------


def tries_everything_again(code):
    return "finished" if code == "OK" else "again"


def never_looks(code):
    return "finished"


def deletes_for_a_faulty_release(code):
    return {"OK": "finished", "UNREGISTERED": "forget", "INVALID_ARGUMENT": "forget"}.get(code, "again")


def keeps_dead_tokens(code):
    return "again" if code in ("UNAVAILABLE", "INTERNAL") else "finished"


def calls_the_dead_again(code):
    return "finished" if code in ("OK", "INVALID_ARGUMENT") else "again"


def test_read_the_answers():
    wrong = {
        "again, whatever it was": (tries_everything_again, "a refused message is sent again: yes"),
        "status never looked at": (never_looks, "followers with the app who are not told: target 0, missed"),
        "token deleted": (deletes_for_a_faulty_release, "Your decision about INVALID_ARGUMENT"),
        "token kept": (keeps_dead_tokens, "phones that are gone, called by a later post: yes"),
        "dead again": (calls_the_dead_again, "is called again: yes, target no, missed"),
    }
    assert_graded(read_the_answers, decisions.solution, wrong)

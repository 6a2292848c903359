"""The data of incident 1, on the real database."""

import re
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import NullPool, create_engine, text

from labs.fanout import dataset
from labs.stack import StackError

pytestmark = pytest.mark.live


@pytest.fixture
def ask(stack):
    """Return a function that answers one SQL question with one value."""
    engine = create_engine(stack.postgres.url, poolclass=NullPool)

    def ask(question: str, **values: object):
        with engine.begin() as connection:
            answer = connection.execute(text(question), values)
            return answer.scalar() if answer.returns_rows else None

    return ask


FOLLOWERS = "SELECT count(*) FROM follows WHERE followee_id = (SELECT id FROM users WHERE username = 'techinfluencer')"
PHONES = """
    SELECT count(*) FROM devices JOIN follows ON follower_id = user_id
    WHERE followee_id = (SELECT id FROM users WHERE username = 'techinfluencer')
"""


def test_the_published_account_has_exactly_its_published_followers_and_as_many_phones(stack, ask):
    dataset.prepare(stack)
    assert ask(FOLLOWERS) == 45_312
    assert ask(PHONES) == 45_312
    assert ask("SELECT verified FROM users WHERE username = 'techinfluencer'") is True


def test_most_authors_have_fewer_than_fifty_followers_and_counts_fall_as_a_power_law(stack, ask):
    dataset.prepare(stack)
    counts = dataset.follower_counts()
    assert len(counts) == 2_000
    assert (counts < 50).mean() > 0.8
    assert (counts > 10_000).sum() == 3
    ranks = np.arange(1, 501)
    slope = np.polyfit(np.log(ranks), np.log(counts[:500]), 1)[0]
    assert slope == pytest.approx(-dataset.STEEPNESS, abs=0.05)
    small = "SELECT count(*) FROM (SELECT 1 FROM follows GROUP BY followee_id HAVING count(*) < 50) AS small"
    assert ask(small) == (counts < 50).sum()


def test_every_row_refers_to_rows_that_exist(stack, ask):
    dataset.prepare(stack, followers=46_000)
    for table, column, target in [
        ("follows", "follower_id", "users"),
        ("follows", "followee_id", "users"),
        ("devices", "user_id", "users"),
        ("posts", "author_id", "users"),
        ("comments", "author_id", "users"),
        ("comments", "post_id", "posts"),
    ]:
        assert ask(f"SELECT count(*) FROM {table} WHERE {column} NOT IN (SELECT id FROM {target})") == 0


def test_preparing_again_changes_nothing(stack, ask):
    dataset.prepare(stack, followers=12)
    seeded = "SELECT md5(string_agg(xmin::text || id, ',' ORDER BY id)) FROM users WHERE id <= 50000"
    before = ask(seeded)
    lines: list[str] = []
    dataset.prepare(stack, followers=12, progress=lines.append)
    assert ask(seeded) == before
    assert lines == []


def test_an_interrupted_preparation_leaves_nothing_half_done_and_the_next_one_says_what_it_does(stack, ask):
    dataset.prepare(stack, followers=12)
    ask("COMMENT ON TABLE users IS NULL")

    def interrupt(line: str) -> None:
        if "followers" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dataset.prepare(stack, followers=15, progress=interrupt)
    assert ask(FOLLOWERS) == 12
    lines: list[str] = []
    dataset.prepare(stack, followers=15, progress=lines.append)
    assert ask(FOLLOWERS) == 15
    assert ask("SELECT count(*) FROM posts") == 10_000
    assert lines[0] == "creating the schema"
    assert lines[-1] == "15 followers of @techinfluencer"


@pytest.mark.parametrize("followers", [10, 5_000, 46_000, 12])
def test_any_number_of_followers_is_exact_and_the_follower_view_is_fresh(stack, ask, followers):
    dataset.prepare(stack)
    dataset.set_followers(stack, followers)
    assert ask(FOLLOWERS) == followers
    assert ask("SELECT followers FROM follower_counts WHERE author_id = 1") == followers
    assert ask(PHONES) == followers


def test_changing_the_influencers_followers_leaves_everybody_elses_alone(stack, ask):
    dataset.prepare(stack, followers=12)
    others = "SELECT count(*) FROM follows WHERE followee_id <> 1"
    assert ask(others) == dataset.follower_counts()[1:].sum()


def test_restore_removes_what_a_run_added_and_only_that(stack, ask):
    dataset.prepare(stack, followers=12)
    dataset.restore(stack)
    new_post = ask("INSERT INTO posts (author_id, content) VALUES (1, 'new') RETURNING id")
    ask("INSERT INTO comments (post_id, author_id, content) VALUES (:post, 1, 'new')", post=new_post)
    ask("INSERT INTO comments (post_id, author_id, content) VALUES (7, 1, 'new')")
    dataset.restore(stack)
    assert ask("SELECT count(*) FROM posts") == 10_000
    assert ask("SELECT count(*) FROM comments") == 20_000
    again = ask("INSERT INTO posts (author_id, content) VALUES (1, 'new') RETURNING id")
    dataset.restore(stack)
    assert again == new_post == 10_001


def test_second_phones_can_be_given_to_a_share_of_the_readers_and_taken_back(stack, ask):
    dataset.prepare(stack, followers=1_000, second_devices=0.2)
    assert ask(PHONES) == 1_200
    most = "SELECT max(phones) FROM (SELECT count(*) AS phones FROM devices GROUP BY user_id) AS carried"
    assert ask(most) == 2
    dataset.prepare(stack, followers=1_000)
    assert ask(PHONES) == 1_000


def test_tokens_look_like_registration_tokens_and_are_all_different(stack, ask):
    dataset.prepare(stack, followers=12)
    assert ask("SELECT count(DISTINCT token) = count(*) FROM devices") is True
    form = re.compile(r"[\w-]{22}:APA91b[\w-]{134}")
    assert form.fullmatch(ask("SELECT token FROM devices WHERE user_id = 10001"))
    form_in_sql = "^[[:alnum:]_-]{22}:APA91b[[:alnum:]_-]{134}$"
    assert ask("SELECT count(*) FROM devices WHERE token !~ :form", form=form_in_sql) == 0


def test_accounts_are_readers_who_follow_several_authors_the_same_ones_every_time(stack, ask):
    dataset.prepare(stack, followers=12)
    names = dataset.accounts(8)
    assert names == dataset.accounts(8)
    assert len(set(names)) == 8
    for name in names:
        followed = "SELECT count(*) FROM follows JOIN users ON users.id = follower_id WHERE username = :name"
        assert ask(followed, name=name) >= 4


def test_the_everyday_author_has_a_few_followers_with_a_phone_each(stack, ask):
    dataset.prepare(stack, followers=45_312)
    phones = """
        SELECT count(DISTINCT token) FROM devices JOIN follows ON follower_id = user_id
        WHERE followee_id = (SELECT id FROM users WHERE username = :name)
    """
    assert ask(phones, name=dataset.everyday_author()) == dataset.EVERYDAY_FOLLOWERS > 0


def test_some_posts_exist_and_have_comments(stack, ask):
    dataset.prepare(stack, followers=12)
    for post in dataset.some_posts(stack):
        assert ask("SELECT count(*) FROM comments WHERE post_id = :post", post=post) > 0


@pytest.mark.parametrize("followers", [9, 1_000_001, -1, 45.5, "many", None, True, float("nan")])
def test_a_follower_count_out_of_range_is_refused_with_the_range(stack, followers):
    with pytest.raises(dataset.DatasetError, match=r"followers must be a whole number from 10 to 1,000,000, not "):
        dataset.set_followers(stack, followers)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), "all"])
def test_a_share_of_second_phones_out_of_range_is_refused_with_the_range(stack, share):
    with pytest.raises(dataset.DatasetError, match=r"second_devices must be a share from 0 to 1, not "):
        dataset.prepare(stack, followers=12, second_devices=share)


def test_a_database_that_is_not_there_is_one_sentence_with_a_remedy(stack):
    gone = replace(stack, postgres=replace(stack.postgres, url="postgresql+psycopg://labs@127.0.0.1:1/none"))
    with pytest.raises(StackError, match=r"^The database cannot be used \(.+\); run `python3 -m labs reset`\.$"):
        dataset.prepare(gone)

"""Publish a post, and leave it to a background worker to push it to the phones of its author's followers.

The worker sends batches of 500 and tries again if one fails. Authors with very many followers get one fan-out a minute.
"""

import logging

from flask import Blueprint, g
from redis import Redis
from sqlalchemy import select, text

from .social import config, create_app, push
from .social.auth import signed_in
from .social.body import required
from .social.db import session
from .social.models import Device, Follow, Post, follower_counts
from .social.worker import create_celery

BATCH_SIZE = 500  # the most that FCM takes in one request

celery_app = create_celery()
log = logging.getLogger(__name__)
posts = Blueprint("posts", __name__)
redis = Redis.from_url(config.REDIS_URL)


@posts.post("/api/v1/posts/create")
@signed_in
def create_post():
    post = Post(author_id=g.user_id, content=required("content"))
    session.add(post)
    session.commit()
    if may_fan_out(post.author_id):
        notify_followers.delay(post.id)
    return {"status": "ok", "id": post.id}, 201


def may_fan_out(author_id: int) -> bool:
    """Let an author with very many followers through once in ``THROTTLE_SECONDS``."""
    followers = session.scalar(select(follower_counts.c.followers).where(follower_counts.c.author_id == author_id))
    session.close()
    if (followers or 0) <= config.THROTTLE_FOLLOWERS:
        return True
    return bool(redis.set(f"fanout:{author_id}", "locked", nx=True, px=int(config.THROTTLE_SECONDS * 1000)))


@celery_app.task(
    name="social.notify_followers",
    autoretry_for=(Exception,),
    max_retries=3,
    default_retry_delay=config.FANOUT_RETRY_DELAY,
)
def notify_followers(post_id: int) -> None:
    post = session.get_one(Post, post_id)
    tokens = session.scalars(tokens_of_followers(post.author_id)).all()
    session.close()  # the connection goes back to the pool
    for start in range(0, len(tokens), BATCH_SIZE):
        push.send_batch(tokens[start : start + BATCH_SIZE], "New post", post.content[:100]).raise_for_status()
    log.info("post %d: %d notifications in %d batches", post_id, len(tokens), len(tokens) // BATCH_SIZE + 1)


def tokens_of_followers(author_id: int):
    """Select the tokens of all phones of all followers."""
    return (
        select(Device.token)
        .join(Follow, Follow.follower_id == Device.user_id)
        .where(Follow.followee_id == author_id, Device.token.is_not(None))
    )


@celery_app.task(name="social.refresh_follower_counts")
def refresh_follower_counts() -> None:
    session.execute(text("REFRESH MATERIALIZED VIEW CONCURRENTLY follower_counts"))
    session.commit()


celery_app.conf.beat_schedule = {
    "follower counts": {"task": refresh_follower_counts.name, "schedule": config.FOLLOWER_COUNTS_REFRESH},
}

app = create_app(posts)

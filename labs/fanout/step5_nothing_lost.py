"""Publish a post, and leave it to background workers to push it to the phones of its author's followers.

A post and its entry in the outbox are committed together, so that no post is ever without its fan-out. A relay turns
the outbox into chunks of 500 phones and has workers send them; what each message came to is written down, so that
nothing is lost with a worker and nothing that was accepted is sent again. Only a message of which nobody can say
whether it arrived is sent twice: its worker died, or FCM did not answer in time.

However many authors post, no more than ``CHUNKS_IN_FLIGHT`` chunks are under way. Authors with very many followers get
one fan-out a minute: what they post meanwhile waits in the outbox, and then goes out as one notification.
"""

import requests
from flask import Blueprint, g
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import distinct_on

from .social import config, create_app, outbox, push, results
from .social.auth import signed_in
from .social.body import required
from .social.db import session
from .social.models import Device, Follow, Outbox, Post
from .social.worker import create_celery

celery_app = create_celery()
posts = Blueprint("posts", __name__)


@posts.post("/api/v1/posts/create")
@signed_in
def create_post():
    post = Post(author_id=g.user_id, content=required("content"))
    session.add(Outbox(post=post, author_id=post.author_id))
    session.commit()
    return {"status": "ok", "id": post.id}, 201


@celery_app.task(name="social.relay")
def relay() -> None:
    outbox.begin_fanouts(every_phone_of_followers if config.NOTIFY_EVERY_PHONE else newest_phone_of_followers)
    outbox.issue_chunks(send_chunk)


@celery_app.task(name="social.send_chunk", time_limit=config.CHUNK_TIMEOUT)
def send_chunk(delivery_id: int, issue: int) -> None:
    chunk = outbox.claim(delivery_id, issue)
    if chunk:
        outbox.settle(chunk, send(chunk))
    relay()


def send(chunk: outbox.Chunk) -> list[results.Result]:
    tokens = [token for _, token in chunk.phones]
    if not tokens:
        return []
    try:
        answer = push.send_batch(tokens, chunk.title, chunk.body)
    except requests.RequestException:
        return [results.NO_ANSWER] * len(tokens)
    return results.of_batch(answer, len(tokens))


def newest_phone_of_followers(author_id: int):
    """Select one phone of each follower."""
    newest_first = every_phone_of_followers(author_id).order_by(Device.user_id, Device.id.desc())
    return newest_first.ext(distinct_on(Device.user_id))


def every_phone_of_followers(author_id: int):
    """Select all phones of all followers."""
    return (
        select(Device.id)
        .join(Follow, Follow.follower_id == Device.user_id)
        .where(Follow.followee_id == author_id, Device.token.is_not(None))
    )


@celery_app.task(name="social.refresh_follower_counts")
def refresh_follower_counts() -> None:
    session.execute(text("REFRESH MATERIALIZED VIEW CONCURRENTLY follower_counts"))
    session.commit()


celery_app.conf.update(
    task_acks_late=True,  # a task that dies with its worker stays in the queue
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,  # a worker takes a chunk when it has time for it
    broker_transport_options={"visibility_timeout": config.VISIBILITY_TIMEOUT},
)
celery_app.conf.beat_schedule = {
    "follower counts": {"task": refresh_follower_counts.name, "schedule": config.FOLLOWER_COUNTS_REFRESH},
    "relay": {
        "task": relay.name,
        "schedule": config.RELAY_INTERVAL,
        "options": {"expires": config.RELAY_INTERVAL},  # busy workers, who relay after each chunk, need no reminders
    },
}

app = create_app(posts)

"""Publish a post, and leave it to a background worker to push it to the phones of its author's followers."""

from flask import Blueprint, g
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on

from .social import create_app, push
from .social.auth import signed_in
from .social.body import required
from .social.db import session
from .social.models import Device, Follow, Post
from .social.worker import create_celery

celery_app = create_celery()
posts = Blueprint("posts", __name__)


@posts.post("/api/v1/posts/create")
@signed_in
def create_post():
    post = Post(author_id=g.user_id, content=required("content"))
    session.add(post)
    session.commit()
    notify_followers.delay(post.id)
    return {"status": "ok", "id": post.id}, 201


@celery_app.task(name="social.notify_followers")
def notify_followers(post_id: int) -> None:
    post = session.get_one(Post, post_id)
    tokens = session.scalars(tokens_of_followers(post.author_id)).all()
    session.close()  # the connection goes back to the pool
    for token in tokens:
        push.send(token, "New post", post.content[:100])


def tokens_of_followers(author_id: int):
    """Select one token of each follower."""
    return (
        select(Device.token)
        .join(Follow, Follow.follower_id == Device.user_id)
        .where(Follow.followee_id == author_id, Device.token.is_not(None))
        .ext(distinct_on(Device.user_id))
    )


app = create_app(posts)

"""Publish a post, and push it to the phones of everybody who follows its author.

One query finds all the phones, and its connection goes back to the pool before any of them is called.
"""

from flask import Blueprint, g
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on

from .social import create_app, push
from .social.auth import signed_in
from .social.body import required
from .social.db import session
from .social.models import Device, Follow, Post

posts = Blueprint("posts", __name__)


@posts.post("/api/v1/posts/create")
@signed_in
def create_post():
    post = Post(author_id=g.user_id, content=required("content"))
    session.add(post)
    session.commit()
    notify_followers(post)
    return {"status": "ok", "id": post.id}, 201


def notify_followers(post: Post) -> None:
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

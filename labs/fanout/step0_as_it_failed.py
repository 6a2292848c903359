"""Publish a post, and push it to the phones of everybody who follows its author."""

from flask import Blueprint, g
from sqlalchemy import select

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
    followers = select(Follow.follower_id).where(Follow.followee_id == post.author_id)
    for follower_id in session.scalars(followers).all():
        token = session.scalar(select(Device.token).where(Device.user_id == follower_id).limit(1))
        if token:
            push.send(token, "New post", post.content[:100])


app = create_app(posts)

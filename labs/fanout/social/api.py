"""What the mobile app asks for most: signing in, the feed, comments."""

from flask import Blueprint, abort, g
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from .auth import issue_token, password_matches, signed_in
from .body import required
from .db import session
from .models import Comment, Follow, Post, User

api = Blueprint("api", __name__)


@api.get("/healthz")
def health():
    return {"status": "ok"}


@api.post("/api/v1/auth/login")
def login():
    user = session.scalar(select(User).where(User.username == required("username")))
    if not password_matches(user, required("password")):
        abort(401, "Wrong username or password.")
    return {"access_token": issue_token(user)}


@api.get("/api/v1/feed")
@signed_in
def feed():
    """The latest 20 posts of the people I follow."""
    newest = (
        select(Post)
        .join(Follow, Follow.followee_id == Post.author_id)
        .where(Follow.follower_id == g.user_id)
        .options(joinedload(Post.author).load_only(User.username))
        .order_by(Post.id.desc())
        .limit(20)
    )
    return {"posts": [written(post) for post in session.scalars(newest)]}


@api.get("/api/v1/posts/<int:post_id>/comments")
@signed_in
def comments(post_id: int):
    """The first 50 comments on a post."""
    thread = (
        select(Comment)
        .where(Comment.post_id == post_id)
        .options(joinedload(Comment.author).load_only(User.username))
        .order_by(Comment.id)
        .limit(50)
    )
    return {"comments": [written(comment) for comment in session.scalars(thread)]}


@api.post("/api/v1/posts/<int:post_id>/comments")
@signed_in
def add_comment(post_id: int):
    content = required("content")
    if session.get(Post, post_id) is None:
        abort(404, "There is no such post.")
    comment = Comment(post_id=post_id, author_id=g.user_id, content=content)
    session.add(comment)
    session.commit()
    return {"id": comment.id}, 201


def written(item: Post | Comment) -> dict:
    return {
        "id": item.id,
        "author": item.author.username,
        "content": item.content,
        "created_at": item.created_at.isoformat(),
    }

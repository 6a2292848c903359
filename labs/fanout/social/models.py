"""What is stored: people, who follows whom, their phones, posts and comments, and what is still to be sent."""

from datetime import datetime
from typing import Annotated

from sqlalchemy import ARRAY, CreateView, DateTime, ForeignKey, Index, Integer, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

Created = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    verified: Mapped[bool] = mapped_column(default=False)


class Follow(Base):
    __tablename__ = "follows"

    followee_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    follower_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True, index=True)


class Device(Base):
    __tablename__ = "devices"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    platform: Mapped[str]
    token: Mapped[str | None] = mapped_column(unique=True)  # null until the phone allows notifications


class Post(Base):
    __tablename__ = "posts"

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    content: Mapped[str]
    created_at: Mapped[Created]

    author: Mapped[User] = relationship()

    __table_args__ = (Index("ix_posts_author_id_newest", author_id, id.desc()),)


class Comment(Base):
    __tablename__ = "comments"

    id: Mapped[int] = mapped_column(primary_key=True)
    post_id: Mapped[int] = mapped_column(ForeignKey("posts.id"), index=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    content: Mapped[str]
    created_at: Mapped[Created]

    author: Mapped[User] = relationship()


class Outbox(Base):
    """Posts whose followers are to be told: a row is written with its post, and goes when the fan-out begins."""

    __tablename__ = "outbox"

    post_id: Mapped[int] = mapped_column(ForeignKey("posts.id", ondelete="CASCADE"), primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)

    post: Mapped[Post] = relationship()


class Fanout(Base):
    """One notification on its way to an author's followers, about one post or about several."""

    __tablename__ = "fanouts"

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    post_id: Mapped[int] = mapped_column(ForeignKey("posts.id", ondelete="CASCADE"), index=True)  # the newest
    title: Mapped[str]
    body: Mapped[str]
    started_at: Mapped[Created]

    __table_args__ = (Index("ix_fanouts_author_id", author_id),)


class Delivery(Base):
    """One chunk of a fan-out: the phones that have still to be called, and who is at it.

    ``state``: "waiting", until ``due_at``; "issued" to a worker; "sending"; "finished". ``issue`` counts how often it
    was issued. Issued or sending, it is overdue at ``due_at`` and may be issued again.
    """

    __tablename__ = "deliveries"

    id: Mapped[int] = mapped_column(primary_key=True)
    fanout_id: Mapped[int] = mapped_column(ForeignKey("fanouts.id", ondelete="CASCADE"), index=True)
    position: Mapped[int] = mapped_column()  # in the fan-out, from 0
    device_ids: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    state: Mapped[str] = mapped_column(default="waiting", server_default="waiting")
    issue: Mapped[int] = mapped_column(default=0, server_default="0")
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    due_at: Mapped[Created]

    fanout: Mapped[Fanout] = relationship()

    __table_args__ = (Index("ix_deliveries_open", position, id, postgresql_where=state != "finished"),)


# Followers of each author as of the last refresh.
follower_counts = CreateView(
    select(Follow.followee_id.label("author_id"), func.count().label("followers")).group_by(Follow.followee_id),
    "follower_counts",
    materialized=True,
    metadata=Base.metadata,
).table
Index("ix_follower_counts_author_id", follower_counts.c.author_id, unique=True)

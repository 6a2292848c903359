"""What is stored: people, who follows whom, their phones, posts and comments."""

from datetime import datetime
from typing import Annotated

from sqlalchemy import CreateView, DateTime, ForeignKey, Index, func, select
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


# Followers of each author as of the last refresh.
follower_counts = CreateView(
    select(Follow.followee_id.label("author_id"), func.count().label("followers")).group_by(Follow.followee_id),
    "follower_counts",
    materialized=True,
    metadata=Base.metadata,
).table
Index("ix_follower_counts_author_id", follower_counts.c.author_id, unique=True)

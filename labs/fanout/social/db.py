"""The connection pool, and the session of the request or task at hand."""

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import scoped_session, sessionmaker

from . import config


def create_pool(application_name: str) -> Engine:
    """Return an engine with a connection pool; pg_stat_activity shows its connections under ``application_name``."""
    return create_engine(
        config.DATABASE_URL,
        pool_size=config.DB_POOL_SIZE,
        max_overflow=config.DB_MAX_OVERFLOW,
        pool_timeout=config.DB_POOL_TIMEOUT,
        connect_args={"application_name": application_name},
    )


engine = create_pool("social-api")

# One session a thread, removed when its request ends. What it has loaded stays readable after a commit.
session = scoped_session(sessionmaker(engine, expire_on_commit=False))

"""The Celery side: background work in processes of its own, each with its own connection pool."""

from celery import Celery
from celery.signals import task_postrun, worker_process_init

from . import config
from .db import create_pool, session


def create_celery() -> Celery:
    """Return the Celery application: Redis as the broker, one queue, no stored results."""
    return Celery(
        "social",
        broker=config.CELERY_BROKER_URL,
        task_default_queue=config.FANOUT_QUEUE,
        task_ignore_result=True,
        broker_connection_retry_on_startup=True,
    )


@worker_process_init.connect
def open_pool(**_) -> None:
    """Connections do not survive a fork: every worker process opens its own."""
    session.configure(bind=create_pool("social-worker"))


@task_postrun.connect
def close_session(**_) -> None:
    session.remove()

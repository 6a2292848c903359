"""A small Celery application as a team might write it, for the tests of the kit.

Its broker is a folder, so that it needs no server.
"""

import os
import time

from celery import Celery
from sqlalchemy import create_engine, text
from sqlalchemy.pool import QueuePool

folder = os.environ.get("CHORES_FOLDER", ".")
celery_app = Celery("chores", broker="filesystem://")
celery_app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/queue",
    "data_folder_out": f"{folder}/queue",
    "control_folder": f"{folder}/control",
    "polling_interval": 0.05,
}
engine = create_engine("sqlite://", poolclass=QueuePool, connect_args={"check_same_thread": False})


@celery_app.task(name="chores.sweep")
def sweep(seconds: float) -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        time.sleep(seconds)

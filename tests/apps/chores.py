"""A small Celery application as a team might write it, for the tests of the kit.

Its broker is a folder, so that it needs no server.
"""

import os
import time
from pathlib import Path

from celery import Celery
from sqlalchemy import create_engine, text
from sqlalchemy.pool import QueuePool

folder = os.environ.get("CHORES_FOLDER", ".")
Path(folder, "queue").mkdir(parents=True, exist_ok=True)
celery_app = Celery("chores", broker="filesystem://")
celery_app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/queue",
    "data_folder_out": f"{folder}/queue",
    "control_folder": f"{folder}/control",
    "polling_interval": 0.05,
}
engine = create_engine("sqlite://", poolclass=QueuePool, connect_args={"check_same_thread": False})


@celery_app.task(name="chores.sweep")
def sweep(together: int) -> None:
    """Sweep once ``together`` workers are sweeping."""
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        Path(folder, f"{os.getpid()}.sweeping").touch()
        until = time.monotonic() + 60
        while len(list(Path(folder).glob("*.sweeping"))) < together and time.monotonic() < until:
            time.sleep(0.01)

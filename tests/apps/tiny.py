"""A small web application as a team might write it, for the tests of the kit."""

import os
import threading
import time

from flask import Flask, jsonify, request
from sqlalchemy import create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

engine = create_engine(
    os.environ.get("DATABASE_URL", "sqlite://"),
    poolclass=QueuePool,
    pool_size=int(os.environ.get("DB_POOL_SIZE", "3")),
    max_overflow=0,
    pool_timeout=float(os.environ.get("DB_POOL_TIMEOUT", "0.5")),
    connect_args={"check_same_thread": False} if os.environ.get("DATABASE_URL", "sqlite").startswith("sqlite") else {},
)
app = Flask(__name__)
released = threading.Event()
meeting = threading.Barrier(int(os.environ.get("MEETING", "2")))


@app.get("/health")
def health():
    return jsonify(status="ok")


@app.get("/read")
def read():
    with engine.connect() as connection:
        return jsonify(one=connection.execute(text("SELECT 1")).scalar_one())


@app.get("/hold")
def hold():
    """Keep a connection until somebody asks for /release."""
    with engine.connect() as connection:
        connection.execute(text("SELECT 2"))
        released.wait(timeout=120)
        return jsonify(status="held")


@app.get("/release")
def release():
    released.set()
    return jsonify(status="ok")


@app.get("/never")
def never():
    """Answer only when somebody asks for /release, without a connection."""
    released.wait(timeout=120)
    return jsonify(status="late")


@app.get("/status/<int:code>")
def status(code: int):
    return jsonify(status=code), code


@app.get("/meet")
def meet():
    """Answer only when as many requests as MEETING are in progress at once."""
    meeting.wait(timeout=30)
    return jsonify(status="met")


@app.get("/many/<int:count>")
def many(count: int):
    with engine.connect() as connection:
        started = time.perf_counter()
        for _ in range(count):
            connection.execute(text("SELECT 1")).scalar_one()
        return jsonify(each=(time.perf_counter() - started) / count)


@app.post("/echo")
def echo():
    return jsonify(request.get_json()), 201


@app.get("/recreate")
def recreate():
    engine.dispose()
    return jsonify(status="ok")


@app.errorhandler(PoolTimeout)
def unavailable(_):
    return jsonify(error="no connection in time"), 503


pushes = {"accepted": 0, "looks": 0}


@app.get("/accept/<int:count>")
def accept(count: int):
    pushes["accepted"] += count
    return jsonify(pushes)


@app.get("/looked")
def looked():
    return jsonify(pushes)


@app.get("/admin/projects/<project>")
def project(project: str):
    pushes["looks"] += 1
    return jsonify(counters={"accepted": pushes["accepted"]})

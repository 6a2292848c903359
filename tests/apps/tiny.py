"""A small web application as a team might write it, for the tests of the kit."""

import os
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


@app.get("/health")
def health():
    return jsonify(status="ok")


@app.get("/read")
def read():
    with engine.connect() as connection:
        return jsonify(one=connection.execute(text("SELECT 1")).scalar_one())


@app.get("/hold/<float:seconds>")
def hold(seconds: float):
    with engine.connect() as connection:
        connection.execute(text("SELECT 2"))
        time.sleep(seconds)
        return jsonify(held=seconds)


@app.get("/sleep/<float:seconds>")
def sleep(seconds: float):
    time.sleep(seconds)
    return jsonify(slept=seconds)


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

"""A small shop as a team might write it, for the tests of the kit: an order is committed, then sent on to a file."""

import os

from flask import Flask, jsonify
from sqlalchemy import create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

engine = create_engine(os.environ["DATABASE_URL"])
app = Flask(__name__)


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    paid: Mapped[bool] = mapped_column(default=False)


@app.post("/orders")
def order():
    with Session(engine) as session:
        session.execute(text("SELECT 1"))
        session.commit()
        placed = Order()
        session.add(placed)
        session.commit()
        send_on(placed.id)
    return jsonify(status="ok")


@app.post("/payments")
def pay():
    with engine.begin() as connection:
        connection.execute(text("UPDATE orders SET paid = true"))
    send_on("paid")
    return jsonify(status="ok")


@app.post("/refusals")
def refuse():
    """Write, take it back, and commit nothing."""
    with Session(engine) as session:
        session.add(Order())
        session.flush()
        session.rollback()
        session.execute(text("SELECT 1"))
        session.commit()
    return jsonify(status="ok")


@app.get("/orders")
def count():
    with Session(engine) as session:
        session.execute(text("SELECT 1"))
        session.commit()
    return jsonify(status="ok")


def send_on(what: object) -> None:
    with open(os.environ["SENT"], "a") as file:
        file.write(f"{what}\n")

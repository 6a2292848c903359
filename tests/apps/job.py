"""A program that asks its database one question and ends."""

from sqlalchemy import create_engine, text
from sqlalchemy.pool import QueuePool

engine = create_engine("sqlite://", poolclass=QueuePool)

if __name__ == "__main__":
    with engine.connect() as connection:
        print(connection.execute(text("SELECT 1")).scalar_one())

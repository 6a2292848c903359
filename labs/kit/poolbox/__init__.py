"""A small pool on the screen, filled by clicking: SQLAlchemy's own QueuePool on a real PostgreSQL."""

from labs.kit.poolbox.borrowers import Borrowers, PoolBoxError
from labs.kit.poolbox.poolbox import PoolBox

__all__ = ["Borrowers", "PoolBox", "PoolBoxError"]

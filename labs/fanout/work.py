"""Questions to take to work, asked here of the workbook's own database."""

from sqlalchemy import NullPool, create_engine, text

from labs import stack
from labs.fanout.knobs import Knobs
from labs.kit.database_checks import Checks, check


def take_to_work() -> Checks:
    """Run the read-only checks on the workbook's own PostgreSQL; ``check(url, services)`` runs them on yours.

    So that there is something to find, one session is left idle in a transaction meanwhile. The services are the
    published ones: a pod with its pool, and the worker with the pool of each of its processes.
    """
    url, knobs = stack.up().postgres.url, Knobs()
    services = {"api": (knobs.pods, knobs.pool_size, 0), "worker": (knobs.workers, knobs.pool_size, 0)}
    careless = create_engine(url, poolclass=NullPool, connect_args={"application_name": "left-open"})
    with careless.connect() as left_open:
        left_open.execute(text("SELECT 1"))
        return check(url, services)

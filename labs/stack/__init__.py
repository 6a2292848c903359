"""The real parts under every lab: PostgreSQL, Redis and the push server.

``up()`` attaches to this workbook's servers and starts them if need be; they stop within seconds of the last process
that uses them. The servers are embedded (no Docker needed), from Compose, or given by URL.
"""

from labs.stack.attach import adopt, current, down, release, reset, up
from labs.stack.model import Service, Stack, StackError

__all__ = ["Service", "Stack", "StackError", "adopt", "current", "down", "release", "reset", "up"]

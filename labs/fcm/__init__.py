"""A stand-in for Firebase Cloud Messaging that official clients cannot tell apart, and whose every habit can be set.

Run it with ``python -m labs.fcm``; steer it with ``Admin``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labs.fcm.admin import Admin
    from labs.fcm.process import Served, serve

__all__ = ["Admin", "Served", "serve"]


def __getattr__(name: str) -> Any:
    # Loaded when asked for: the server itself needs neither, and starts faster without them.
    if name == "Admin":
        from labs.fcm.admin import Admin

        return Admin
    if name in ("Served", "serve"):
        from labs.fcm import process

        return getattr(process, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The social API: people post, follow one another, comment, and hear about new posts on their phones."""

from .app import create_app

__all__ = ["create_app"]

"""Sentences whose figures come from a run."""

from IPython.display import Markdown


def say(text: str) -> Markdown:
    """Return ``text`` as one paragraph of the notebook. Use an f-string, so that a run supplies each figure."""
    return Markdown(" ".join(text.split()))

"""Statements without their values: shape enough to find the code, and nobody's data on the page."""

import re

# What hides data, in one pass, so that a quote in a comment or a dash in a text is read as what it is. A text without
# an end is one that the server has cut off.
_HIDES = re.compile(
    r"""
    (?P<comment>/\*.*?(?:\*/|\Z)|--[^\n]*)
    |(?P<name>"(?:[^"]|"")*(?:"|\Z))
    |(?<!\w)[eE]'(?:\\.|''|[^'\\])*(?:'|\Z)
    |(?:(?<!\w)(?:[bBxXnN]|[uU]&))?'(?:[^']|'')*(?:'|\Z)
    |\$(?P<tag>[A-Za-z_]\w*)\$.*?(?:\$(?P=tag)\$|\Z)
    |\$\$.*?(?:\$\$|\Z)
    |(?<![\w$.])\d[\d_.]*(?:[eE][+-]?\d+)?\b
    """,
    re.VERBOSE | re.DOTALL,
)


def without_values(statement: str | None, longest: int = 120) -> str:
    """Return ``statement`` on one line, its values as ``?``, comments left out, cut at ``longest`` characters."""
    bare = " ".join(_HIDES.sub(_hidden, statement or "").split())
    return bare if len(bare) <= longest else f"{bare[: longest - 1]}…"


def _hidden(found: re.Match[str]) -> str:
    if found["name"]:
        return found["name"]
    return " " if found["comment"] else "?"

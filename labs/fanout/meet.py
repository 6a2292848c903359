"""Meeting the system: its source, its parts, its authors."""

import ast
import inspect
from itertools import pairwise
from types import ModuleType
from typing import Any

from IPython.display import HTML

from labs.fanout import dataset
from labs.fanout.knobs import Knobs
from labs.fanout.steps import hint, step_of
from labs.kit import charts, source
from labs.kit.table import count

STYLE = "max-width:760px;width:100%;color:var(--jp-content-font-color1,#222)"
DESCRIPTION = (
    "Phones send requests to a pod with threads and a pool of connections; the pod talks to PostgreSQL through the"
    " pool, and to the push service once for each follower."
)
TIP = (
    '<defs><marker id="labs-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 8 4 0 8z" fill="currentColor"/></marker></defs>'
)


def show(name: str | None = None, step: int | str = 0):
    """Show the source of a step: one function by ``name``, or the whole module.

    Raises ValueError for a step that does not exist or a function that it does not have, with the list.
    """
    module = step_of(step).load()
    if name is None:
        return source.show(module)
    names = _functions(module)
    if name not in names:
        raise ValueError(f"name must be one of {', '.join(names)} for step {step!r}, not {name!r}.{hint(name, names)}")
    return source.show(getattr(module, name))


def _functions(module: ModuleType) -> list[str]:
    """Return the names of the functions and classes that ``module`` defines itself, from the top."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node.name for node in ast.parse(inspect.getsource(module)).body if isinstance(node, kinds)]


def show_source(thing: Any):
    """Show the source of a function, class or module of the application, as it runs."""
    return source.show(thing)


def diff(before: int | str, after: int | str):
    """Show what changes from one step to another, both as they run."""
    return source.diff(step_of(before).load(), step_of(after).load())


def follower_chart() -> charts.Chart:
    """Draw how many of the authors have how many followers."""
    followers = dataset.follower_counts()
    largest = dataset.PUBLISHED_FOLLOWERS
    edges = (1, 10, 50, 100, 1_000, 10_000, largest)
    bars = {
        f"{count(low)} to {count(high - 1)}": int(((followers >= low) & (followers < high)).sum())
        for low, high in pairwise(edges)
    }
    bars[count(largest)] = int((followers >= edges[-1]).sum())
    few = sum((followers < 50).tolist()) / len(followers)
    return charts.bar_chart(
        bars,
        title=f"{few:.0%} of the {count(len(followers))} authors have fewer than 50 followers, one {count(largest)}",
        x_label="authors with so many followers",
        highlight=[count(largest)],
    )


def diagram() -> HTML:
    """Draw the parts of the system and what each can run out of."""
    knobs = Knobs()
    boxes = [
        _box(10, 70, 120, 60, "phones", "readers, authors"),
        _box(220, 20, 190, 170, "pod", "gunicorn, Flask"),
        _box(240, 72, 70, 96, "threads", f"{knobs.threads}"),
        _box(322, 72, 70, 96, "pool", f"{knobs.pool_size}"),
        _box(540, 20, 150, 60, "PostgreSQL", "users, follows, devices"),
        _box(540, 130, 150, 60, "push service", f"{knobs.fcm_latency_ms:g} ms a call"),
    ]
    arrows = [
        _arrow(130, 100, 220, 100, "requests"),
        _arrow(392, 100, 540, 56, "statements"),
        _arrow(392, 140, 540, 158, "one call a follower"),
    ]
    return HTML(f'<svg viewBox="0 0 700 210" role="img" style="{STYLE}" aria-label="{DESCRIPTION}">{TIP}'
                + "".join(boxes + arrows) + "</svg>")  # fmt: skip


def _box(x: int, y: int, width: int, height: int, name: str, below: str) -> str:
    middle = x + width / 2
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="#0072B2" fill-opacity=".07"'
        ' stroke="currentColor" stroke-opacity=".45"/>'
        f'<text x="{middle}" y="{y + 25}" text-anchor="middle" font-size="14" font-weight="600" fill="currentColor">'
        f'{name}</text><text x="{middle}" y="{y + 43}" text-anchor="middle" font-size="11.5" fill="currentColor"'
        f' fill-opacity=".75">{below}</text>'
    )


def _arrow(x1: int, y1: int, x2: int, y2: int, words: str) -> str:
    middle, height = (x1 + x2) / 2, (y1 + y2) / 2
    return (
        f'<line x1="{x1 + 3}" y1="{y1}" x2="{x2 - 4}" y2="{y2}" stroke="currentColor" stroke-width="1.3"'
        ' marker-end="url(#labs-tip)"/>'
        f'<text x="{middle}" y="{height - 9}" text-anchor="middle" font-size="11.5" fill="currentColor">{words}</text>'
    )

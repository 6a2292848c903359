"""A learner's function as a module of its own, so that the real processes of a system can run it.

The pods are other processes: they import what they run. What the function refers to goes with it: imports as imports,
helpers from the same notebook as source, plain values as they are.
"""

import dis
import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

PLAIN = (bool, int, float, str, bytes, type(None))


class SourceError(ValueError):
    """A function cannot run elsewhere. The message is one sentence."""


def as_module(function: Callable) -> str:
    """Return the source of a module that defines ``function`` under its own name.

    Raises SourceError for a function without source, one without a name, or one that uses what cannot be taken along.
    """
    function = inspect.unwrap(function)
    if not isinstance(function, FunctionType) or function.__name__ == "<lambda>":
        raise SourceError("Write your function with `def`, so that the pods can import it by its name.")
    lines = ["from __future__ import annotations", ""]
    _add(function, lines, set())
    return "\n".join(lines) + "\n"


def _add(function: FunctionType, lines: list[str], known: set[str]) -> None:
    known.add(function.__name__)
    if function.__code__.co_freevars:
        free = ", ".join(function.__code__.co_freevars)
        raise SourceError(f"{function.__name__} uses {free} of the function around it; define it at the top of a cell.")
    for name in dict.fromkeys(_globals_of(function.__code__)):
        if name in function.__globals__ and name not in known:
            known.add(name)
            _add_value(name, function.__globals__[name], function, lines, known)
    try:
        lines.append(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError) as error:
        raise SourceError(f"The source of {function.__name__} cannot be found; run its cell again.") from error


def _add_value(name: str, value: Any, user: FunctionType, lines: list[str], known: set[str]) -> None:
    if isinstance(value, ModuleType):
        lines.append(f"import {value.__name__}" if value.__name__ == name else f"import {value.__name__} as {name}")
    elif isinstance(value, FunctionType) and value.__module__ == user.__module__:
        _add(value, lines, known)
    elif home := _home_of(name, value):
        lines.append(f"from {home[0]} import {home[1]} as {name}")
    elif _is_plain(value):
        lines.append(f"{name} = {value!r}")
    else:
        raise SourceError(f"{user.__name__} uses {name}, which cannot be taken along; define it inside the function.")


def _home_of(name: str, value: Any) -> tuple[str, str] | None:
    """Return from which module, and under which name, ``value`` can be imported."""
    kind = type(value).__module__
    places = [(getattr(value, "__module__", None), getattr(value, "__qualname__", None)), (kind, name),
              (kind.partition(".")[0], name)]  # fmt: skip
    for module, attribute in places:
        if not module or not attribute or module in ("__main__", "builtins"):
            continue
        found = sys.modules.get(module) or importlib.import_module(module)
        if getattr(found, attribute, None) is value:
            return module, attribute
    return None


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, [*value.keys(), *value.values()]))
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(map(_is_plain, value))
    return isinstance(value, PLAIN)


def _globals_of(code: CodeType) -> Iterator[str]:
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield step.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals_of(constant)

"""Showing source: code in a notebook is never a copy, it is read from the package that runs.

    show(step0.create_post)       # highlighted, with its file and first line
    diff(step0, step1)            # what changed, equal parts folded
"""

import difflib
import html
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import labs

CONTEXT = 3
"""Equal lines shown on each side of a change."""

# Two sets of colours: one reads well on white, one on black. JupyterLab, VS Code and plain browsers each say in their
# own way which page this is.
_LIGHT = {"k": "#7B2D8E", "s": "#2E6B1F", "c": "#5F6B76", "n": "#00558F", "d": "#8A4B00", "add": "0,114,178",
          "del": "213,94,0"}
_DARK = {"k": "#D7A6E8", "s": "#A6D68F", "c": "#9AA6B2", "n": "#8EC5E8", "d": "#F0B36B", "add": "86,180,233",
         "del": "240,140,70"}


@dataclass(frozen=True)
class Source:
    """Source with its place: ``path`` relative to the project, ``first`` the number of its first line."""

    code: str
    path: str
    first: int

    @classmethod
    def of(cls, thing: Any) -> Self:
        """Read the source of a module, function, class or method; raises TypeError where there is none in Python."""
        thing = inspect.unwrap(thing) if callable(thing) and not isinstance(thing, type) else thing
        try:
            lines, first = inspect.getsourcelines(thing)
            path = Path(inspect.getsourcefile(thing) or "")
        except (TypeError, OSError):
            kind = type(thing).__name__
            raise TypeError(f"source can be shown of a module, function or class written in Python, not of a {kind}."
                            ) from None
        code = "".join(lines) or path.read_text(encoding="utf-8")
        return cls(textwrap.dedent(code).rstrip("\n"), _short(path), max(first, 1))

    @property
    def place(self) -> str:
        """Where it is: "labs/fanout/step0_as_it_failed.py, line 21"."""
        return self.path if self.first == 1 else f"{self.path}, line {self.first}"

    def __repr__(self) -> str:
        return f"# {self.place}\n{self.code}"

    def _repr_html_(self) -> str:
        lines = "\n".join(_highlighted(self.code))
        return _framed(self.place, f"<pre>{lines}</pre>")


@dataclass(frozen=True)
class Diff:
    """What changes from one source to another. ``before`` and ``after`` are shown whole, equal parts folded."""

    before: Source
    after: Source

    def __repr__(self) -> str:
        lines = difflib.unified_diff(self.before.code.splitlines(), self.after.code.splitlines(), self.before.path,
                                     self.after.path, lineterm="", n=CONTEXT)
        return "\n".join(lines) or f"{self.before.path} and {self.after.path} are equal"

    @property
    def counts(self) -> tuple[int, int]:
        """How many lines were added and removed."""
        signs = [sign for sign, _ in self._lines()]
        return signs.count("+"), signs.count("-")

    def _repr_html_(self) -> str:
        added, removed = self.counts
        title = f"{self.before.path} → {self.after.path}: {added} lines added, {removed} removed"
        if not added and not removed:
            return _framed(title, "<p>They are equal.</p>")
        return _framed(title, "".join(self._html_parts()))

    def _lines(self) -> list[tuple[str, int]]:
        """Each line's sign and its index: in the source before for "-", after for "+" and " "."""
        old, new = self.before.code.splitlines(), self.after.code.splitlines()
        lines: list[tuple[str, int]] = []
        for what, old_from, old_to, new_from, new_to in difflib.SequenceMatcher(None, old, new, False).get_opcodes():
            if what == "equal":
                lines += [(" ", index) for index in range(new_from, new_to)]
            else:
                lines += [("-", index) for index in range(old_from, old_to)]
                lines += [("+", index) for index in range(new_from, new_to)]
        return lines

    def _html_parts(self) -> Iterator[str]:
        lines = self._lines()
        shown = _near_a_change([sign for sign, _ in lines])
        old, new = _highlighted(self.before.code), _highlighted(self.after.code)
        start = 0
        for index in range(1, len(lines) + 1):
            if index < len(lines) and shown[index] == shown[start]:
                continue
            part = [_html_line(sign, (old if sign == "-" else new)[at]) for sign, at in lines[start:index]]
            block = f"<pre>{''.join(part)}</pre>"
            if shown[start]:
                yield block
            else:
                yield f"<details><summary>{len(part)} equal lines</summary>{block}</details>"
            start = index


def show(thing: Any) -> Source:
    """Return the source of a module, function, class or method, to be shown as the cell's result."""
    return Source.of(thing)


def diff(before: Any, after: Any) -> Diff:
    """Return what changes from one module or function to another, to be shown as the cell's result."""
    return Diff(Source.of(before), Source.of(after))


def _short(path: Path) -> str:
    """A path as the reader finds it: relative to the project where it is in it."""
    try:
        return path.resolve().relative_to(labs.PROJECT).as_posix()
    except ValueError:
        return path.name


def _near_a_change(signs: Sequence[str]) -> list[bool]:
    """Which lines are changed or within CONTEXT of a change; a fold of one or two lines is not worth it."""
    changed = [index for index, sign in enumerate(signs) if sign != " "]
    near = [False] * len(signs)
    for index in changed:
        for neighbour in range(max(0, index - CONTEXT), min(len(signs), index + CONTEXT + 1)):
            near[neighbour] = True
    for gap in re.finditer(r"(?<=1)00?(?=1)", "".join("1" if each else "0" for each in near)):
        near[gap.start() : gap.end()] = [True] * (gap.end() - gap.start())
    return near


def _html_line(sign: str, code: str) -> str:
    kind = {"+": "add", "-": "del"}.get(sign)
    said = {"+": "added", "-": "removed"}.get(sign, "")
    marked = f'<span class="l {kind}" title="{said}">' if kind else '<span class="l">'
    # The line break is inside, where it takes no space: without the style sheet the lines are still lines.
    return f"{marked}<i>{html.escape(sign)}</i>{code}\n</span>"


@cache
def _highlighted(code: str) -> tuple[str, ...]:
    """Return ``code`` line by line as HTML, words of the language marked with a class each."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    marked = highlight(code, PythonLexer(stripnl=False, ensurenl=False), HtmlFormatter(nowrap=True, classprefix="t-"))
    return tuple(marked.split("\n")[: code.count("\n") + 1])


def _framed(title: str, body: str) -> str:
    return f'{_STYLE}<div class="labs-source"><div class="place">{html.escape(title)}</div>{body}</div>'


def _rules(scope: str, colours: dict[str, str]) -> str:
    tokens = {"k": "k kn kd kc kr ow", "s": "s s1 s2 sd sa si se mi mf", "c": "c c1 cm ch", "n": "nf fm nc nn nd"}
    rules = [
        ",".join(f"{scope} .t-{token}" for token in names.split()) + f"{{color:{colours[kind]}}}"
        for kind, names in tokens.items()
    ]
    for kind in ("add", "del"):
        paint = f"background:rgba({colours[kind]},.16);box-shadow:inset 3px 0 rgb({colours[kind]})"
        rules.append(f"{scope} .{kind}{{{paint}}}")
    return "".join(rules)


_UNSAID = "body:not([data-jp-theme-light=true]):not(.vscode-light)"  # the page leaves it to the browser

_STYLE = f"""<style>
.labs-source{{color:var(--jp-content-font-color1,inherit);border:1px solid rgba(128,128,128,.35);border-radius:4px;\
max-width:900px;overflow-x:auto;margin:4px 0 8px}}
.labs-source .place{{font:12px var(--jp-content-font-family,system-ui,sans-serif);opacity:.75;padding:5px 12px;\
border-bottom:1px solid rgba(128,128,128,.25)}}
.labs-source pre{{margin:0;padding:6px 12px;background:none;color:inherit;line-height:1.45;\
font:var(--jp-code-font-size,13px)/1.45 var(--jp-code-font-family,ui-monospace,monospace);white-space:pre}}
.labs-source i{{display:inline-block;width:1.6em;padding-left:.5em;font-style:normal;font-weight:700;user-select:none}}
.labs-source .l{{display:block;min-width:max-content;min-height:1.45em}}
.labs-source details{{border-block:1px solid rgba(128,128,128,.25);background:rgba(128,128,128,.06)}}
.labs-source summary{{font:12px var(--jp-content-font-family,system-ui,sans-serif);opacity:.75;padding:3px 12px;\
cursor:pointer}}
{_rules(".labs-source", _LIGHT)}
@media (prefers-color-scheme:dark){{{_rules(_UNSAID + " .labs-source", _DARK)}}}
{_rules("body[data-jp-theme-light=false] .labs-source", _DARK)}{_rules("body.vscode-dark .labs-source", _DARK)}
</style>"""

"""A learner's answer on its way to a grader: is it there at all, and does it come back when it is called?

A stub is recognised before anything runs, so that no outage is replayed for an answer that nobody has given. A
learner's function reaches the grader inside a guard, which keeps its errors apart from the grader's own and stops it
when it takes too long.
"""

import contextlib
import dis
import functools
import inspect
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from types import CodeType, FrameType
from typing import Any, NoReturn

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
_COMMENT = re.compile(r"(--|#)[^\n]*")
# What a body of nothing but `...`, `pass`, a docstring or a `return` of nothing compiles to, in any Python from 3.11.
_EMPTY = {"RESUME", "NOP", "CACHE", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "RETURN_GENERATOR", "POP_TOP",
          "COPY_FREE_VARS", "MAKE_CELL", "CALL_INTRINSIC_1", "RERAISE"}
_RAISES = {"LOAD_GLOBAL", "LOAD_NAME", "PUSH_NULL", "PRECALL", "CALL", "RAISE_VARARGS"}


class YourTurn(Exception):
    """The mark of a place that the learner fills in; use the one instance, ``your_turn``."""

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise self.with_traceback(None)

    def __repr__(self) -> str:
        return "your_turn"


your_turn = YourTurn("This part is yours to write.")
"""Put it where an answer belongs: ``answer = your_turn``, ``return your_turn``, ``raise your_turn`` or call it."""


class Stopped(Exception):
    """The learner's function did not return: ``sentence`` says why, ``error`` is the exception it raised."""

    def __init__(self, sentence: str, error: BaseException) -> None:
        super().__init__(sentence)
        self.sentence, self.error = sentence, error


class NotAnswered(Exception):
    """The answer turned out to be a stub when it ran. The message says what is missing."""


class TooLong(BaseException):
    """Time is up. Not an Exception, so that a learner's ``except Exception`` does not swallow it."""


def missing_in(answer: Any, stub: Any = None) -> str:
    """Return what is missing, in words, when ``answer`` is still a stub; an empty string when it is an answer.

    A stub is None, ``...``, ``your_turn``, text without a word (comments do not count), a function with an empty body
    or with ``your_turn`` left in it, a collection with ``...`` in a place, or whatever equals ``stub``.
    """
    if _is_mark(answer) or answer is None:
        return "there is no answer in its place."
    if isinstance(answer, str):
        return _missing_in_text(answer, stub)
    if isinstance(answer, Mapping):
        return _missing_places({f"{key!s}": value for key, value in answer.items()})
    if isinstance(answer, (list, tuple)):
        return _missing_places({f"place {place}": value for place, value in enumerate(answer, 1)})
    return _missing_in_class(answer) if isinstance(answer, type) else _missing_in_function(answer)


def guarded(answer: Any, limit: float) -> Any:
    """Return ``answer`` as a grader may call it: the same value, or a function that raises Stopped or NotAnswered.

    ``limit``: seconds a call may take. Functions keep their name and source. Values, classes, coroutine functions and
    callable objects, such as a Celery task, are returned as they are.
    """
    plain = inspect.isfunction(answer) or inspect.ismethod(answer) or isinstance(answer, functools.partial)
    if not plain or _code_of(answer) is None or inspect.iscoroutinefunction(answer):
        return answer

    @functools.wraps(answer)
    def call(*values: Any, **named: Any) -> Any:
        try:
            with time_limit(limit):
                result = answer(*values, **named)
                # A generator runs here too: its errors are the learner's, its time is limited.
                result = list(result) if inspect.isgenerator(result) else result
        except (YourTurn, NotImplementedError):
            raise NotAnswered(f"{_name_of(answer)} still says that a part is missing.") from None
        except TooLong as error:
            sentence = f"{_name_of(answer)} was stopped: it had not returned after {limit:g} s."
            raise Stopped(sentence, error) from None
        except (Exception, SystemExit) as error:
            raise Stopped(f"{_name_of(answer)} stopped with {in_one_line(error, answer)}", error) from None
        if _is_mark(result):
            raise NotAnswered(f"{_name_of(answer)} returns {'...' if result is ... else result!r}.")
        return result

    return call


def went_through(error: BaseException, answer: Any) -> bool:
    """Whether ``error`` was raised in the learner's own code, or in something that it called."""
    return _line_in(error, _code_of(answer)) is not None


def in_one_line(error: BaseException, function: Any = None) -> str:
    """Return an exception as one line that is the same every time: its kind, its message, the line in ``function``."""
    lines = str(error).strip().splitlines()
    message = _ADDRESS.sub("0x…", lines[0].strip())[:200] if lines else ""
    line = _line_in(error, _code_of(function))
    place = f" (line {line})" if line else ""
    return f"{type(error).__name__}{': ' if message else ''}{message}{place}"


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TooLong inside the block after ``seconds``, and again each half second if that was swallowed.

    Only the main thread, where notebook cells run, of a system with SIGALRM can be interrupted; elsewhere the block
    runs without a limit. An alarm that was set before keeps its own time, and its right to be first.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    if 0 < left <= seconds:
        yield
        return
    began, before = time.monotonic(), signal.signal(signal.SIGALRM, _time_is_up)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 0.001), interval)


def _time_is_up(_: int, __: FrameType | None) -> NoReturn:
    raise TooLong


def _is_mark(answer: Any) -> bool:
    return answer is ... or isinstance(answer, YourTurn) or answer is YourTurn


def _missing_in_text(answer: str, stub: Any) -> str:
    words = _COMMENT.sub("", answer).strip()
    if not words or words in {"...", "…", "your_turn"}:
        return "the text is still empty."
    return "the text is as you found it." if isinstance(stub, str) and answer.strip() == stub.strip() else ""


def _missing_places(places: Mapping[str, Any]) -> str:
    missing = _marked(places)
    if not places:
        return "the collection is still empty."
    return f"nothing stands for {', '.join(missing)}." if missing else ""


def _marked(places: Mapping[Any, Any]) -> list[str]:
    """The names of the places that hold a mark, those of inner mappings too."""
    missing: list[str] = []
    for name, value in places.items():
        missing += _marked(value) if isinstance(value, Mapping) else [str(name)] if _is_mark(value) else []
    return missing


def _missing_in_function(answer: Any) -> str:
    code = _code_of(answer)
    if code is None:
        return ""
    if "your_turn" in _names_in(code):
        return f"{_name_of(answer)} still says your_turn."
    return f"the body of {_name_of(answer)} is still empty." if _does_nothing(code) else ""


def _missing_in_class(answer: type) -> str:
    for name, method in vars(answer).items():
        code = _code_of(method)
        if code is not None and "your_turn" in _names_in(code):
            return f"{answer.__name__}.{name} still says your_turn."
    return ""


def _code_of(answer: Any) -> CodeType | None:
    """The code of a function or method written in Python, looked up through decorators and partials."""
    while isinstance(answer, functools.partial):
        answer = answer.func
    if not callable(answer):
        return None
    function = inspect.unwrap(answer)
    return getattr(getattr(function, "__func__", function), "__code__", None)


def _names_in(code: CodeType) -> set[str]:
    names = {*code.co_names, *code.co_freevars}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names_in(constant)
    return names


def _does_nothing(code: CodeType) -> bool:
    """Whether the body is empty, or only raises NotImplementedError."""
    steps = list(dis.get_instructions(code))
    raises = code.co_names == ("NotImplementedError",)
    if not all(step.opname in _EMPTY or (raises and step.opname in _RAISES) for step in steps):
        return False
    return raises or all(step.argval in (None, ...) for step in steps if step.opname in {"LOAD_CONST", "RETURN_CONST"})


def _name_of(function: Any) -> str:
    code = _code_of(function)
    name = code.co_name if code else "your function"
    return "your function" if name == "<lambda>" else name


def _line_in(error: BaseException, code: CodeType | None) -> int | None:
    """The last line of the learner's own cell that the error went through, counted from the top of that cell."""
    step, line = error.__traceback__, None
    while step is not None and code is not None:
        running = step.tb_frame.f_code
        # Helpers from the same cell count too, once the answer itself has been entered.
        if running is code or (line is not None and running.co_filename == code.co_filename):
            line = step.tb_lineno
        step = step.tb_next
    return line

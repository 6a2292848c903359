"""Finds the command, sees that it runs in the workbook's own environment, and turns failures into sentences."""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import ModuleType

import labs
from labs.cli import bootstrap

COMMANDS = {
    "start": "set everything up, start the servers, open JupyterLab",
    "stop": "stop everything this workbook has running",
    "status": "what is running, where, and where it comes from",
    "reset": "a clean state within a second: empty database, empty Redis, counters at zero",
    "doctor": "whether this machine has what the workbook needs",
    "test": "run everything that proves the workbook",
    "render": "run the notebooks and save them with their outputs",
    "bench": "measure the workbook against its budgets",
}
INSTALLS = {"start": False, "test": True, "render": True, "bench": True}  # name: with what development needs
NEEDS_PACKAGES = {"stop", "status", "reset"}


def main(arguments: Sequence[str]) -> int:
    """Run the command in ``arguments``; return the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    name = arguments[0] if arguments else ""
    if name in ("--version", "-V"):
        print(labs.__version__)
        return 0
    if name not in COMMANDS:
        return _help(name)
    if os.name == "nt":
        print("The workbook runs on Linux and macOS; on Windows use WSL 2 or `docker compose up`.", file=sys.stderr)
        return 1
    try:
        return _run(name, list(arguments))
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone, as in `labs status | head -1`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (RuntimeError, OSError) as error:
        if not _explains_itself(error):
            raise
        print(error, file=sys.stderr)
    return 1


def _help(name: str) -> int:
    wanted = name in ("-h", "--help", "help")
    out = sys.stdout if wanted else sys.stderr
    if name and not wanted:
        print(f"There is no command {name!r}.\n", file=out)
    print("python3 -m labs COMMAND [--help]\n", file=out)
    for command, what in COMMANDS.items():
        print(f"  {command:<8} {what}", file=out)
    return 0 if wanted else 2


def _run(name: str, arguments: list[str]) -> int:
    module = importlib.import_module(f"labs.cli.{name}")
    parsed = _parser(name, module).parse_args(arguments[1:])
    # A closed terminal and `kill` end a command as Ctrl-C does: with its own clean-up.
    signal.signal(signal.SIGTERM, _interrupt)
    if name in INSTALLS:
        bootstrap.enter(arguments, development=INSTALLS[name])
    elif name in NEEDS_PACKAGES and not bootstrap.enter_if_ready(arguments):
        parsed.nothing_is_set_up = True
    return module.main(parsed)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _parser(name: str, module: ModuleType) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python3 -m labs {name}", description=COMMANDS[name].capitalize() + ".")
    parser.set_defaults(nothing_is_set_up=False)
    module.add_arguments(parser)
    return parser


def _explains_itself(error: Exception) -> bool:
    if isinstance(error, bootstrap.SetUpError | OSError):
        return True  # ours, or the system's own with the file it is about
    from labs.stack.model import StackError

    return isinstance(error, StackError)

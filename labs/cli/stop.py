"""``labs stop``: stop everything this workbook has running."""

import argparse
import contextlib
import os
import signal

import labs

PATIENCE_SECONDS = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`labs stop` takes nothing."""
    del parser


def main(arguments: argparse.Namespace) -> int:
    """Stop JupyterLab and the servers, and wait until they are gone; return 0."""
    if arguments.nothing_is_set_up:
        print("Nothing is running.")
        return 0
    from labs import stack
    from labs.cli.session import Session, follow
    from labs.stack import processes

    home = labs.home()
    follow(home)
    owner, session = Session.owner_of(home), Session.running(home)
    something = bool(owner or session or stack.current())
    if owner is not None:
        # It stops JupyterLab and the servers itself, in order.
        with contextlib.suppress(ProcessLookupError):
            os.kill(owner.pid, signal.SIGTERM)
        processes.end(processes.wait([owner], PATIENCE_SECONDS))
    if session and (left := processes.alive(session.jupyter)):
        processes.end([left])
    stack.down()
    Session.forget(home)
    print("Everything has stopped." if something else "Nothing is running.")
    return 0

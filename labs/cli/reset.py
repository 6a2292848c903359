"""``labs reset``: back to a clean state."""

import argparse
import time

import labs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`labs reset` takes nothing."""
    del parser


def main(arguments: argparse.Namespace) -> int:
    """Empty the database, the Redis database and the push server's counters; return 0."""
    if arguments.nothing_is_set_up:
        print("Nothing has been set up yet; `python3 -m labs start` does it.")
        return 0
    from labs import stack
    from labs.cli.session import follow

    follow(labs.home())
    began = time.monotonic()
    something = stack.current() is not None
    stack.reset(progress=print)
    seconds = time.monotonic() - began
    if something:
        print(f"Clean after {seconds:.1f} s: empty database, empty Redis, push counters at zero.")
    else:
        print("Nothing is running; the old data folder is gone, and the next start begins with a clean one.")
    return 0

"""Sends a number of chores to the task worker and ends."""

import sys

from tests.apps.chores import sweep

if __name__ == "__main__":
    for _ in range(int(sys.argv[1])):
        sweep.delay(int(sys.argv[2]))

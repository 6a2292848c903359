"""A program that starts a daemon of its own, in a session of its own, and stays."""

import os
import sys
import time
from pathlib import Path


def main() -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            # A daemon leads a group of its own, wherever it came from.
            os.setpgid(0, 0)
            Path(sys.argv[1]).write_text(str(os.getpid()))
            time.sleep(600)
        time.sleep(600)
    time.sleep(600)


if __name__ == "__main__":
    main()

"""A program with neither a web framework nor a database: it writes down how it was started, and stays."""

import json
import os
import signal
import sys
import time


def main() -> None:
    told = {
        "name": __name__,
        "argv": sys.argv[1:],
        "mode": os.environ.get("MODE"),
        "pid": os.getpid(),
        "group": os.getpgid(0),
        "handles_child_signals": signal.getsignal(signal.SIGCHLD) not in (signal.SIG_DFL, None),
    }
    print(json.dumps(told))
    match sys.argv[1]:
        case "exit":
            sys.exit(int(sys.argv[2]))
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("ignoring")
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main()

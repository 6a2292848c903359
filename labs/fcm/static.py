"""``python -m labs.fcm.static``: the same HTTP server with nothing behind it, for the benchmark to compare with.

It reads each request's body and answers 200 with a fixed JSON object: what the mock costs beyond that is its own.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from labs.fcm.answers import Answer, accepted

_ANSWER = accepted("projects/static/messages/0:1700000000000000%0000000000000001")


class Static:
    """Answers any request with the same accepted message, at once."""

    def respond(self, request: Any, body: bytes) -> tuple[Answer, float]:
        """Return the answer, and no latency."""
        return _ANSWER, 0.0


def main(arguments: list[str] | None = None) -> int:
    """Run the static server until it is told to stop; return the exit code."""
    from labs.fcm import server

    parser = argparse.ArgumentParser(prog="python -m labs.fcm.static", description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one (0)")
    parser.add_argument("--ready-file", type=Path, help='gets {"url", "pid"} once the server accepts connections')
    given = parser.parse_args(arguments)
    server.run(Static(), given.host, given.port, ready_file=given.ready_file)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m labs.fcm``: run the mock FCM server."""

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run the server until it is told to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m labs.fcm", description="A stand-in for Firebase Cloud Messaging.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one (0)")
    parser.add_argument("--ready-file", type=Path, help='gets {"url", "pid"} once the server accepts connections')
    parser.add_argument("--tls", nargs=2, type=Path, metavar=("CERT", "KEY"), help="serve HTTPS with this PEM pair")
    parser.add_argument(
        "--self-signed",
        type=Path,
        metavar="FOLDER",
        help="serve HTTPS with a new certificate for localhost, written to FOLDER",
    )
    parser.add_argument("--outlive-parent", action="store_true", help="go on when the process that started this ends")
    given = parser.parse_args(arguments)
    return serve(given)


def serve(given: argparse.Namespace) -> int:
    """Serve as the parsed command line says; return the exit code."""
    from labs.fcm import server
    from labs.fcm.app import App

    tls = tuple(given.tls) if given.tls else None
    if given.self_signed:
        from labs.fcm.certificate import self_signed

        tls = self_signed(given.self_signed)
    try:
        server.run(
            App(),
            given.host,
            given.port,
            ready_file=given.ready_file,
            tls=tls,
            outlive_parent=given.outlive_parent,
            on_ready=lambda url: print(f"FCM stand-in at {url}", flush=True),
        )
    except OSError as error:
        print(
            f"The push server cannot listen on {given.host}:{given.port}: {error}. Give another --port, or 0.",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

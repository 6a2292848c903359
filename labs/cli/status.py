"""``labs status``: what is running, where it listens, and where it comes from."""

import argparse
import json
from typing import Any

import labs

NAMES = ("postgres", "redis", "fcm", "jupyter")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `labs status` takes."""
    parser.add_argument("--json", action="store_true", help="one JSON object for programs to read")


def main(arguments: argparse.Namespace) -> int:
    """Print the status; return 0."""
    status = dict.fromkeys(NAMES) if arguments.nothing_is_set_up else look()
    print(json.dumps(status, indent=2) if arguments.json else table(status))
    return 0


def look() -> dict[str, dict[str, Any] | None]:
    """Return url, version, pid and origin of postgres, redis, fcm and jupyter; None for what does not run."""
    from labs import stack
    from labs.cli.session import Session, follow

    follow(labs.home())
    status: dict[str, dict[str, Any] | None] = dict.fromkeys(NAMES)
    running = stack.current()
    for service in running.services if running else ():
        if service.state == "running":
            status[service.name] = _facts(service)
    if session := Session.running(labs.home()):
        status["jupyter"] = _facts(session)
    return status


def table(status: dict[str, dict[str, Any] | None]) -> str:
    """Return ``status`` as lines for people."""
    lines = []
    for name, facts in status.items():
        if facts is None:
            lines.append(f"{name:<9} not running")
            continue
        pid = f"pid {facts['pid']}" if facts["pid"] else "elsewhere"
        lines.append(f"{name:<9} {facts['version']:<8} {pid:<12} {facts['origin']}\n{'':<9} {facts['url']}")
    running = [name for name, facts in status.items() if facts]
    if not running:
        lines.append("`python3 -m labs start` starts everything.")
    elif any(status[name] is None for name in NAMES[:3]):
        lines.append("`python3 -m labs reset` starts a server that has stopped.")
    return "\n".join(lines)


def _facts(of: Any) -> dict[str, Any]:
    return {"url": of.url, "version": of.version, "pid": of.pid, "origin": of.origin}

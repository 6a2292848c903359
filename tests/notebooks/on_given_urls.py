"""Runs notebooks against servers given by URL, as a workshop does: ``python -m tests.notebooks.on_given_urls 00``.

The servers are an embedded stack of another workbook, held for as long as the notebooks run.
"""

import os
import subprocess
import sys
import tempfile

from labs import stack


def main(names: list[str]) -> int:
    """Run ``labs test --services url`` for the notebooks ``names``; return its exit code."""
    with tempfile.TemporaryDirectory(prefix="labs-", dir="/tmp") as home:
        os.environ["LABS_HOME"] = home
        servers = stack.up("embedded")
        given = {
            "LABS_POSTGRES_URL": servers.postgres.url,
            "LABS_REDIS_URL": servers.redis.url,
            "LABS_FCM_URL": servers.fcm.url,
        }
        command = [sys.executable, "-m", "labs", "test", "--services", "url", *names]
        try:
            return subprocess.run(command, env={**os.environ, **given}, check=False).returncode
        finally:
            stack.down()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

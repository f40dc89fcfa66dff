"""Serve with and without a key, and let drive.py ask: ``python tests/clients PYTHON``.

PYTHON is the interpreter of the clients' environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def drive(python: str, key: str) -> int:
    """Return how many clients failed; an empty key serves without one."""
    options = ["--api-key", key] if key else []
    command = [sys.executable, "-m", "rerank_plugins.cli", "serve", "--port", "0", "--quiet"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            url = next(line.split()[-1] for line in server.stderr if line.startswith("listening"))
            ready = ["curl", "-sf", "--retry", "60", "--retry-delay", "1", "--retry-all-errors"]
            subprocess.run([*ready, "-o", os.devnull, f"{url}/ready"], check=True)
            sent = key or "unused"
            return subprocess.run([python, HERE / "drive.py", url, sent], check=False).returncode
        finally:
            server.terminate()


if __name__ == "__main__":
    failed = drive(sys.argv[1], "a-key") + drive(sys.argv[1], "")
    sys.exit(min(failed, 1))

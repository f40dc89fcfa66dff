"""Runs a program that starts Ray where nothing but itself can reach what Ray opens.

Ray listens on all addresses, so each run gets network and processes of its own: only loopback is
there, and everything that was started ends with the program.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
_ALONE = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]


def permitted() -> bool:
    """Say whether this user may have namespaces with loopback up."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        return False
    command = [*_ALONE, "ip", "link", "set", "lo", "up"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def started(job: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a job of ``ray_jobs.py``; it and all of Ray are gone at the end of the block."""
    # Ray's sockets are under its folder, and their paths may have about 100 characters.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as home:
        environment = {
            **os.environ,
            "HOME": home,
            "RAY_TMPDIR": home,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        }
        script = 'ip link set lo up && exec "$@"'
        command = [sys.executable, str(ROOT / "tests" / "ray_jobs.py"), job, str(folder)]
        with (folder / f"{job}.log").open("w") as log:
            process = subprocess.Popen(
                [*_ALONE, "sh", "-c", script, "sh", *command],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()


def result(job: str, folder: Path) -> Any:
    """Run a job to its end and return what it wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    with started(job, folder) as process:
        code = process.wait()
    assert code == 0, (folder / f"{job}.log").read_text()[-6000:]
    return json.loads((folder / f"{job}.json").read_text())

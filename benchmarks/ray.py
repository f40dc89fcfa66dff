"""Ray against one process, in CPU and rows a second: ``python -m benchmarks.ray``.

Each job is a process in namespaces of its own, with loopback alone, since Ray listens on every
address. Its CPU is that of all processes in there, Ray's own among them. Needs the extra ``ray``,
psutil, and Linux's ``unshare``. Writes ``benchmarks/results/ray.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.environment import RESULTS, environment
from rerank_plugins.dataset import Columns, rerank_rows
from rerank_plugins.dataset_files import rows_of
from rerank_plugins.registry import shared_scorer
from rerank_plugins.workloads import Texts, Workload

ROOT = Path(__file__).parent.parent
N_ROWS = 16_384
N_FEW = 512  # what a job of no size costs
# Job, workers, rows a block.
JOBS = (
    ("one process", 1, 4096),
    ("rerank_files", 1, 4096),
    ("rerank_files", 2, 4096),
    ("rerank_dataset", 1, 512),
    ("rerank_dataset", 1, 4096),
    ("rerank_dataset", 1, 16_384),
    ("rerank_dataset", 2, 4096),
)
_ALONE = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=N_ROWS)
    parser.add_argument("--output", type=Path, default=RESULTS / "ray.json")
    parser.add_argument("--job", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        name, workers, rows_per_block, folder = arguments.job
        print(json.dumps(done(name, int(workers), int(rows_per_block), Path(folder))))
        return
    load = [os.getloadavg()[0]]
    jobs = []
    for n_rows in (N_FEW, arguments.rows):
        with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
            write_pairs(Path(folder) / "pairs.parquet", n_rows)
            for name, workers, rows_per_block in JOBS:
                if n_rows == N_FEW and name == "rerank_dataset" and rows_per_block != 4096:
                    continue
                jobs.append(alone(name, workers, rows_per_block, folder))
                print(jobs[-1], file=sys.stderr)
    result = {
        "environment": environment(),
        "ray": version("ray"),
        "load_average": [*load, os.getloadavg()[0]],
        "jobs": jobs,
    }
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def write_pairs(path: Path, n_rows: int) -> None:
    import pyarrow
    import pyarrow.parquet

    calls = Texts(7).calls(Workload(name="ray", n_queries=-(-n_rows // 100), n_candidates=100))
    rows = [(query, passage) for query, passages in calls for passage in passages][:n_rows]
    queries, passages = zip(*rows, strict=True)
    table = pyarrow.table({"id": range(n_rows), "query": queries, "passage": passages})
    pyarrow.parquet.write_table(table, path, row_group_size=4096)


def alone(name: str, workers: int, rows_per_block: int, folder: str) -> dict[str, Any]:
    """Run one job in a process and namespaces of its own."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as home:
        job = [name, str(workers), str(rows_per_block), folder]
        own = {"HOME": home, "RAY_TMPDIR": home, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        ray = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
        command = [sys.executable, "-m", "benchmarks.ray", "--job", *job]
        answer = subprocess.run(
            [*_ALONE, "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command],
            cwd=ROOT,
            env={**os.environ, **own, **ray},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def done(name: str, workers: int, rows_per_block: int, folder: Path) -> dict[str, Any]:
    """Do a job; return its wall seconds and CPU seconds, importing and loading among them."""
    import psutil

    begin = time.perf_counter()
    pairs, output = folder / "pairs.parquet", Path(tempfile.mkdtemp(dir=folder))
    rows = rows_of([pairs], Columns())
    if name == "one process":
        rerank_rows(shared_scorer("embedded", device="cpu"), rows, output)
    else:
        _on_ray(name, workers, rows_per_block, pairs, output)
    wall_s = time.perf_counter() - begin
    # A process that was waited for is in its parent's figures.
    times = [process.cpu_times() for process in psutil.process_iter()]
    own = psutil.Process().cpu_times()
    return {
        "job": name,
        "workers": workers,
        "rows_per_block": rows_per_block,
        "n_rows": rows.n_rows,
        "wall_s": wall_s,
        "cpu_s": sum(map(_seconds, times)),
        "driver_cpu_s": own.user + own.system,
    }


def _on_ray(name: str, workers: int, rows_per_block: int, pairs: Path, output: Path) -> None:
    import ray

    from rerank_plugins.ray import Workers, rerank_dataset, rerank_files

    ray.init(
        num_cpus=workers + 1,
        object_store_memory=150 * 2**20,
        include_dashboard=False,
        _node_ip_address="127.0.0.2",
        log_to_driver=False,
    )
    if name == "rerank_files":
        rerank_files([pairs], output, "embedded", workers=Workers(n=workers))
        return
    scored = rerank_dataset(
        ray.data.read_parquet(str(pairs)),
        "embedded",
        keep=["id"],
        workers=Workers(n=workers),
        rows_per_block=rows_per_block,
    )
    scored.write_parquet(str(output))


def _seconds(times: Any) -> float:
    return float(times.user + times.system + times.children_user + times.children_system)


if __name__ == "__main__":
    main()

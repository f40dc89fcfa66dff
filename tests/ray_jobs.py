"""What the tests run on Ray, each job a process in namespaces of its own: ``ray_namespace.py``."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow
import pyarrow.parquet
import ray
from evaluation_files import many_queries
from ray import serve
from ray.cluster_utils import Cluster

from rerank_plugins.cli import main
from rerank_plugins.dataset import Columns, rerank_rows
from rerank_plugins.dataset_files import JsonLines, RunRows
from rerank_plugins.errors import RerankError
from rerank_plugins.ray import Workers, rerank_dataset, rerank_files, serve_app
from rerank_plugins.registry import shared_scorer
from rerank_plugins.serving import ServerOptions

N_ROWS = 4096 * 4 + 100
ADDRESS = "127.0.0.2"


def start(n_cpus: int = 3) -> None:
    ray.init(
        num_cpus=n_cpus,
        object_store_memory=150 * 2**20,
        include_dashboard=False,
        _node_ip_address=ADDRESS,
    )


def row(index: int) -> dict[str, Any]:
    passage = f"a red word{index % 5} of {index}" if index != 5 else None
    return {"id": index, "query": f"word{index % 7} red", "passage": passage}


def pairs(folder: Path, n_rows: int = N_ROWS) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row(index)) + "\n" for index in range(n_rows)))
    return path


def message(call: Callable[[], Any]) -> str:
    try:
        call()
    except RerankError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def files(folder: Path) -> dict[str, Any]:
    """Score files with two workers, then with what must be refused."""
    start()
    path, one, two = pairs(folder, 4096 + 100), Workers(n=1), Workers(n=2)
    summary = rerank_files([path], folder / "ray", "embedded", workers=two)
    rerank_rows(
        shared_scorer("embedded", device="cpu"), JsonLines([path], Columns()), folder / "here"
    )
    bad = folder / "bad.jsonl"
    bad.write_text('{"query": "a", "passage": "b"}\n{"query": "a"}\n')
    return {
        "summary": [summary.n_rows, summary.n_earlier, summary.n_without_text],
        "other length": message(
            lambda: rerank_files([path], folder / "ray", "embedded", workers=one, max_length=9)
        ),
        "bad row": message(lambda: rerank_files([bad], folder / "bad", "embedded", workers=one)),
        "all CPUs": message(
            lambda: rerank_files([path], folder / "x", "embedded", workers=Workers(n=3))
        ),
        "no model": message(
            lambda: rerank_files([path], folder / "y", str(folder / "none"), workers=one)
        ),
    }


def tables(folder: Path) -> dict[str, Any]:
    """Score Ray datasets: many small files, and queries with all their passages."""
    start()
    (folder / "small").mkdir()
    for index in range(16):
        rows = [row(100 * index + offset) for offset in range(100)]
        table = pyarrow.Table.from_pylist(rows)
        pyarrow.parquet.write_table(table, folder / "small" / f"{index}.parquet")
    small = ray.data.read_parquet(str(folder / "small"))
    scored = rerank_dataset(
        small, "embedded", keep=["id"], workers=Workers(n=2), rows_per_block=512
    ).materialize()
    grouped = pyarrow.table(
        {"query": ["red", "blue"], "passage": [["a red bird", None], ["the sky", "a", "blue"]]}
    )
    lists = rerank_dataset(ray.data.from_arrow(grouped), "embedded", workers=Workers(n=1))
    return {
        "blocks": scored.num_blocks(),
        "rows": scored.take_all(),
        "lists": lists.take_all(),
        "no column": message(lambda: rerank_dataset(small, columns=Columns(query="q"))),
        "odd block": message(lambda: rerank_dataset(small, rows_per_block=100)),
        "odd option": message(lambda: rerank_dataset(small, devise="cpu")),
    }


def killed_worker(folder: Path) -> dict[str, Any]:
    """Kill one of two workers when the first block is done."""
    start()
    path, killed = pairs(folder), list[int]()

    def kill() -> None:
        while not list((folder / "ray").glob("part-*")):
            time.sleep(0.01)
        killed.append(pids("MapWorker")[0])
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    summary = rerank_files([path], folder / "ray", "embedded", workers=Workers(n=2))
    return {"killed": len(killed), "rows": summary.n_rows}


def lost_node(folder: Path) -> dict[str, Any]:
    """Lose one of the two machines that have workers when the first block is done."""
    own = {"node_ip_address": ADDRESS, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, **own})
    nodes = [cluster.add_node(num_cpus=1, resources={"scorer": 1}, **own) for _ in range(2)]
    ray.init(address=cluster.address)
    path, n_workers = pairs(folder), list[int]()

    def lose() -> None:
        while not list((folder / "ray").glob("part-*")) or len(pids("MapWorker")) < 2:
            time.sleep(0.01)
        n_workers.append(len(pids("MapWorker")))
        cluster.remove_node(nodes[0], allow_graceful=False)

    thread = threading.Thread(target=lose, daemon=True)
    thread.start()
    workers = Workers(n=2, options={"resources": {"scorer": 1}})
    summary = rerank_files([path], folder / "ray", "embedded", workers=workers)
    return {"rows": summary.n_rows, "workers": n_workers}


def command(folder: Path) -> dict[str, Any]:
    """Score a run with its texts by the command, two blocks of it by two workers."""
    start()
    n_queries, depth = 43, 100
    collection = many_queries(folder, n_queries=n_queries, n_candidates=depth)
    words = [f"--{name}={folder / name}" for name in ("run", "corpus", "queries")]
    words = ["rerank-dataset", *words, "--engine", "ray", "--workers", "2"]
    code = main([*words, "-o", str(folder / "ray")])
    rows = RunRows(folder / "run", folder / "corpus", folder / "queries", depth, Columns())
    rerank_rows(shared_scorer("embedded", device="cpu"), rows, folder / "here")
    return {"code": code, "n_rows": collection.check()}


def served(folder: Path) -> dict[str, Any]:
    """Ask two replicas with a key over HTTP, and again after one of them was killed."""
    start()
    serve.start(http_options={"host": ADDRESS, "port": 8000})
    app = serve_app("embedded", replicas=2, options=ServerOptions(api_key=("a-key",)))
    serve.run(app, name="rerank", route_prefix="/")
    body = {"query": "red", "documents": ["a red word", "a stone", "a bird"]}
    key = {"authorization": "Bearer a-key"}
    with httpx.Client(base_url=f"http://{ADDRESS}:8000", timeout=300) as client:
        answer = client.post("/v1/rerank", json=body, headers=key)
        stranger = client.post("/v1/rerank", json=body)
        health = client.get("/health", headers=key)
        os.kill(pids("ServeReplica")[0], signal.SIGKILL)
        later: list[int | str] = []
        while 200 not in later:  # those that it held fail; the client asks again
            try:
                later.append(client.post("/v1/rerank", json=body, headers=key).status_code)
            except httpx.HTTPError as error:
                later.append(type(error).__name__)
    serve.shutdown()
    return {
        "answer": [answer.status_code, answer.json()],
        "stranger": stranger.status_code,
        "health": health.json(),
        "later": later[-1],
    }


def pids(name: str) -> list[int]:
    """Return the processes whose command line has a name of Ray's."""
    return [each.pid for each in psutil.process_iter() if name in "".join(each.cmdline())]


def driver(folder: Path) -> dict[str, Any]:
    """Score files; the test kills this process, and starts it again."""
    start()
    path = folder / "pairs.jsonl"
    summary = rerank_files([path], folder / "ray", "embedded", workers=Workers(n=1))
    return {"rows": summary.n_rows, "earlier": summary.n_earlier}


if __name__ == "__main__":
    job, where = globals()[sys.argv[1]], Path(sys.argv[2])
    (where / f"{sys.argv[1]}.json").write_text(json.dumps(job(where)))
    os._exit(0)  # Ray's own end fails where a machine was lost; all of it ends with this process

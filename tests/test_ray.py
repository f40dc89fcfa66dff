"""Bulk reranking on Ray: rows in equal rows out, whatever dies meanwhile."""

from __future__ import annotations

import json
import math
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import ray_namespace

from rerank_plugins.dataset import Columns, rerank_rows
from rerank_plugins.dataset_files import JsonLines
from rerank_plugins.registry import shared_scorer

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ray_namespace.permitted(), reason="no network namespaces here"),
]


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("part-*")}


def scored_here(folder: Path, path: Path) -> dict[str, bytes]:
    rows = JsonLines([path], Columns())
    rerank_rows(shared_scorer("embedded", device="cpu"), rows, folder / "here")
    return parts(folder / "here")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("files")
    return folder, ray_namespace.result("files", folder)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return ray_namespace.result("tables", tmp_path_factory.mktemp("tables"))


def test_workers_write_the_files_that_one_process_writes(files: tuple[Path, Any]) -> None:
    folder, found = files
    assert found["summary"] == [4196, 0, 1]
    assert len(parts(folder / "here")) == 2
    assert parts(folder / "ray") == parts(folder / "here")
    name = "_manifest.json"
    assert (folder / "ray" / name).read_text() == (folder / "here" / name).read_text()
    assert not list(folder.rglob("*.partial"))


def test_the_command_writes_the_files_that_one_process_writes(tmp_path: Path) -> None:
    found = ray_namespace.result("command", tmp_path)
    assert found == {"code": 0, "n_rows": 4300}
    assert len(parts(tmp_path / "here")) == 2
    assert parts(tmp_path / "ray") == parts(tmp_path / "here")


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("other length", "DataFormatError: * max_length was 512 and is 9*--restart*"),
        ("bad row", 'DataFormatError: *bad.jsonl:2: "passage" is missing*'),
        ("all CPUs", "InvalidArgumentError: 3 workers * none of Ray's 3 CPUs *at most 2 fit*"),
        ("no model", "ModelLoadError: *none*"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    files: tuple[Path, Any], case: str, expected: str
) -> None:
    assert fnmatch(files[1][case], expected), files[1][case]


def test_small_parquet_files_are_cut_into_blocks_for_all_workers(tables: Any) -> None:
    assert tables["blocks"] == 4  # 1,600 rows, 512 a block; Ray reads one block
    assert {row["id"] for row in tables["rows"]} == set(range(1600))
    scores = {row["id"]: row["relevance_score"] for row in tables["rows"]}
    assert [index for index, score in scores.items() if score is None] == [5]
    texts = [f"a red word{index % 5} of {index}" for index in range(7, 1600, 7)]
    expected = shared_scorer("embedded", device="cpu").score("word0 red", texts)
    found = [scores[index] for index in range(7, 1600, 7)]
    assert found == pytest.approx(expected, abs=1e-5)


def test_queries_with_their_passages_get_lists_of_scores(tables: Any) -> None:
    by_query = {row["query"]: row["relevance_score"] for row in tables["lists"]}
    assert by_query["red"][1] is None
    assert len(by_query["blue"]) == 3
    expected = shared_scorer("embedded", device="cpu").score("red", ["a red bird"])
    assert by_query["red"][:1] == pytest.approx(expected, abs=1e-5)


def test_a_dataset_that_cannot_be_scored_is_refused_before_a_worker_starts(tables: Any) -> None:
    assert "no column 'q'; the columns: id, query, passage" in tables["no column"]
    assert "multiple of 512, got 100" in tables["odd block"]
    assert "did you mean 'device'" in tables["odd option"]


def test_a_killed_worker_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    found = ray_namespace.result("killed_worker", tmp_path)
    assert found["killed"] == 1
    assert parts(tmp_path / "ray") == scored_here(tmp_path, tmp_path / "pairs.jsonl")


def test_a_lost_machine_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    found = ray_namespace.result("lost_node", tmp_path)
    assert found["workers"] == [2]
    assert parts(tmp_path / "ray") == scored_here(tmp_path, tmp_path / "pairs.jsonl")


def test_a_killed_job_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"id": index, "query": "red", "passage": f"word{index}"} for index in range(4096 * 4 + 1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with ray_namespace.started("driver", tmp_path) as job:
        while not parts(tmp_path / "ray") and job.poll() is None:
            time.sleep(0.01)
        assert job.poll() is None, (tmp_path / "driver.log").read_text()
    before = parts(tmp_path / "ray")
    found = ray_namespace.result("driver", tmp_path)
    assert found["rows"] == len(rows)
    assert 4096 * len(before) <= found["earlier"] < len(rows)
    assert parts(tmp_path / "ray") == scored_here(tmp_path, path)


def test_replicas_answer_as_the_server_does_and_one_may_be_killed(tmp_path: Path) -> None:
    found = ray_namespace.result("served", tmp_path)
    status, answer = found["answer"]
    assert status == 200
    passages = ["a red word", "a stone", "a bird"]
    scores = shared_scorer("embedded", device="cpu").score("red", passages)
    by_index = {row["index"]: row["relevance_score"] for row in answer["results"]}
    expected = [1 / (1 + math.exp(-score)) for score in scores]
    assert [by_index[index] for index in range(3)] == pytest.approx(expected, abs=1e-5)
    assert found["stranger"] == 401
    assert found["health"]["status"] == "ok"
    assert found["later"] == 200

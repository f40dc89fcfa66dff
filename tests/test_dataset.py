"""Many pairs from files into files: the same bytes at once, in shards, and when interrupted."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from evaluation_files import RUN, Overlap, write_files

from rerank_plugins import dataset, dataset_files
from rerank_plugins.cli import main
from rerank_plugins.dataset import Columns, rerank_rows
from rerank_plugins.dataset_files import JsonLines
from rerank_plugins.errors import DataFormatError
from rerank_plugins.shards import Shard

N_ROWS = 23


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "ROWS_PER_BLOCK", 4)


def pairs(folder: Path) -> JsonLines:
    paths = [folder / "a.jsonl", folder / "b.jsonl"]
    lines = [
        json.dumps({"id": i, "query": f"word{i % 3} red", "passage": f"a red word{i % 5}"}) + "\n"
        for i in range(N_ROWS)
    ]
    paths[0].write_text("".join(lines[:9]) + "\n")
    paths[1].write_text("\ufeff" + "".join(lines[9:]), encoding="utf-8")
    return JsonLines(paths, Columns())


def written(folder: Path) -> bytes:
    parts = sorted(folder.rglob("part-*"), key=lambda path: path.name)
    return b"".join(path.read_bytes() for path in parts)


def rows_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written(folder).splitlines()]


def test_every_row_has_its_score_and_its_ids(tmp_path: Path) -> None:
    summary = rerank_rows(Overlap(), pairs(tmp_path), tmp_path / "out")
    assert (summary.n_rows, summary.n_earlier, summary.n_without_text) == (N_ROWS, 0, 0)
    expected = [{"id": i, "relevance_score": 1.0 + (i % 3 == i % 5)} for i in range(N_ROWS)]
    assert rows_in(tmp_path / "out") == expected


@pytest.mark.parametrize("count", [2, 3, 7])
def test_shards_concatenate_to_what_one_process_writes(tmp_path: Path, count: int) -> None:
    rows = pairs(tmp_path)
    rerank_rows(Overlap(), rows, tmp_path / "one")
    for index in range(1, count + 1):
        rerank_rows(Overlap(), rows, tmp_path / "many", shard=Shard(index, count))
    assert written(tmp_path / "many") == written(tmp_path / "one")


def test_interrupted_it_goes_on_and_scores_nothing_twice(tmp_path: Path) -> None:
    class Stopped(Overlap):
        def score(self, query: str, passages: Sequence[str]) -> list[float]:
            if len(self.asked) == 10:
                raise KeyboardInterrupt
            return super().score(query, passages)

    rows = pairs(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        rerank_rows(Stopped(), rows, tmp_path / "out")
    n_before = len(rows_in(tmp_path / "out"))
    assert 0 < n_before < N_ROWS
    summary = rerank_rows(Overlap(), rows, tmp_path / "out")
    assert (summary.n_rows, summary.n_earlier) == (N_ROWS, n_before)
    rerank_rows(Overlap(), rows, tmp_path / "once")
    assert written(tmp_path / "out") == written(tmp_path / "once")
    assert not [path for path in (tmp_path / "out").iterdir() if "partial" in path.name]


def test_going_on_under_another_setting_is_refused_by_name(tmp_path: Path) -> None:
    rows = pairs(tmp_path)
    rerank_rows(Overlap(), rows, tmp_path / "out")
    with pytest.raises(DataFormatError, match=r"model was 'overlap' and is 'other'.*--restart"):
        rerank_rows(Overlap(model="other"), rows, tmp_path / "out")
    rerank_rows(Overlap(model="other"), rows, tmp_path / "out", restart=True)
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    assert manifest["model"] == "other"
    assert manifest["versions"]["rerank_plugins"]


@pytest.mark.parametrize("fault", ["weights", "text"])
def test_what_changed_under_its_name_is_refused_too(tmp_path: Path, fault: str) -> None:
    class Retrained(Overlap):
        def score(self, query: str, passages: Sequence[str]) -> list[float]:
            return [score + 1.0 for score in super().score(query, passages)]

    rerank_rows(Overlap(), pairs(tmp_path), tmp_path / "out")
    before = written(tmp_path / "out")
    rows = pairs(tmp_path)
    if fault == "text":
        path = tmp_path / "a.jsonl"
        path.write_text(path.read_text().replace("red", "RED"))
    with pytest.raises(DataFormatError, match="probe was" if fault == "weights" else "input was"):
        rerank_rows(Retrained() if fault == "weights" else Overlap(), rows, tmp_path / "out")
    assert written(tmp_path / "out") == before


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    rerank_rows(Overlap(), pairs(tmp_path), tmp_path / "out")
    (tmp_path / "out" / "_manifest.json").write_bytes(b'{"model": \xff')
    with pytest.raises(DataFormatError, match=r"_manifest\.json is damaged"):
        rerank_rows(Overlap(), pairs(tmp_path), tmp_path / "out")


_KILLED = """
import os, signal, sys
from pathlib import Path
from evaluation_files import Overlap
from rerank_plugins import dataset
from rerank_plugins.dataset_files import JsonLines
folder, place, countdown = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
dataset.ROWS_PER_BLOCK = 4
def counted(function, before):
    def call(*args):
        global countdown
        countdown -= 1
        if countdown < 0 and before:
            os.kill(os.getpid(), signal.SIGKILL)
        found = function(*args)
        if countdown < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    return call
scorer = Overlap()
if place == "score":
    scorer.score = counted(scorer.score, True)
else:
    os.replace = counted(os.replace, place == "before")
rows = JsonLines([folder / "a.jsonl", folder / "b.jsonl"], dataset.Columns())
dataset.rerank_rows(scorer, rows, folder / "out")
"""


@pytest.mark.parametrize(
    ("place", "countdown"), [("score", 5), ("before", 0), ("before", 2), ("after", 0), ("after", 3)]
)
def test_a_killed_process_is_gone_on_with(tmp_path: Path, place: str, countdown: int) -> None:
    rows = pairs(tmp_path)
    command = [sys.executable, "-c", _KILLED, str(tmp_path), place, str(countdown)]
    path = [str(Path(__file__).parent), *sys.path]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(path)})
    assert killed.returncode == -signal.SIGKILL
    rerank_rows(Overlap(), rows, tmp_path / "out")
    rerank_rows(Overlap(), rows, tmp_path / "once")
    assert written(tmp_path / "out") == written(tmp_path / "once")
    assert not [path for path in (tmp_path / "out").iterdir() if "partial" in path.name]


def test_a_row_without_text_has_no_score_and_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"query": "red", "passage": null, "id": 1}\n{"query": "a", "passage": "a"}\n')
    summary = rerank_rows(Overlap(), JsonLines([path], Columns()), tmp_path / "out")
    assert summary.n_without_text == 1
    assert rows_in(tmp_path / "out") == [
        {"id": 1, "relevance_score": None},
        {"relevance_score": 1.0},
    ]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_any_span_of_rows_can_be_read_in_any_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(dataset_files, "_ROWS_PER_MARK", 3)
    texts = {
        f"{i}{suffix}": "".join(
            f'{{"query": "q", "passage": "p", "id": {10 * i + j}}}\n\n' * (j < 7)
            for j in range(i * 4)
        )
        for i in range(3)
    }
    paths = []
    for name, text in texts.items():
        paths.append(tmp_path / name)
        raw = ("\ufeff" + text).encode()
        paths[-1].write_bytes(gzip.compress(raw) if suffix.endswith("gz") else raw)
    rows = JsonLines(paths, Columns())
    expected = [10, 11, 12, 13, *range(20, 27)]
    assert rows.n_rows == len(expected)
    again = pickle.loads(pickle.dumps(rows))
    for start in range(len(expected)):
        for end in range(start, len(expected) + 1):
            assert [row["id"] for row in again.read(start, end)] == expected[start:end]


def test_a_row_without_its_columns_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"query": "red", "passage": "a"}\n{"query": "a"}\n')
    rows = JsonLines([tmp_path / "a.jsonl"], Columns())
    with pytest.raises(DataFormatError, match=r'a\.jsonl:2: "passage" is missing'):
        rerank_rows(Overlap(), rows, tmp_path / "out")


def test_the_command_scores_a_run_with_its_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write_files(tmp_path)
    words = [f"--{name}={files[name]}" for name in ("run", "corpus", "queries")]
    assert main(["rerank-dataset", *words, "-o", str(tmp_path / "out")]) == 0
    assert "9 rows in" in capsys.readouterr().err
    found = rows_in(tmp_path / "out")
    ids = [(line.split()[0], line.split()[2]) for line in RUN.splitlines()]
    assert {(row["query_id"], row["doc_id"]) for row in found} == set(ids)
    assert all(isinstance(row["relevance_score"], float) for row in found)
    assert main(["rerank-dataset", *words, "-o", str(tmp_path / "out")]) == 0
    assert "9 of them by an earlier run" in capsys.readouterr().err
    assert main(["rerank-dataset", "--run", "x", "-o", str(tmp_path / "out")]) == 1
    assert "--corpus, --queries missing" in capsys.readouterr().err
    assert main(["rerank-dataset", *words, "--workers", "2", "-o", str(tmp_path / "x")]) == 1
    assert "--workers needs --engine ray" in capsys.readouterr().err


def test_parquet_gives_the_same_scores(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    from rerank_plugins.dataset_files import rows_of

    rows = pairs(tmp_path)
    rerank_rows(Overlap(), rows, tmp_path / "lines")
    table = pyarrow.Table.from_pylist(list(rows.read(0, N_ROWS)))
    parquet.write_table(table, tmp_path / "p.parquet", row_group_size=5)
    rerank_rows(Overlap(), rows_of([tmp_path / "p.parquet"], Columns()), tmp_path / "out")
    parts = sorted((tmp_path / "out").glob("part-*.parquet"))
    found = [row for part in parts for row in parquet.read_table(part).to_pylist()]
    assert found == rows_in(tmp_path / "lines")

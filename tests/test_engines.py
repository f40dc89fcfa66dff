"""The programs for other engines give the scores of one process, each run as its file says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rerank_plugins import shared_scorer

ROOT = Path(__file__).parent.parent
N_ROWS = 40


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "output"), [("dask", "scores"), ("datasets", "scores.parquet")])
def test_an_engine_gives_each_row_its_score(tmp_path: Path, engine: str, output: str) -> None:
    pytest.importorskip(engine)
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    passages = [f"a red word{index}" for index in range(N_ROWS)]
    pairs = {"id": range(N_ROWS), "query": ["red"] * N_ROWS, "passage": passages}
    table = pyarrow.table({name: list(column) for name, column in pairs.items()})
    parquet.write_table(table, tmp_path / "pairs.parquet")
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"scale_{engine}.py"), "pairs.parquet", output],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    rows = parquet.read_table(tmp_path / output).to_pylist()
    assert sorted(row["id"] for row in rows) == list(range(N_ROWS))
    expected = shared_scorer("embedded", device="cpu").score("red", passages)
    by_id = {row["id"]: row["relevance_score"] for row in rows}
    assert [by_id[index] for index in range(N_ROWS)] == pytest.approx(expected, abs=1e-5)

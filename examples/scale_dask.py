"""Scores for the rows of a Dask dataframe, read and written by its workers.

python examples/scale_dask.py pairs.parquet scores
"""

from __future__ import annotations

import sys
from typing import Any

import dask.dataframe
import pyarrow

from rerank_plugins.arrow import RerankScores


def scored(frame: Any, scores: RerankScores) -> Any:
    return scores(pyarrow.Table.from_pandas(frame, preserve_index=False)).to_pandas()


def rerank(pairs: str, output: str) -> None:
    frame = dask.dataframe.read_parquet(pairs)
    scores = RerankScores("embedded", keep=["id"], device="cpu")
    meta = {"id": "int64", "relevance_score": "float64"}
    frame.map_partitions(scored, scores, meta=meta).to_parquet(output)


if __name__ == "__main__":
    rerank(*sys.argv[1:])

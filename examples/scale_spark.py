"""Scores for the rows of a Spark dataframe, by its executors. Not run here: it needs Java.

spark-submit examples/scale_spark.py pairs.parquet scores
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pyarrow
from pyspark.sql import SparkSession

from rerank_plugins.arrow import RerankScores


def scored(batches: Iterator[Any]) -> Iterator[Any]:
    scores = RerankScores("embedded", keep=["id"], device="cpu")
    for batch in batches:
        yield from scores(pyarrow.Table.from_batches([batch])).to_batches()


def rerank(pairs: str, output: str) -> None:
    spark = (
        SparkSession.builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", 4096)
        .config("spark.executorEnv.OMP_NUM_THREADS", 1)  # of each of an executor's cores
        .getOrCreate()
    )
    frame = spark.read.parquet(pairs)
    frame.mapInArrow(scored, "id long, relevance_score double").write.parquet(output)


if __name__ == "__main__":
    rerank(*sys.argv[1:])

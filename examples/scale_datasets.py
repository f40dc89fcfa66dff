"""Scores for the rows of a Hugging Face data set, by two processes of one machine.

python examples/scale_datasets.py pairs.parquet scores.parquet
"""

from __future__ import annotations

import sys
from typing import Any

import datasets
import torch

from rerank_plugins.arrow import RerankScores


def scored(table: Any, rank: int) -> Any:
    # The model is loaded once a process. A GPU for each; none: two processes share the cores.
    n_gpus = torch.cuda.device_count()
    device = f"cuda:{rank % n_gpus}" if n_gpus else "cpu"
    return RerankScores("embedded", keep=["id"], device=device)(table)


def rerank(pairs: str, output: str) -> None:
    rows = datasets.load_dataset("parquet", data_files=pairs, split="train").with_format("arrow")
    rows.map(
        scored,
        batched=True,
        batch_size=4096,
        with_rank=True,
        num_proc=2,
        remove_columns=["query", "passage"],
    ).to_parquet(output)


if __name__ == "__main__":
    import multiprocess

    multiprocess.set_start_method("spawn")  # CUDA does not survive a fork
    rerank(*sys.argv[1:])

"""What the host alone takes, as if the device took no time: ``python -m benchmarks.host``.

Everything that a call on CUDA goes through is run, from texts to scores, but the forward pass: in
its place each batch is written into the array that would be copied to the device. No GPU can make
the scorer faster than this; on CUDA the host works on the next batch while the last one runs.
Writes ``benchmarks/results/host.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.cuda import LARGE, LARGE_SEEN
from benchmarks.environment import RESULTS, environment
from benchmarks.peers import MAX_LENGTH
from benchmarks.session import fitted_text
from rerank_plugins.cross_encoder.calls import CallPairs
from rerank_plugins.cross_encoder.checkpoint.hub import EMBEDDED_FOLDER
from rerank_plugins.cross_encoder.devices import ModelReplica, default_batch_tokens
from rerank_plugins.cross_encoder.forward.staging import BatchShape
from rerank_plugins.cross_encoder.loading import load_model
from rerank_plugins.cross_encoder.pairs import PackedPairs
from rerank_plugins.cross_encoder.scheduling.merge import Planner
from rerank_plugins.cross_encoder.scheduling.scoring_queue import ScoringQueue
from rerank_plugins.options import ScorerOptions
from rerank_plugins.workloads import BULK, BULK_SEEN, CANDIDATES, Call, Workload, measure

WORKLOADS = (BULK, BULK_SEEN, LARGE, LARGE_SEEN, *CANDIDATES)
HIDDEN_SIZE = 128


def no_device(pairs: PackedPairs) -> Tensor:
    """Make what would be copied to the device; return logits (n_pairs, 1) of zeros."""
    BatchShape.of(pairs).host(pairs, pinned=False)
    return torch.zeros(pairs.n_pairs, 1)


def host_speed(
    folder: str, repeats: int, workloads: Sequence[Workload] = WORKLOADS
) -> dict[str, Any]:
    model = load_model(ScorerOptions(folder, device="cpu", dtype="float32"))
    budget = default_batch_tokens(torch.device("cuda"), HIDDEN_SIZE)
    planner = Planner(model.encoder, max_batch_tokens=budget, n_workers=1)
    replica = ModelReplica(
        no_device, model.rule, n_workers=1, launches_async=True, pads_to_longest=False
    )
    queue = ScoringQueue([replica], planner, name="host")

    def score(calls: Sequence[Call]) -> list[list[float]]:
        pairs = CallPairs.of([(query, passage) for query, some in calls for passage in some])
        job, indices = pairs.job(max_length=MAX_LENGTH, windows=False)
        queue.submit(job)
        scores = model.rule.scores(job.result().logits).tolist()
        return [scores if indices is None else [scores[index] for index in indices]]

    tokens_per_word, lengths = fitted_text(folder)
    timings = []
    for workload in workloads:
        timings += measure(
            {"host": score},
            workload,
            repeats=repeats,
            seed=workload.n_pairs,
            tokens_per_word=tokens_per_word,
        )
    queue.close()
    return {
        "environment": environment(),
        "repeats": repeats,
        "max_batch_tokens": budget,
        "token_lengths": lengths,
        "timings": [timing.as_dict() for timing in timings],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--output", type=Path, default=RESULTS / "host.json")
    arguments = parser.parse_args()
    begin = time.perf_counter()
    result = host_speed(str(EMBEDDED_FOLDER), arguments.repeats)
    result["run_s"] = time.perf_counter() - begin
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    for timing in result["timings"]:
        print(timing["workload"], round(timing["docs_per_s"]), "docs/s")
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()

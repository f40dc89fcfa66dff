"""The workloads of a run on a GPU: ours against sentence-transformers."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks import peers
from benchmarks.floor import Shape, matmul_flop_per_s
from benchmarks.session import Session, Tell, best_batch_size, sized
from rerank_plugins.workloads import BULK, BULK_SEEN, CANDIDATES, LONG, ScoreCalls, Workload

TINY = "TinyBERT-L2 shape"
BATCH_SIZES = (64, 128, 256, 512, 1024, 2048)
PEER_DTYPES = ("float32", "float16")
OUR_DTYPES = ("float16", "bfloat16")
# 2,000 pairs are hardly a batch for such a device.
LARGE = Workload(name="large", n_queries=200, n_candidates=100, bulk=True)
LARGE_SEEN = Workload(name="large-seen", n_queries=200, n_candidates=100, bulk=True, seen=True)


def speed(
    folder: str,
    device: str,
    repeats: int,
    tell: Tell,
    *,
    peer_dtypes: tuple[str, ...] = PEER_DTYPES,
    our_dtypes: tuple[str, ...] = OUR_DTYPES,
    batch_sizes: tuple[int, ...] = BATCH_SIZES,
    smoke: bool = False,
) -> dict[str, Any]:
    """Run all workloads on ``device``; return the raw results. The first peer is the reference."""
    dtypes = [getattr(torch, name) for name in dict.fromkeys((*peer_dtypes, *our_dtypes))]
    rates = {str(dtype): matmul_flop_per_s(dtype, device) for dtype in dtypes}
    best: dict[str, int] = {}
    sweeps: dict[str, dict[int, float]] = {}
    for name in peer_dtypes:

        def contestant(size: int, name: str = name) -> ScoreCalls:
            return peers.sentence_transformers(folder, dtype=name, batch_size=size, device=device)

        best[name], sweeps[name] = best_batch_size(
            contestant, batch_sizes, sized(LARGE, smoke=smoke), tell
        )
    contestants = {
        f"sentence-transformers {name}": peers.sentence_transformers(
            folder, dtype=name, batch_size=size, device=device
        )
        for name, size in best.items()
    } | {
        f"rerank_plugins {name}": peers.ours(folder, dtype=name, device=device)
        for name in our_dtypes
    }
    session = Session(TINY, folder, repeats=repeats, tell=tell, smoke=smoke)
    for workload in (BULK, BULK_SEEN, LARGE, LARGE_SEEN, LONG, *CANDIDATES):
        session.run(contestants, workload)
    for dtype in dtypes:
        rates[str(dtype)] = max(rates[str(dtype)], matmul_flop_per_s(dtype, device))
    on_gpu = torch.device(device).type == "cuda"
    return {
        "matmul_flop_per_s": rates,
        "batch_size_sweep_docs_per_s": {TINY: sweeps},
        "best_batch_size": {TINY: best},
        "token_lengths": {TINY: session.lengths},
        "floor_flop_per_pair": {TINY: Shape.of(folder).flop_per_pair(session.lengths["mean"])},
        "largest_score_difference": {TINY: session.differences},
        "peak_device_mib": torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else None,
        "timings": session.timings,
    }

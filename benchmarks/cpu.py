"""The workloads of a run on a CPU: which contestants meet on which."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import frameworks, onnx_peers, peers
from benchmarks.floor import Shape, matmul_flop_per_s
from benchmarks.session import Session, Tell, best_batch_size, sized
from rerank_plugins.workloads import BULK, BULK_SEEN, CANDIDATES, LONG, ScoreCalls, Workload

TINY, MINILM = "TinyBERT-L2 shape", "MiniLM-L6 shape"
OURS = "rerank_plugins float32"
PEER_DTYPES = ("float32", "bfloat16")
BATCH_SIZES = (8, 16, 32, 64, 128)
# The sweep takes its turns on fewer pairs than the workload has.
SWEEP = Workload(name="sweep", n_queries=10, n_candidates=100, bulk=True)
MINILM_SWEEP = Workload(name="sweep", n_queries=1, n_candidates=64, bulk=True)
MINILM_BULK = Workload(name="bulk", n_queries=2, n_candidates=100, bulk=True)


def speed(
    folder: str, work: Path, repeats: int, tell: Tell, *, smoke: bool = False
) -> dict[str, Any]:
    """Run all workloads on both shapes; return the raw results."""
    dtypes = (torch.float32, torch.bfloat16)
    rates = {str(dtype): matmul_flop_per_s(dtype) for dtype in dtypes}
    sweeps: dict[str, dict[str, dict[int, float]]] = {}
    best: dict[str, dict[str, int]] = {}
    sessions = []
    parts: tuple[tuple[str, str, Workload, Callable[..., None]], ...] = (
        (TINY, folder, SWEEP, _tiny),
        (MINILM, random_minilm(work / "minilm", folder), MINILM_SWEEP, _minilm),
    )
    for model, path, sweep, run in parts:
        sweeps[model], best[model] = {}, {}
        for name, make in _swept(model).items():

            def contestant(
                size: int, make: Callable[..., ScoreCalls] = make, path: str = path
            ) -> ScoreCalls:
                return make(path, batch_size=size)

            best[model][name], sweeps[model][name] = best_batch_size(
                contestant, BATCH_SIZES, sized(sweep, smoke=smoke), tell
            )
        session = Session(model, path, repeats=repeats, tell=tell, smoke=smoke)
        run(session, best[model], work)
        sessions.append(session)
        for each in dtypes:
            rates[str(each)] = max(rates[str(each)], matmul_flop_per_s(each))
    return {
        "matmul_flop_per_s": rates,
        "batch_size_sweep_docs_per_s": sweeps,
        "best_batch_size": best,
        "token_lengths": {session.model: session.lengths for session in sessions},
        "floor_flop_per_pair": {
            session.model: Shape.of(session.folder).flop_per_pair(session.lengths["mean"])
            for session in sessions
        },
        "largest_score_difference": {session.model: session.differences for session in sessions},
        "timings": [timing for session in sessions for timing in session.timings],
    }


def _swept(model: str) -> dict[str, Callable[..., ScoreCalls]]:
    """Return sentence-transformers in each way whose best batch size has to be found."""
    swept: dict[str, Callable[..., ScoreCalls]] = {
        dtype: functools.partial(peers.sentence_transformers, dtype=dtype) for dtype in PEER_DTYPES
    }
    if model == TINY and onnx_peers.why_no_optimum() is None:
        swept["ONNX float32"] = onnx_peers.sentence_transformers_onnx
    return swept


def _scorers(session: Session, sizes: dict[str, int]) -> dict[str, ScoreCalls]:
    """Return sentence-transformers, the reference first, and ours."""
    peer = {
        f"sentence-transformers {dtype}": peers.sentence_transformers(
            session.folder, dtype=dtype, batch_size=sizes[dtype]
        )
        for dtype in PEER_DTYPES
    }
    return peer | {
        f"rerank_plugins {dtype}": peers.ours(session.folder, dtype=dtype)
        for dtype in ("float32", "bfloat16", "int8")
    }


def _tiny(session: Session, sizes: dict[str, int], work: Path) -> None:
    folder = session.folder
    scorers = _scorers(session, sizes)
    exact = {name: score for name, score in scorers.items() if name.endswith("float32")}
    others = {
        "transformers float32": peers.plain_transformers(folder, batch_size=32),
        "ONNX Runtime float32": onnx_peers.onnx_runtime(folder, work, batch_size=32),
    }
    flashrank = "ONNX Runtime, one batch (as FlashRank) float32"
    one_batch = {flashrank: onnx_peers.onnx_runtime(folder, work, batch_size=None)}
    if onnx_peers.why_no_optimum() is None:
        others[onnx_peers.OPTIMUM] = onnx_peers.sentence_transformers_onnx(
            folder, batch_size=sizes["ONNX float32"]
        )
    session.run({**scorers, **others, **one_batch}, BULK)
    session.run(scorers, BULK_SEEN)
    session.run(exact, LONG)
    for workload in CANDIDATES:
        session.run({**scorers, **others}, workload)
    documents = {
        "LangChain CrossEncoderReranker": frameworks.langchain_reranker(folder),
        "rerank_plugins.langchain": frameworks.our_langchain(folder),
        "LlamaIndex SentenceTransformerRerank": frameworks.llama_index_reranker(folder),
        "rerank_plugins.llama_index": frameworks.our_llama_index(folder),
        OURS: exact[OURS],
    }
    session.run(documents, Workload(name="documents-100", n_queries=8, n_candidates=100))
    _growth(session, exact)


def _growth(session: Session, exact: dict[str, ScoreCalls]) -> None:
    """Time by number of pairs, and by their length; 100,000 pairs are `benchmarks.memory`'s."""
    for count in (10, 100, 1_000, 10_000):
        workload = Workload(name=f"growth-{count}", n_queries=1, n_candidates=count, bulk=True)
        session.run({OURS: exact[OURS]}, workload)
    length = Workload(name="length", n_queries=1, n_candidates=200, bulk=True)
    for tokens in (16, 32, 64, 128, 256, 512):
        lengths = ((0.0, tokens), (1.0, tokens))
        session.run(exact, dataclasses.replace(length, name=f"length-{tokens}", lengths=lengths))


def _minilm(session: Session, sizes: dict[str, int], work: Path) -> None:
    session.run(_scorers(session, sizes), MINILM_BULK)


def random_minilm(folder: Path, tokenizer_folder: str) -> str:
    """Write a model of the MiniLM-L6 shape with random weights and the embedded tokenizer."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        num_hidden_layers=6,
        hidden_size=384,
        num_attention_heads=12,
        intermediate_size=1536,
        id2label={0: "relevant"},
    )
    config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
    BertForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(folder)
    return str(folder)

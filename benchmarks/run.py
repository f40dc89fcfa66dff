"""Measure the scorer against its peers: ``python -m benchmarks.run`` writes the raw results.

Every contestant is in this process, gets the same text in turn, and must give equal scores
before it is timed. Results go to ``benchmarks/results/``; `benchmarks.report` makes the tables.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import resource
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import peers
from rerank_plugins.benchmark import (
    BULK,
    BULK_SEEN,
    CANDIDATES,
    LONG,
    ScoreCalls,
    Texts,
    Timing,
    Workload,
    measure,
)
from rerank_plugins.cross_encoder.checkpoint.hub import EMBEDDED_FOLDER

RESULTS = Path(__file__).parent / "results"
TOLERANCE = {"float32": 2e-5, "bfloat16": 0.2, "int8": 0.6}
PACKAGES = ("torch", "transformers", "sentence-transformers", "tokenizers", "onnxruntime")
# The floor counts what must be multiplied: the last layer for [CLS] alone, keys and values for
# every token, and everything else for every token (2 FLOP a multiply-add).


def flop_per_pair(*, layers: int, hidden: int, feed_forward: int, tokens: float) -> float:
    full = 2 * (4 * hidden**2 + 2 * hidden * feed_forward) * tokens + 4 * hidden * tokens**2
    last = 2 * 2 * hidden**2 * tokens + 4 * hidden * tokens
    return (layers - 1) * full + last


def matmul_flop_per_s(dtype: torch.dtype) -> float:
    """Return the rate of a large matrix product with all threads; the best of several."""
    size = 2048
    left, right = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    best = float("inf")
    for _ in range(8):
        begin = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best


def random_minilm(folder: Path) -> str:
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
    AutoTokenizer.from_pretrained(EMBEDDED_FOLDER).save_pretrained(folder)
    return str(folder)


def best_batch_size(folder: str, dtype: str, progress: Callable[[str], None]) -> tuple[int, Any]:
    """Sweep sentence-transformers over its batch sizes on the bulk workload; return the fastest."""
    found = {}
    for batch_size in (8, 16, 32, 64, 128):
        progress(f"sentence-transformers {dtype}, batch size {batch_size}")
        contestant = peers.sentence_transformers(folder, dtype=dtype, batch_size=batch_size)
        timing = measure({"": contestant}, BULK, repeats=3, seed=batch_size)[0]
        found[batch_size] = timing.docs_per_s
    return max(found, key=lambda size: found[size]), found


class Session:
    """One run of all workloads on one model, with its raw results."""

    def __init__(self, model: str, folder: str, repeats: int, work: Path) -> None:
        self.model, self.folder, self.repeats, self.work = model, folder, repeats, work
        self.timings: list[dict[str, Any]] = []
        self.differences: dict[str, float] = {}
        self.tokens_per_word, self.lengths = self._fitted_text()

    def run(self, contestants: dict[str, ScoreCalls], workload: Workload) -> list[Timing]:
        gc.collect()
        timings = measure(
            contestants,
            workload,
            repeats=self.repeats,
            seed=workload.n_pairs,
            tokens_per_word=self.tokens_per_word,
            check=self._check,
        )
        self.timings += [{"model": self.model, **timing.as_dict()} for timing in timings]
        return timings

    def _check(self, name: str, scores: list[list[float]], reference: list[list[float]]) -> None:
        if not scores:
            return  # the frameworks' own rerankers return documents without scores
        differences = [
            abs(score - other)
            for row, other_row in zip(scores, reference, strict=True)
            for score, other in zip(row, other_row, strict=True)
        ]
        dtype = name.rsplit(" ", 1)[-1]
        worst = max(differences)
        self.differences[name] = max(worst, self.differences.get(name, 0.0))
        if worst > TOLERANCE.get(dtype, TOLERANCE["float32"]):
            raise SystemExit(f"{name} differs from the reference by {worst}: not timed")

    def _fitted_text(self) -> tuple[float, dict[str, float]]:
        """Return tokens per word of the text, and the token lengths that a bulk run then has."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        words = Texts(0).words(2_000)
        ratio = (len(tokenizer(words)["input_ids"]) - 2) / 2_000
        calls = Texts(1, tokens_per_word=ratio).calls(BULK)
        lengths = sorted(
            len(ids)
            for query, passages in calls
            for ids in tokenizer([query] * len(passages), passages)["input_ids"]
        )
        return ratio, {
            "mean": statistics.fmean(lengths),
            "min": lengths[0],
            "median": lengths[len(lengths) // 2],
            "p95": lengths[int(0.95 * len(lengths))],
            "max": lengths[-1],
        }


def measure_tinybert(session: Session, sizes: dict[str, int]) -> None:
    reference = {
        f"sentence-transformers {dtype}": peers.sentence_transformers(
            session.folder, dtype=dtype, batch_size=size
        )
        for dtype, size in sizes.items()
    }
    mine = {
        f"rerank_plugins {dtype}": peers.ours(session.folder, dtype=dtype)
        for dtype in ("float32", "bfloat16", "int8")
    }
    exact = {
        name: contestant for name, contestant in (reference | mine).items() if "float32" in name
    }
    others = {
        "transformers float32": peers.plain_transformers(session.folder, batch_size=32),
        "ONNX Runtime float32": peers.onnx_runtime(session.folder, session.work, batch_size=32),
        "ONNX Runtime, one batch (as FlashRank) float32": peers.onnx_runtime(
            session.folder, session.work, batch_size=None
        ),
    }
    session.run({**reference, **mine, **others}, BULK)
    session.run({**reference, **mine}, BULK_SEEN)
    session.run(exact, LONG)
    for workload in CANDIDATES:
        session.run(exact, workload)
    frameworks = {
        "LangChain CrossEncoderReranker": peers.langchain_reranker(session.folder),
        "rerank_plugins.langchain": peers.our_langchain(session.folder),
        "LlamaIndex SentenceTransformerRerank": peers.llama_index_reranker(session.folder),
        "rerank_plugins.llama_index": peers.our_llama_index(session.folder),
        "rerank_plugins float32": exact["rerank_plugins float32"],
    }
    session.run(frameworks, Workload(name="documents-100", n_queries=8, n_candidates=100))
    for count in (10, 100, 1_000, 10_000):
        workload = Workload(name=f"growth-{count}", n_queries=1, n_candidates=count, bulk=True)
        session.run({"rerank_plugins float32": exact["rerank_plugins float32"]}, workload)
    for tokens in (16, 32, 64, 128, 256, 512):
        lengths = ((0.0, tokens), (1.0, tokens))
        workload = Workload(
            name=f"length-{tokens}", n_queries=1, n_candidates=200, lengths=lengths, bulk=True
        )
        session.run(exact, workload)


def measure_minilm(session: Session, sizes: dict[str, int]) -> None:
    contestants = {
        f"sentence-transformers {dtype}": peers.sentence_transformers(
            session.folder, dtype=dtype, batch_size=size
        )
        for dtype, size in sizes.items()
    } | {
        f"rerank_plugins {dtype}": peers.ours(session.folder, dtype=dtype)
        for dtype in ("float32", "bfloat16", "int8")
    }
    session.run(contestants, Workload(name="bulk", n_queries=2, n_candidates=100, bulk=True))


def first_call_s(folder: str) -> dict[str, float]:
    """Return the seconds of loading, of the first call, and of the same call again."""
    from rerank_plugins import CrossEncoderScorer

    call = Texts(3).calls(CANDIDATES[2])[0]
    begin = time.perf_counter()
    scorer = CrossEncoderScorer(folder, device="cpu")
    loaded = time.perf_counter()
    scorer.score(*call)
    first = time.perf_counter()
    scorer.score(*call)
    return {
        "load": loaded - begin,
        "first_100_candidates": first - loaded,
        "second_100_candidates": time.perf_counter() - first,
    }


def environment() -> dict[str, Any]:
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cpu": cpu,
        "isa": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "commit": commit,
        "versions": {package: version(package) for package in PACKAGES},
        "cuda": "not measured" if not torch.cuda.is_available() else torch.cuda.get_device_name(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS / "speed_cpu.json")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with tempfile.TemporaryDirectory() as work, Progress(*columns, console=console) as progress:
        task = progress.add_task("first call", total=None)

        def tell(what: str) -> None:
            progress.update(task, description=what)

        first_call = first_call_s(str(EMBEDDED_FOLDER))
        rates = {str(dtype): matmul_flop_per_s(dtype) for dtype in (torch.float32, torch.bfloat16)}
        sweeps, sessions = {}, []
        minilm = random_minilm(Path(work) / "minilm")
        for model, folder, run in (
            ("TinyBERT-L2 shape", str(EMBEDDED_FOLDER), measure_tinybert),
            ("MiniLM-L6 shape", minilm, measure_minilm),
        ):
            sizes = {}
            for dtype in ("float32", "bfloat16"):
                if model.startswith("TinyBERT"):
                    sizes[dtype], sweeps[dtype] = best_batch_size(folder, dtype, tell)
                else:
                    sizes[dtype] = 32
            tell(model)
            session = Session(model, folder, arguments.repeats, Path(work))
            run(session, sizes)
            sessions.append((session, sizes))
        for each in (torch.float32, torch.bfloat16):
            rates[str(each)] = max(rates[str(each)], matmul_flop_per_s(each))
    result = {
        "environment": environment(),
        "max_length": peers.MAX_LENGTH,
        "repeats": arguments.repeats,
        "matmul_flop_per_s": rates,
        "batch_size_sweep_docs_per_s": sweeps,
        "best_batch_size": {session.model: sizes for session, sizes in sessions},
        "token_lengths": {session.model: session.lengths for session, _ in sessions},
        "floor_flop_per_pair": {
            session.model: flop_per_pair(
                layers=6 if "MiniLM" in session.model else 2,
                hidden=384 if "MiniLM" in session.model else 128,
                feed_forward=1536 if "MiniLM" in session.model else 512,
                tokens=session.lengths["mean"],
            )
            for session, _ in sessions
        },
        "largest_score_difference": {s.model: s.differences for s, _ in sessions},
        "first_call_s": first_call,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "timings": [timing for session, _ in sessions for timing in session.timings],
    }
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    console.print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()

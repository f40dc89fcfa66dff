"""Measure text encoders.

    python -m benchmarks.tokens MODEL_FOLDER [--corpus corpus.jsonl] [--name NAME]

Writes ``benchmarks/results/tokens_NAME.json``. ``kitoken``, ``flash-tokenizer``, ``blingfire`` and
``budtiktok`` are measured where they are installed. Repeats are interleaved, since the machine may
have other work; read the ratios.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from benchmarks.environment import RESULTS, environment
from benchmarks.tokens.contenders import (
    BASELINE,
    PEERS,
    Contender,
    Ids,
    from_encodings,
    hugging_face_contenders,
    own_contenders,
    peer_contenders,
)
from benchmarks.tokens.texts import copied, hard_texts, passages
from rerank_plugins.cross_encoder.tokens.encoders import text_encoder


@dataclass(frozen=True, slots=True)
class Spread:
    median: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


def differing(contender: Contender, texts: list[str], expected: Ids) -> int | None:
    """Return for how many texts the ids are not those of the tokenizer."""
    if contender.ids is None:
        return None
    encode, wrong = contender.prepare(), 0
    for start in range(0, len(texts), 500):
        part = slice(start, start + 500)
        got = contender.ids(encode(texts[part]))
        wrong += sum(list(a) != b for a, b in zip(got, expected[part], strict=True))
    return wrong


def timed(contender: Contender, texts: list[str]) -> tuple[float, float]:
    """Return seconds of wall clock and of processor time for one call."""
    os.environ["TOKENIZERS_PARALLELISM"] = str(contender.parallel).lower()
    encode = contender.prepare()
    texts = copied(texts)
    wall, cpu = time.perf_counter(), time.process_time()
    encode(texts)
    return time.perf_counter() - wall, time.process_time() - cpu


def memory(tokenizer: Tokenizer, texts: list[str]) -> dict[str, int]:
    """Return what an encoder holds, in bytes of Python's allocator."""
    tracemalloc.start()
    start = tracemalloc.get_traced_memory()[0]
    encoder = text_encoder(tokenizer, seen_passages_bytes=0)
    built = tracemalloc.get_traced_memory()[0] - start
    encoder.encode(texts)
    with_words = tracemalloc.get_traced_memory()[0] - start
    tracemalloc.stop()
    return {"vocabulary_bytes": built, "vocabulary_and_words_bytes": with_words}


def _environment() -> dict[str, Any]:
    return {
        **environment(),
        "load_average": os.getloadavg()[0],
        "peers": {name: importlib.metadata.version(name) for name in PEERS if _installed(name)},
        "not_installed": [name for name in PEERS if not _installed(name)],
    }


def _installed(name: str) -> bool:
    return any(importlib.metadata.distributions(name=name))


def measure(folder: Path, corpus: Path | None, count: int, repeats: int) -> dict[str, Any]:
    report: dict[str, Any] = {"environment": _environment(), "repeats": repeats}
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    source, texts = passages(corpus, 2 * count)
    count = len(texts) // 2
    texts, others = texts[:count], texts[count:]
    expected = from_encodings(tokenizer.encode_batch(texts, add_special_tokens=False))
    hard = hard_texts(5_000)
    hard_expected = from_encodings(tokenizer.encode_batch(hard, add_special_tokens=False))
    lengths = [len(ids) for ids in expected]
    report["workload"] = {
        "source": source,
        "passages": count,
        "tokens": {"mean": statistics.mean(lengths), **asdict(Spread.of(lengths))},
        "share_ascii": sum(text.isascii() for text in texts) / count,
        "hard_texts": len(hard),
    }
    with tempfile.TemporaryDirectory() as scratch:
        contenders = [
            *own_contenders(tokenizer, others, texts),
            *hugging_face_contenders(tokenizer, folder),
            *peer_contenders(tokenizer, Path(scratch)),
        ]
        times: dict[str, list[tuple[float, float]]] = {c.name: [] for c in contenders}
        for repeat in range(repeats):
            print(f"repeat {repeat + 1} of {repeats}", file=sys.stderr)
            for contender in contenders:
                times[contender.name].append(timed(contender, texts))
        rows = {}
        for contender in contenders:
            walls, cpus = np.array(times[contender.name]).T
            ratios = np.array(times[BASELINE]) / np.array(times[contender.name])
            rows[contender.name] = {
                "passages_per_s": asdict(Spread.of((count / walls).tolist())),
                "passages_per_cpu_s": asdict(Spread.of((count / cpus).tolist())),
                "times_baseline": asdict(Spread.of(ratios[:, 0].tolist())),
                "times_baseline_cpu": asdict(Spread.of(ratios[:, 1].tolist())),
                "differing": differing(contender, texts, expected),
                "differing_hard": differing(contender, hard, hard_expected),
            }
    report["memory"] = memory(tokenizer, texts)
    report["baseline"] = BASELINE
    report["contenders"] = rows
    return report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a model's folder with its tokenizer.json")
    parser.add_argument(
        "--corpus",
        type=Path,
        help="JSON lines with title and text; default: Python's documentation",
    )
    parser.add_argument("--passages", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--name", default="python_documentation")
    arguments = parser.parse_args()
    report = measure(arguments.folder, arguments.corpus, arguments.passages, arguments.repeats)
    path = RESULTS / f"tokens_{arguments.name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{'':40} {'passages/s':>12} {'x baseline':>10} {'x (cpu)':>8} {'differ':>7} {'hard':>6}")
    for name, row in report["contenders"].items():
        print(
            f"{name:40} {row['passages_per_s']['median']:>12,.0f} "
            f"{row['times_baseline']['median']:>10.2f} {row['times_baseline_cpu']['median']:>8.2f} "
            f"{row['differing']!s:>7} {row['differing_hard']!s:>6}"
        )
    print(path)


if __name__ == "__main__":
    main()

"""Measure text encoders: exactness and speed, ours against Hugging Face's and four others.

    python benchmarks/tokens.py MODEL_FOLDER [--corpus corpus.jsonl] [--name NAME]

Writes ``benchmarks/results/tokens_NAME.json``. ``kitoken``, ``flash-tokenizer``, ``blingfire`` and
``budtiktok`` are measured where they are installed. Repeats are interleaved, since the machine may
have other work; read the ratios.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from rerank_plugins.cross_encoder.tokens.encoders import text_encoder
from rerank_plugins.demo.corpus import read_corpus

RESULTS = Path(__file__).parent / "results"
QUERY = "how does a cross encoder read a query and a passage"
PEERS = ("kitoken", "flash-tokenizer", "blingfire", "budtiktok")
BASELINE = "tokenizers encode_batch"

Ids = list[list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """``prepare()`` is not timed and returns what is: one call over all passages.

    ``ids`` turns its answer into lists, to compare; None where it has special tokens and padding.
    """

    name: str
    prepare: Callable[[], Callable[[list[str]], Any]]
    ids: Callable[[Any], Ids] | None
    parallel: bool = False


@dataclass(frozen=True, slots=True)
class Spread:
    median: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


def from_encodings(encodings: Any) -> Ids:
    return [encoding.ids for encoding in encodings]


def from_arrays(rows: Any) -> Ids:
    return [row.tolist() for row in rows]


def copied(texts: Sequence[str]) -> list[str]:
    """Return equal strings that are other objects, whose hashes were not computed yet."""
    return [(text + "\n")[:-1] for text in texts]


def own_contenders(tokenizer: Tokenizer, others: list[str], texts: list[str]) -> list[Contender]:
    def first_call() -> Callable[[list[str]], Any]:
        return text_encoder(tokenizer).encode

    def after_others() -> Callable[[list[str]], Any]:
        encoder = text_encoder(tokenizer)
        encoder.encode(others)
        return encoder.encode

    def seen() -> Callable[[list[str]], Any]:
        encoder = text_encoder(tokenizer)
        encoder.encode(texts)
        return encoder.encode

    def words_seen() -> Callable[[list[str]], Any]:
        encoder = text_encoder(tokenizer, seen_passages_bytes=0)
        encoder.encode(texts)
        return encoder.encode

    return [
        Contender(name="ours, unseen, first call", prepare=first_call, ids=from_arrays),
        Contender(name="ours, unseen, after others", prepare=after_others, ids=from_arrays),
        Contender(name="ours, all words seen", prepare=words_seen, ids=from_arrays),
        Contender(name="ours, passages seen", prepare=seen, ids=from_arrays),
    ]


def hugging_face_contenders(tokenizer: Tokenizer, folder: Path) -> list[Contender]:
    whole = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def batch(texts: list[str]) -> Any:
        return tokenizer.encode_batch(texts, add_special_tokens=False)

    def batch_fast(texts: list[str]) -> Any:
        return tokenizer.encode_batch_fast(texts, add_special_tokens=False)

    def pairs(texts: list[str]) -> Any:
        """Encode as sentence-transformers does: 32 pairs, padded, as tensors."""
        for start in range(0, len(texts), 32):
            part = texts[start : start + 32]
            whole([QUERY] * len(part), part, padding=True, truncation="longest_first",
                  max_length=512, return_tensors="pt")  # fmt: skip

    contenders = []
    for parallel in (False, True):
        suffix = ", all cores" if parallel else ""
        contenders += [
            Contender(name=BASELINE + suffix, prepare=lambda: batch, ids=from_encodings,
                      parallel=parallel),
            Contender(name="tokenizers encode_batch_fast" + suffix, prepare=lambda: batch_fast,
                      ids=from_encodings, parallel=parallel),
            Contender(name="transformers pairs, padded" + suffix, prepare=lambda: pairs, ids=None,
                      parallel=parallel),
        ]  # fmt: skip
    return contenders


def peer_contenders(tokenizer: Tokenizer, scratch: Path) -> list[Contender]:
    """Return the installed ones of `PEERS`, each single-threaded and without special tokens."""
    definition, vocabulary = scratch / "tokenizer.json", scratch / "vocab.txt"
    tokenizer.save(str(definition))
    tokens = tokenizer.get_vocab()
    vocabulary.write_text("\n".join(sorted(tokens, key=tokens.__getitem__)) + "\n")
    normalizer = json.loads(tokenizer.to_str())["normalizer"]
    calls: dict[str, Callable[[list[str]], Any]] = {}
    if importlib.util.find_spec("kitoken"):
        kitoken = import_module("kitoken")
        kit = kitoken.Kitoken.from_file(str(definition))
        calls["kitoken"] = lambda texts: kit.encode_all(texts, True)
    if importlib.util.find_spec("flash_tokenizer"):
        flash_tokenizer = import_module("flash_tokenizer")
        flash = flash_tokenizer.BertTokenizerFlash(
            str(vocabulary), do_lower_case=normalizer["lowercase"], model_max_length=1_000_000
        ).tokenizer
        calls["flash-tokenizer"] = lambda texts: [
            ids[1:-1] for ids in flash.batch_encode(texts, "longest", 1_000_000, False)
        ]
    if importlib.util.find_spec("blingfire") and normalizer["lowercase"]:
        blingfire = import_module("blingfire")
        model = Path(str(blingfire.__file__)).parent / "bert_base_tok.bin"
        bling = blingfire.load_model(str(model))
        calls["blingfire"] = lambda texts: [
            blingfire.text_to_ids(bling, text, 2 * len(text) + 8, tokens["[UNK]"], True).tolist()
            for text in texts
        ]
    if importlib.util.find_spec("budtiktok"):
        budtiktok = import_module("budtiktok")
        bud = budtiktok.Tokenizer.from_file(str(definition))
        budtiktok.set_num_threads(1)
        calls["budtiktok"] = lambda texts: from_encodings(
            bud.encode_batch(texts, add_special_tokens=False)
        )
    return [
        Contender(name=name, prepare=lambda call=call: call, ids=list)  # type: ignore[misc]
        for name, call in calls.items()
    ]


def hard_texts(count: int, seed: int = 0) -> list[str]:
    """Return short texts of mixed scripts, marks, control characters and special tokens."""
    rng = random.Random(seed)
    ranges = [(0, 0x80), (0x80, 0x250), (0x300, 0x370), (0x370, 0x700), (0x900, 0x980),
              (0x2000, 0x2100), (0x3000, 0x3100), (0x4E00, 0x4F00), (0xAC00, 0xAD00),
              (0xFE00, 0xFFFE), (0x1F300, 0x1F700), (0xE000, 0x110000)]  # fmt: skip
    fixed = ["[SEP]", "[sep]", "[MASK]", "a" * 100, "a" * 101, "e\u0301" * 60, "The ", "café "]

    def fragment() -> str:
        if rng.random() < 0.2:
            return " "
        if rng.random() < 0.05:
            return rng.choice(fixed)
        return chr(rng.randrange(*rng.choice([(0x20, 0x7F), rng.choice(ranges)])))

    return ["".join(fragment() for _ in range(rng.randint(1, 40))) for _ in range(count)]


def passages(corpus: Path | None, count: int) -> tuple[str, list[str]]:
    """Return a name and ``count`` texts, cut to between 150 and 700 characters."""
    if corpus is None:
        source = f"documentation of Python {platform.python_version()}"
        texts = [passage.text for passage in read_corpus()]
    else:
        rows = [json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines()]
        source = f"{corpus.parent.name}/{corpus.name}"
        texts = [f"{row.get('title', '')} {row['text']}".strip() for row in rows]
    rng = random.Random(0)
    rng.shuffle(texts)
    return source, [text[: rng.randint(150, 700)] for text in texts[:count]]


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


def environment() -> dict[str, Any]:
    git = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=RESULTS
    )
    cpu = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if "model name" in line),
        platform.processor(),
    )
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": git.stdout.strip() or None,
        "python": platform.python_version(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("numpy", "tokenizers", "transformers", *PEERS)
            if _installed(name)
        },
        "not_installed": [name for name in PEERS if not _installed(name)],
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _installed(name: str) -> bool:
    return any(importlib.metadata.distributions(name=name))


def measure(folder: Path, corpus: Path | None, count: int, repeats: int) -> dict[str, Any]:
    report: dict[str, Any] = {"environment": environment(), "repeats": repeats}
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

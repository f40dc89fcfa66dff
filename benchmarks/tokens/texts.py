"""The texts that encoders are measured on: passages for speed, hard ones for exactness."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from rerank_plugins.demo.collection import read_demo


def copied(texts: Sequence[str]) -> list[str]:
    """Return equal strings that are other objects, whose hashes were not computed yet."""
    return [(text + "\n")[:-1] for text in texts]


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
        source = "Python's documentation, as the demo has it"
        texts = [passage.text for passage in read_demo().passages]
    else:
        rows = [json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines()]
        source = f"{corpus.parent.name}/{corpus.name}"
        texts = [f"{row.get('title', '')} {row['text']}".strip() for row in rows]
    rng = random.Random(0)
    rng.shuffle(texts)
    return source, [text[: rng.randint(150, 700)] for text in texts[:count]]

"""What is remembered of texts: by whom, for how long, in how much memory."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from bert_tokenizers import (
    as_lists,
    bert_tokenizer,
    ids_of,
)

from rerank_plugins.cross_encoder.pairs import TokenIds
from rerank_plugins.cross_encoder.tokens.encoders import (
    RememberingEncoder,
    text_encoder,
)
from rerank_plugins.cross_encoder.tokens.texts import LONG_TEXT_CHARS
from rerank_plugins.cross_encoder.tokens.wordpiece import (
    MAX_WORDS,
)
from rerank_plugins.errors import InvalidArgumentError


def test_threads_get_what_one_caller_gets() -> None:
    rng = random.Random(1)
    pool = [
        "".join(rng.choices(["the ", "cafe", "é", ", ", "中", "zzz ", "[SEP]"], k=30))
        for _ in range(300)
    ]
    expected = dict(zip(pool, ids_of(bert_tokenizer(), pool), strict=True))
    encoder = text_encoder(bert_tokenizer(), seen_passages_bytes=20_000)

    def score(seed: int) -> bool:
        batch = random.Random(seed).choices(pool, k=100)
        return as_lists(encoder.encode(batch)) == [expected[text] for text in batch]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(score, range(60)))


class CountingEncoder:
    """Answers each text with its length, and counts the texts it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str], limit: int | None = None) -> list[TokenIds]:
        self.asked += texts
        return [np.full(1, len(text), np.int32) for text in texts]


def test_a_passage_seen_before_is_not_asked_again() -> None:
    inner = CountingEncoder()
    encoder = RememberingEncoder(inner, 1_000_000)
    for _ in range(3):
        rows = encoder.encode(["one", "three", "one", ""])
        assert as_lists(rows) == [[3], [5], [3], [0]]
    assert inner.asked == ["one", "three", ""]


def test_a_passage_in_use_stays_and_the_others_go() -> None:
    inner = CountingEncoder()
    encoder = RememberingEncoder(inner, 10_000)
    for number in range(200):
        encoder.encode([f"passage {number}", "in use"])
    assert inner.asked.count("in use") == 1
    encoder.encode(["passage 0"])
    assert inner.asked.count("passage 0") == 2


def test_a_huge_passage_is_not_kept() -> None:
    inner = CountingEncoder()
    encoder = RememberingEncoder(inner, 10_000_000)
    huge = "x" * (LONG_TEXT_CHARS + 1)
    encoder.encode([huge])
    encoder.encode([huge])
    assert inner.asked == [huge, huge]


def traced_bytes() -> int:
    return tracemalloc.get_traced_memory()[0]


def test_memory_for_passages_stays_within_what_was_given() -> None:
    encoder = text_encoder(bert_tokenizer(), seen_passages_bytes=500_000)
    tracemalloc.start()
    try:
        before = traced_bytes()
        for start in range(0, 5_000, 100):
            encoder.encode(
                [f"the passage {number} of " * 5 for number in range(start, start + 100)]
            )
        held = traced_bytes() - before
    finally:
        tracemalloc.stop()
    # The numbers are new words, which are remembered beside the passages.
    assert held < 500_000 + 5_000 * 300


def test_memory_for_words_stays_within_its_bound() -> None:
    encoder = text_encoder(bert_tokenizer(), seen_passages_bytes=0)
    held = []
    tracemalloc.start()
    try:
        before = traced_bytes()
        for start in range(0, MAX_WORDS + MAX_WORDS // 8, 1_000):
            numbers = range(start, start + 1_000)
            encoder.encode([" ".join(f"{number:0>12}" for number in numbers)])
            held.append(traced_bytes() - before)
    finally:
        tracemalloc.stop()
    assert max(held) < MAX_WORDS * 550
    assert held[-1] < max(held) / 2  # the words were forgotten when they reached the bound


def test_a_negative_bound_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="-1"):
        text_encoder(bert_tokenizer(), seen_passages_bytes=-1)

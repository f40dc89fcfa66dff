"""Pairs against transformers' own tokenizer: special tokens, longest_first, windows."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import write_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizer

from rerank_plugins.cross_encoder.tokens.encoders import text_encoder
from rerank_plugins.cross_encoder.tokens.pairs import PairEncoder, longest_first
from rerank_plugins.cross_encoder.tokens.template import PairTemplate
from rerank_plugins.errors import InvalidArgumentError


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return BertTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def encoder(tokenizer: Any) -> PairEncoder:
    backend = tokenizer.backend_tokenizer
    return PairEncoder(text_encoder(backend), PairTemplate.of(tokenizer), backend.to_str())


texts = st.text(st.sampled_from("ab c.dé\u2028\t日[]SEP"), max_size=60)


@settings(max_examples=150, deadline=None)
@given(
    pairs=st.lists(st.tuples(texts, texts), min_size=1, max_size=4),
    max_length=st.integers(5, 40),
)
def test_pairs_are_those_of_transformers_at_any_max_length(
    encoder: PairEncoder, tokenizer: Any, pairs: list[tuple[str, str]], max_length: int
) -> None:
    queries, passages = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    rows = encoder.sequences(queries, passages, max_length=max_length, windows=False)
    packed = encoder.pack(rows, range(len(pairs)))
    expected = tokenizer(queries, passages, truncation="longest_first", max_length=max_length)
    assert packed.ids.tolist() == list(chain(*expected["input_ids"]))
    assert packed.type_ids.tolist() == list(chain(*expected["token_type_ids"]))
    assert packed.lengths.tolist() == [len(ids) for ids in expected["input_ids"]]
    whole = tokenizer(queries, passages)["input_ids"]
    assert rows.truncated.tolist() == [len(ids) > max_length for ids in whole]


@given(st.integers(0, 50), st.integers(0, 50), st.integers(2, 40))
def test_longest_first_fills_the_room_and_takes_from_the_longer(
    n_query: int, n_passage: int, room: int
) -> None:
    query, passage = longest_first(n_query, n_passage, room)
    assert query + passage == min(room, n_query + n_passage)
    assert query <= n_query
    assert passage <= n_passage
    if 2 * n_query <= room:
        assert query == n_query, "a query of up to half the room loses nothing"


@settings(max_examples=100, deadline=None)
@given(n_query=st.integers(1, 12), n_passage=st.integers(0, 120), max_length=st.integers(8, 40))
def test_windows_cover_the_whole_passage_and_overlap(
    encoder: PairEncoder, n_query: int, n_passage: int, max_length: int
) -> None:
    passage = " ".join("abcdefghij"[index % 10] for index in range(n_passage))
    rows = encoder.sequences(
        [" ".join("q" * n_query)], [passage], max_length=max_length, windows=True
    )
    assert all(length <= max_length for length in rows.lengths)
    covered: set[int] = set()
    for start, tail in zip(rows.starts.tolist(), rows.passage_ids, strict=True):
        assert start <= len(covered), "no token between two windows is lost"
        covered.update(range(start, start + len(tail)))
    assert covered == set(range(n_passage))
    whole = encoder.sequences(["q"], [passage], max_length=1000, windows=False).passage_ids[0]
    for start, tail in zip(rows.starts.tolist(), rows.passage_ids, strict=True):
        np.testing.assert_array_equal(tail, whole[start : start + len(tail)])


def test_a_short_passage_is_one_window() -> None:
    assert longest_first(3, 4, 10) == (3, 4)


def test_a_windows_characters_are_where_its_tokens_stand(encoder: PairEncoder) -> None:
    passage = " ".join(f"{letter}" for letter in "abcdefghijklmnop")
    rows = encoder.sequences(["q"], [passage], max_length=12, windows=True)
    spans = [
        encoder.characters("q", passage, int(start), max_length=12, windows=True)
        for start in rows.starts
    ]
    assert len(spans) > 1
    assert passage[slice(*spans[0])] == "a b c d e f g h"
    assert passage[slice(*spans[-1])].endswith("p")


def test_max_length_must_hold_a_token_of_each(encoder: PairEncoder) -> None:
    with pytest.raises(InvalidArgumentError, match="at least 5 tokens"):
        encoder.check_max_length(4)

"""Ids of `text_encoder` against those of the tokenizer itself, which is the oracle throughout."""

from __future__ import annotations

import functools
import random
import string
import sys

import pytest
from bert_tokenizers import (
    EMBEDDED,
    EVERY_FLAGS,
    SPACES,
    SPECIALS,
    Flags,
    as_lists,
    bert_tokenizer,
    flags_of_all_kinds,
    fragments,
    ids_of,
    shared_encoder,
    shared_tokenizer,
    texts,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from rerank_plugins.cross_encoder.tokens.encoders import (
    text_encoder,
)
from rerank_plugins.cross_encoder.tokens.texts import LONG_TEXT_CHARS
from rerank_plugins.cross_encoder.tokens.wordpiece import WordPieceEncoder


@settings(max_examples=400, deadline=None)
@given(flags_of_all_kinds, st.lists(texts, max_size=5))
def test_ids_equal_the_tokenizers_on_any_text(flags: Flags, batch: list[str]) -> None:
    assert as_lists(shared_encoder(flags).encode(batch)) == ids_of(shared_tokenizer(flags), batch)


@pytest.mark.parametrize(
    "flags", [(True, None, True, True), (False, None, True, True), (True, False, False, False)]
)
def test_ids_equal_the_tokenizers_around_every_character(flags: Flags) -> None:
    rng = random.Random(0)
    beyond = rng.sample(range(0x10000, sys.maxunicode + 1), 10_000)
    points = [p for p in (*range(0x10000), *beyond) if not 0xD800 <= p < 0xE000]
    batch = [
        "".join(f"a{c}z {c}b{c}. " for c in map(chr, points[start : start + 50]))
        for start in range(0, len(points), 50)
    ]
    assert as_lists(shared_encoder(flags).encode(batch)) == ids_of(shared_tokenizer(flags), batch)


@pytest.mark.parametrize("flags", EVERY_FLAGS)
def test_ids_equal_the_tokenizers_at_known_traps(flags: Flags) -> None:
    batch = [
        "",
        " ",
        *(f"the{space}passage,{space}{space}cafe" for space in SPACES),
        *(f"the {special}{special.lower()} of{special}." for special in SPECIALS),
        "[S\x00EP] [SEP\x7f] [\u200bMASK] [[SEP]] [SEP]s",
        "the \u0301cafe !\u0301a \u0301",
        "ΟΔΥΣΣΕΥΣ Σ ΑΣ ΑΣ.",
        "İstanbul I\u0307 KELVIN Å ẞ ﬁ ǅ",
        *("x" * n for n in (99, 100, 101, 1000)),
        *("é" * n for n in (50, 99, 100, 101)),
        *("e\u0301" * n for n in (50, 51, 100, 101)),
        "中文cafe字,한글 가",
        "\ufffd\x00\ufeff",
        string.printable,
    ]
    assert as_lists(shared_encoder(flags).encode(batch)) == ids_of(shared_tokenizer(flags), batch)


long_texts = st.lists(st.tuples(fragments, st.integers(1, 6_000)), min_size=1, max_size=5).map(
    lambda parts: "".join((part * count)[:20_000] for part, count in parts)
)


@settings(max_examples=60, deadline=None)
@given(flags_of_all_kinds, long_texts, st.integers(0, 600))
@example((True, None, True, True), "a" * (LONG_TEXT_CHARS - 3) + "[SEP]" + "b" * LONG_TEXT_CHARS, 1)
@example((True, None, True, True), "é" * (LONG_TEXT_CHARS - 2) + "[SEP]" + "é" * LONG_TEXT_CHARS, 1)
@example((True, None, True, True), "a" * 3 * LONG_TEXT_CHARS + "[SEP]bb", 0)
@example((True, None, True, True), "a" + "\x00" * 2 * LONG_TEXT_CHARS + "b", 0)
@example((True, None, True, True), "a" * 150 + "\u00a0" * 2 * LONG_TEXT_CHARS + "b", 5)
@example((True, None, True, True), "中文" * LONG_TEXT_CHARS + " the end" * 2_000, 9_000)
@example((False, False, False, True), "中" * 150 + "\u3000" * 2 * LONG_TEXT_CHARS + "b", 500)
def test_a_limit_keeps_an_exact_prefix(flags: Flags, text: str, limit: int) -> None:
    encoder = shared_encoder(flags)
    [expected] = ids_of(shared_tokenizer(flags), [text])
    [whole, first] = as_lists([*encoder.encode([text]), *encoder.encode([text], limit)])
    assert whole == expected
    assert first == expected[: len(first)]
    assert len(first) > limit or first == expected


@pytest.mark.parametrize("added", [(), SPECIALS, ("x[Q]", "<|doc|>")])
def test_words_that_end_near_the_end_of_a_window_are_whole(added: tuple[str, ...]) -> None:
    tokenizer = bert_tokenizer(added=added)
    encoder = text_encoder(tokenizer, seen_passages_bytes=0)
    assert isinstance(encoder, WordPieceEncoder)
    batch = [
        long_word + space * (length - len(long_word)) + end
        for long_word in ("é" * 150, "a")
        for space in ("\u00a0", "x", "é")
        for length in (
            LONG_TEXT_CHARS - 7,
            LONG_TEXT_CHARS - 6,
            LONG_TEXT_CHARS - 3,
            LONG_TEXT_CHARS,
        )
        for end in ("b" * 20, "x[Q]b" + "." * 20)
    ]
    assert as_lists(encoder.encode(batch)) == ids_of(tokenizer, batch)


@pytest.mark.parametrize("part", ["the passage ", "中文", "aGVsbG8/", "[SEP]", "a", " "])
def test_the_first_ids_of_a_huge_text_come_without_the_rest(part: str) -> None:
    text = part * (10_000_000 // len(part))
    encoder = text_encoder(shared_tokenizer((True, None, True, True)))
    [first] = encoder.encode([text], 511)
    assert len(first) <= LONG_TEXT_CHARS
    assert first.tolist() == encoder.encode([text[:600_000]])[0][: len(first)].tolist()


@pytest.mark.skipif(not EMBEDDED.exists(), reason="the embedded model is not in this checkout")
@settings(max_examples=200, deadline=None)
@given(st.lists(texts, max_size=5))
def test_ids_equal_the_tokenizers_with_the_vocabulary_of_the_embedded_model(
    batch: list[str],
) -> None:
    tokenizer, encoder = embedded()
    assert as_lists(encoder.encode(batch)) == ids_of(tokenizer, batch)


@functools.cache
def embedded() -> tuple[Tokenizer, WordPieceEncoder]:
    tokenizer = Tokenizer.from_file(str(EMBEDDED))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoder = text_encoder(tokenizer, seen_passages_bytes=0)
    assert isinstance(encoder, WordPieceEncoder)
    return tokenizer, encoder


def test_special_tokens_in_text_follow_the_tokenizers_own_setting() -> None:
    tokenizer = bert_tokenizer()
    tokenizer.encode_special_tokens = True
    batch = ["the [SEP] passage", "[MASK]"]
    assert as_lists(text_encoder(tokenizer).encode(batch)) == ids_of(tokenizer, batch)
    assert ids_of(tokenizer, batch) != ids_of(bert_tokenizer(), batch)


def test_the_callers_tokenizer_is_neither_changed_nor_obeyed_in_its_truncation() -> None:
    tokenizer = bert_tokenizer()
    expected = ids_of(tokenizer, ["the passage of cafe", "a"])
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=7)
    before = tokenizer.to_str()
    encoder = text_encoder(tokenizer)
    assert as_lists(encoder.encode(["the passage of cafe", "a"])) == expected
    assert tokenizer.to_str() == before
    tokenizer.add_tokens(["passage"])
    assert as_lists(encoder.encode(["the passage of cafe", "a"])) == expected

"""Ids of `text_encoder` against those of the tokenizer itself, which is the oracle throughout."""

from __future__ import annotations

import functools
import itertools
import random
import string
import sys
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

import rerank_plugins
from rerank_plugins.cross_encoder.batches import IntArray
from rerank_plugins.cross_encoder.tokens.encoders import (
    REMEMBERED_CHARS,
    RememberingEncoder,
    TokenizerEncoder,
    text_encoder,
)
from rerank_plugins.cross_encoder.tokens.wordpiece import (
    MAX_WORDS,
    WINDOW_CHARS,
    WordPieceEncoder,
)
from rerank_plugins.errors import InvalidArgumentError, UnsupportedModelError

EMBEDDED = Path(rerank_plugins.__file__).parent / "embedded" / "tokenizer.json"
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Every character that Unicode calls white space or a line end, or that Python or C calls so.
SPACES = "".join(c for c in map(chr, range(sys.maxunicode)) if c.isspace()) + "\u200b\u180e\ufeff"
WORDS = (
    "the The cross encoder Encoder passage cafe café naive 1990 of a A b x z 中 文 字 한 ο σ ς "
    "i I ı ß ss fi ﬁ é e\u0301 ا \u0915\u093f , . - [ ] ' … — 。 ! ~ SEP sep mask"
).split()
PIECES = "##s ##er ##é ##e ##a ##b ##z ##0 ##9 ##σ ##ο ##\u0301 ##ᅡ ##code ##r ##x ##A ##ı".split()

# (lowercase, strip_accents, clean_text, handle_chinese_chars)
Flags = tuple[bool, bool | None, bool, bool]
EVERY_FLAGS: list[Flags] = list(
    itertools.product((True, False), (None, True, False), (True, False), (True, False))
)


def bert_tokenizer(
    lowercase: bool = True,
    strip_accents: bool | None = None,
    clean_text: bool = True,
    handle_chinese_chars: bool = True,
    added: Sequence[str] = SPECIALS,
) -> Tokenizer:
    tokens = dict.fromkeys([*SPECIALS, *WORDS, *PIECES, *string.ascii_lowercase])
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=clean_text,
        handle_chinese_chars=handle_chinese_chars,
        strip_accents=strip_accents,
        lowercase=lowercase,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(added))
    return tokenizer


@functools.cache
def shared_tokenizer(flags: Flags) -> Tokenizer:
    return bert_tokenizer(*flags)


@functools.cache
def shared_encoder(flags: Flags) -> WordPieceEncoder:
    """One encoder for all examples of a property: what it learned from one must serve the next."""
    encoder = text_encoder(shared_tokenizer(flags), seen_passages_bytes=0)
    assert isinstance(encoder, WordPieceEncoder)
    return encoder


def ids_of(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [e.ids for e in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def as_lists(rows: Sequence[IntArray]) -> list[list[int]]:
    assert all(row.dtype == np.int32 for row in rows)
    return [row.tolist() for row in rows]


characters = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.characters(max_codepoint=0x7F),
    st.characters(categories=["Mn", "Mc", "Me", "Cf", "Cc", "Zs", "Zl", "Zp"]),
    st.sampled_from(SPACES),
    st.sampled_from("中文字한글가ΣσςİıKÅß＃…—。、ﬁǅẞ\u0301\u0323\u200d\ufffd\x00\x7f"),
)
fragments = st.one_of(
    st.text(characters, max_size=8),
    st.sampled_from([*WORDS, *SPECIALS, *(s.lower() for s in SPECIALS), "[SE", "P]", "[", "]"]),
    st.sampled_from([" ", "\n", "\t", "\r", "  ", ", ", ". "]),
    st.builds(
        lambda letters, count: (letters * count)[:count],
        st.sampled_from(["a", "ab", "é", "e\u0301", "中", "a\u200d", "aB", "한"]),
        st.integers(97, 104),
    ),
)
texts = st.lists(fragments, max_size=12).map("".join)
flags_of_all_kinds = st.sampled_from(EVERY_FLAGS)


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
@example((True, None, True, True), "a" * (WINDOW_CHARS - 3) + "[SEP]" + "b" * WINDOW_CHARS, 1)
@example((True, None, True, True), "é" * (WINDOW_CHARS - 2) + "[SEP]" + "é" * WINDOW_CHARS, 1)
@example((True, None, True, True), "a" * 3 * WINDOW_CHARS + "[SEP]bb", 0)
@example((True, None, True, True), "a" + "\x00" * 2 * WINDOW_CHARS + "b", 0)
@example((True, None, True, True), "a" * 150 + "\u00a0" * 2 * WINDOW_CHARS + "b", 5)
@example((False, False, False, True), "中" * 150 + "\u3000" * 2 * WINDOW_CHARS + "b", 500)
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
        for length in (WINDOW_CHARS - 7, WINDOW_CHARS - 6, WINDOW_CHARS - 3, WINDOW_CHARS)
        for end in ("b" * 20, "x[Q]b" + "." * 20)
    ]
    assert as_lists(encoder.encode(batch)) == ids_of(tokenizer, batch)


@pytest.mark.parametrize("part", ["the passage ", "中文", "aGVsbG8/", "[SEP]", "a", " "])
def test_the_first_ids_of_a_huge_text_come_without_the_rest(part: str) -> None:
    text = part * (10_000_000 // len(part))
    encoder = text_encoder(shared_tokenizer((True, None, True, True)))
    [first] = encoder.encode([text], 511)
    assert len(first) <= WINDOW_CHARS
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


def word_level() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "cafe": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def byte_pairs() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: index for index, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    return tokenizer


def other_prefix() -> Tokenizer:
    tokenizer = bert_tokenizer()
    vocabulary = {token: i for i, token in enumerate(["[UNK]", "the", "@@s", *"abcde", "##s"])}
    tokenizer.model = models.WordPiece(
        vocabulary, unk_token="[UNK]", continuing_subword_prefix="@@"
    )
    return tokenizer


def with_added(token: AddedToken) -> Tokenizer:
    tokenizer = bert_tokenizer()
    tokenizer.add_tokens([token])
    return tokenizer


def other_pre_tokenizer() -> Tokenizer:
    tokenizer = bert_tokenizer()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def other_normalizer() -> Tokenizer:
    tokenizer = bert_tokenizer()
    tokenizer.normalizer = normalizers.Sequence([normalizers.BertNormalizer()])
    return tokenizer


UNPROVEN = {
    "word level": word_level(),
    "byte pairs": byte_pairs(),
    "another prefix": other_prefix(),
    "another pre-tokenizer": other_pre_tokenizer(),
    "another normalizer": other_normalizer(),
    "added word": with_added(AddedToken("passage", normalized=False)),
    "added across a space": with_added(AddedToken("[of the]", normalized=False)),
    "added that takes spaces": with_added(AddedToken("[X]", lstrip=True, normalized=False)),
    "added as a single word": with_added(AddedToken("[X]", single_word=True, normalized=False)),
    "added to normalized text": with_added(AddedToken("[É]", normalized=True)),
}


@pytest.mark.parametrize("name", UNPROVEN)
def test_a_tokenizer_that_was_not_proven_is_asked_for_everything(name: str) -> None:
    tokenizer = UNPROVEN[name]
    encoder = text_encoder(tokenizer, seen_passages_bytes=0)
    assert isinstance(encoder, TokenizerEncoder)
    batch = [
        "the cafes [of the]  [X]x passage",
        "É [É] [é]",
        "",
        "thepassages the @@s",
        "中文 " * 50,
    ]
    assert as_lists(encoder.encode(batch)) == ids_of(tokenizer, batch)


def test_a_special_token_that_was_added_stays_proven() -> None:
    tokenizer = bert_tokenizer()
    tokenizer.add_special_tokens(["[Query 1]".replace(" ", "-"), "<|doc|>"])
    encoder = text_encoder(tokenizer, seen_passages_bytes=0)
    assert isinstance(encoder, WordPieceEncoder)
    batch = ["the [Query-1]cafe[query-1] <|doc|", "<|doc|><|DOC|>", "the <|doc |>"]
    assert as_lists(encoder.encode(batch)) == ids_of(tokenizer, batch)


def test_a_tokenizer_that_cannot_be_saved_is_refused_by_name() -> None:
    class Custom:
        def pre_tokenize(self, pretok: object) -> None: ...

    tokenizer = bert_tokenizer()
    tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Custom())
    with pytest.raises(UnsupportedModelError, match=r"tokenizer\.json"):
        text_encoder(tokenizer)


@pytest.mark.parametrize("tokenizer", [bert_tokenizer(), byte_pairs()], ids=["proven", "unproven"])
@pytest.mark.parametrize("padding", ["", " the" * WINDOW_CHARS], ids=["short", "long"])
def test_half_a_character_is_refused_with_its_place(tokenizer: Tokenizer, padding: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"'\\udcff' at character 4"):
        text_encoder(tokenizer).encode(["fine", "cafe\udcff" + padding])


def test_ids_are_read_only_since_callers_share_them() -> None:
    encoder = text_encoder(bert_tokenizer())
    [first] = encoder.encode(["the passage"])
    [again] = encoder.encode(["the passage"])
    assert first is again
    with pytest.raises(ValueError, match="read-only"):
        again[0] = 7


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

    def encode(self, texts: Sequence[str], limit: int | None = None) -> list[IntArray]:
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
    huge = "x" * (REMEMBERED_CHARS + 1)
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

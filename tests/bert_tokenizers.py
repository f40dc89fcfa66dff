"""BERT tokenizers of every kind with a small vocabulary, and texts that are hard on them."""

from __future__ import annotations

import functools
import itertools
import string
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

import rerank_plugins
from rerank_plugins.cross_encoder.pairs import TokenIds
from rerank_plugins.cross_encoder.tokens.encoders import (
    text_encoder,
)
from rerank_plugins.cross_encoder.tokens.wordpiece import (
    WordPieceEncoder,
)

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


def as_lists(rows: Sequence[TokenIds]) -> list[list[int]]:
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

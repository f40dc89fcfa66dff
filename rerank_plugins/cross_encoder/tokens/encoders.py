"""Texts in, token ids out, without special tokens: the ids that the tokenizer itself would give.

`text_encoder` returns the quickest encoder that is proven for a tokenizer: `WordPieceEncoder`
for BERT's, `TokenizerEncoder` for every other, with `RememberingEncoder` around either.

All of them may be called from several threads. They share a tokenizer that nothing writes to, and
dicts of values that never change, read and written by single operations. Two threads that miss
the same text both look it up, and both store the same ids.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import tokenizers

from rerank_plugins.checks import utf8
from rerank_plugins.cross_encoder.pairs import TokenIds
from rerank_plugins.cross_encoder.tokens.texts import (
    LONG_TEXT_CHARS,
    frozen,
    joint_groups,
)
from rerank_plugins.cross_encoder.tokens.wordpiece import WordPieceEncoder, WordPieceRules
from rerank_plugins.errors import InvalidArgumentError, UnsupportedModelError

# About 50,000 passages of a hundred tokens, of which half are surely there when they come again in
# turn. A process reaches the bound, and with it its full size, soon after it has begun to work.
SEEN_PASSAGES_BYTES = 64 * 1024 * 1024
# What a remembered passage takes beside its characters and its ids: an array, a dict entry.
PASSAGE_OVERHEAD_BYTES = 240


class TextEncoder(Protocol):
    """Turns texts into the ids of their tokens."""

    def encode(self, texts: Sequence[str], limit: int | None = None) -> list[TokenIds]:
        """Return the ids of each text, without special tokens, as read-only arrays.

        With ``limit``, the ids of a text of more than ``LONG_TEXT_CHARS`` may stop early, after
        more than ``limit`` of them.
        """


def text_encoder(
    tokenizer: tokenizers.Tokenizer, *, seen_passages_bytes: int = SEEN_PASSAGES_BYTES
) -> TextEncoder:
    """Return the encoder that is proven for ``tokenizer``; it works on a copy.

    ``seen_passages_bytes`` bounds the memory for the ids of passages seen before; 0 keeps none.
    """
    if seen_passages_bytes < 0:
        raise InvalidArgumentError(
            f"seen_passages_bytes must be 0 or more, got {seen_passages_bytes}"
        )
    try:
        state = tokenizer.to_str()
    except Exception as error:  # tokenizers raises nothing narrower
        raise UnsupportedModelError(
            f"the tokenizer cannot be copied: {error}; only one that can be saved as a "
            "tokenizer.json is supported"
        ) from error
    own = tokenizers.Tokenizer.from_str(state)
    own.no_truncation()
    own.no_padding()
    own.encode_special_tokens = tokenizer.encode_special_tokens  # not in the saved state
    rules = WordPieceRules.of(json.loads(state))
    encoder: TextEncoder = TokenizerEncoder(own) if rules is None else WordPieceEncoder(own, rules)
    return RememberingEncoder(encoder, seen_passages_bytes) if seen_passages_bytes else encoder


class TokenizerEncoder:
    """The ids of whole texts, asked of the tokenizer. It never stops early."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str], limit: int | None = None) -> list[TokenIds]:
        rows: list[TokenIds] = []
        for group in joint_groups(texts):
            for text in group:
                utf8(text)
            encodings = self._tokenizer.encode_batch_fast(group, add_special_tokens=False)
            rows += (frozen(np.array(encoding.ids, np.int32)) for encoding in encodings)
        return rows


class RememberingEncoder:
    """Remembers what ``encoder`` answered for the texts seen last, by content.

    Takes at most ``max_bytes``, the texts included, in two halves: when the newer half is full it
    becomes the older one, and the older one goes. A text found in the older half moves to the
    newer. Texts above ``LONG_TEXT_CHARS`` are left to ``encoder``; of all others, it is asked
    for every id.
    """

    def __init__(self, encoder: TextEncoder, max_bytes: int) -> None:
        self._encoder = encoder
        self._half_bytes = max_bytes // 2
        self._newer: dict[str, TokenIds] = {}
        self._older: dict[str, TokenIds] = {}
        self._newer_bytes = 0
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str], limit: int | None = None) -> list[TokenIds]:
        newer, older = self._newer, self._older
        rows = list(map(newer.get, texts))
        missed = [index for index, ids in enumerate(rows) if ids is None]
        if missed:
            found = {texts[index]: older.get(texts[index]) for index in missed}
            new = [text for text, ids in found.items() if ids is None]
            short = [text for text in new if len(text) <= LONG_TEXT_CHARS]
            found.update(zip(short, self._encoder.encode(short), strict=True))
            if len(short) < len(new):
                long = [text for text in new if len(text) > LONG_TEXT_CHARS]
                found.update(zip(long, self._encoder.encode(long, limit), strict=True))
            for index in missed:
                rows[index] = found[texts[index]]
            self._remember(found)
        return [ids for ids in rows if ids is not None]

    def _remember(self, found: dict[str, TokenIds | None]) -> None:
        # Not to remember costs less than to wait, and a process that was forked while another
        # thread held the lock goes on.
        if not self._lock.acquire(blocking=False):
            return
        try:
            for text, ids in found.items():
                if ids is None or len(text) > LONG_TEXT_CHARS or text in self._newer:
                    continue
                n_bytes = sys.getsizeof(text) + ids.nbytes + PASSAGE_OVERHEAD_BYTES
                if n_bytes > self._half_bytes:
                    continue
                if self._newer_bytes + n_bytes > self._half_bytes:
                    self._older, self._newer, self._newer_bytes = self._newer, {}, 0
                self._newer[text] = ids
                self._newer_bytes += n_bytes
        finally:
            self._lock.release()

"""The ids of BERT tokenizers from a dict of words, equal to the tokenizer's own on any text."""

from __future__ import annotations

import itertools
import re
import string
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tokenizers

from rerank_plugins.checks import utf8
from rerank_plugins.cross_encoder.pairs import TokenIds
from rerank_plugins.cross_encoder.tokens.texts import (
    LONG_TEXT_CHARS,
    frozen,
    joint_groups,
)

# Words beyond the vocabulary are remembered up to this number, and forgotten together when it is
# reached. Words of more bytes are not remembered. At most 550 bytes each, 36 MB in all; words of
# English take a third of that.
MAX_WORDS = 65_536
MAX_WORD_BYTES = 64

# No text has this byte in UTF-8, so as a word it can mark where one text ends.
END_OF_TEXT = b"\xff"
END_ID = -1
PUNCTUATION = tuple(mark.encode() for mark in string.punctuation)
SPACED_PUNCTUATION = tuple((mark, b" %b " % mark) for mark in PUNCTUATION)
WHITESPACE = " \t\n\r"
SPACE = re.compile(f"[{WHITESPACE}]")
_NO_IDS = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class WordPieceRules:
    """What `WordPieceEncoder` has to know of a BERT tokenizer."""

    vocabulary: dict[str, int]
    unknown_id: int
    max_word_chars: int
    lowercase: bool
    clean_text: bool
    added: tuple[str, ...]

    @classmethod
    def of(cls, state: dict[str, Any]) -> WordPieceRules | None:
        """Return the rules in a ``tokenizer.json``, or None where the encoder is not proven."""
        normalizer = state["normalizer"] or {}
        pre_tokenizer = state["pre_tokenizer"] or {}
        model = state["model"]
        if (
            normalizer.get("type") != "BertNormalizer"
            or pre_tokenizer.get("type") != "BertPreTokenizer"
            or model.get("type") != "WordPiece"
            or model["continuing_subword_prefix"] != "##"
            or model["unk_token"] not in model["vocab"]
        ):
            return None
        # Added tokens have to be found in the text as it stands, wherever they stand, never across
        # whitespace, and never all within a run of letters and digits.
        flags = ("single_word", "lstrip", "rstrip", "normalized")
        added = tuple(token["content"] for token in state["added_tokens"])
        if any(token[flag] for token in state["added_tokens"] for flag in flags) or any(
            content.split() != [content] or content.isalnum() for content in added
        ):
            return None
        return cls(
            vocabulary=model["vocab"],
            unknown_id=model["vocab"][model["unk_token"]],
            max_word_chars=model["max_input_chars_per_word"],
            lowercase=normalizer["lowercase"],
            clean_text=normalizer["clean_text"],
            added=added,
        )


class WordPieceEncoder:
    """Cuts texts into words and looks up the ids of each.

    The cuts are at ASCII whitespace and around ASCII punctuation, where BERT cuts too, whatever
    stands beside them. ASCII letters are lower-cased and ASCII control characters dropped first,
    which BERT does to one character at a time. All else is left in the words. A word of ASCII
    letters and digits is cut into its longest pieces here; the tokenizer is asked for any other.
    A text that holds an added token such as ``[SEP]``, in any case of letters, is asked whole.

    Keeps the ASCII part of the vocabulary and at most ``MAX_WORDS`` words more in a dict.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, rules: WordPieceRules) -> None:
        self._tokenizer = tokenizer
        self._rules = rules
        upper = string.ascii_uppercase.encode() if rules.lowercase else b""
        self._lowered = bytes.maketrans(upper, upper.lower())
        controls = bytes({*range(32), 127}.difference(WHITESPACE.encode()))
        self._dropped = controls if rules.clean_text else b""
        self._added = tuple(self._clean(content.encode()) for content in rules.added)
        self._added_starts = {content[:1] for content in self._added}
        self._longest_added = max(map(len, rules.added), default=0)
        self._unknown = _as_bytes([rules.unknown_id])
        self._first: dict[bytes, bytes] = {}
        self._later: dict[bytes, bytes] = {}
        for token, token_id in rules.vocabulary.items():
            is_later = len(token) > 2 and token.startswith("##")
            piece = (token[2:] if is_later else token).encode()
            if len(piece) <= rules.max_word_chars and (piece.isalnum() or piece in PUNCTUATION):
                (self._later if is_later else self._first)[piece] = _as_bytes([token_id])
        self._longest_first = max(map(len, self._first), default=0)
        self._longest_later = max(map(len, self._later), default=0)
        self._forget()

    def encode(self, texts: Sequence[str], limit: int | None = None) -> list[TokenIds]:
        short = [text for text in texts if len(text) <= LONG_TEXT_CHARS]
        rows = itertools.chain.from_iterable(map(self._joint, joint_groups(short)))
        if len(short) == len(texts):
            return list(rows)
        return [
            next(rows) if len(text) <= LONG_TEXT_CHARS else self._long(text, limit)
            for text in texts
        ]

    def _forget(self) -> None:
        self._words = {**self._first, END_OF_TEXT: _as_bytes([END_ID])}

    def _clean(self, text: bytes) -> bytes:
        return text.translate(self._lowered, self._dropped)

    def _joint(self, texts: list[str]) -> list[TokenIds]:
        """Return the ids of all ``texts``, in one pass over them joined."""
        joined = self._clean((b" %b " % END_OF_TEXT).join([*map(utf8, texts), b""]))
        # A byte is found thirty times as fast as a token, and few texts have a "[".
        if any(start in joined for start in self._added_starts) and any(
            content in joined for content in self._added
        ):
            if len(texts) > 1:
                return [self._joint([text])[0] for text in texts]
            ids = self._tokenizer.encode(texts[0], add_special_tokens=False).ids
            return [frozen(np.array(ids, np.int32))]
        for mark, spaced in SPACED_PUNCTUATION:
            joined = joined.replace(mark, spaced)
        flat = np.frombuffer(b"".join(self._ids(joined.split())), np.int32)
        rows, start = [], 0
        for end in np.flatnonzero(flat == END_ID).tolist():
            rows.append(frozen(flat[start:end].copy()))
            start = end + 1
        return rows

    def _ids(self, words: list[bytes]) -> list[bytes]:
        """Return the ids of each word."""
        known = list(map(self._words.get, words))
        if all(known):  # quicker than to look for None, and few words have no ids at all
            return known  # type: ignore[return-value]
        learned = self._learn({word for word, ids in zip(words, known, strict=True) if ids is None})
        return [
            learned[word] if ids is None else ids for word, ids in zip(words, known, strict=True)
        ]

    def _learn(self, words: set[bytes]) -> dict[bytes, bytes]:
        """Return the ids of ``words``, and remember them."""
        learned = {word: self._pieces(word) for word in words if word.isalnum()}
        others = [word for word in words if word not in learned]
        if others:
            encodings = self._tokenizer.encode_batch_fast(
                [word.decode() for word in others], add_special_tokens=False
            )
            learned.update(
                (word, _as_bytes(encoding.ids))
                for word, encoding in zip(others, encodings, strict=True)
            )
        kept = {word: ids for word, ids in learned.items() if len(word) <= MAX_WORD_BYTES}
        if len(self._words) + len(kept) > len(self._first) + MAX_WORDS:
            self._forget()
        self._words.update(kept)
        return learned

    def _pieces(self, word: bytes) -> bytes:
        """Return the ids of the longest pieces of ``word``, which is ASCII letters and digits."""
        n_chars = len(word)
        if n_chars > self._rules.max_word_chars:
            return self._unknown
        ids, start, pieces, longest = [], 0, self._first, self._longest_first
        while start < n_chars:
            for end in range(min(n_chars, start + longest), start, -1):
                piece = pieces.get(word[start:end])
                if piece is not None:
                    break
            else:
                return self._unknown
            ids.append(piece)
            start, pieces, longest = end, self._later, self._longest_later
        return b"".join(ids)

    def _long(self, text: str, limit: int | None) -> TokenIds:
        """Return the ids of ``text``, or with ``limit`` more than that many of the first ones."""
        parts: list[TokenIds] = []
        n_ids = start = 0
        while start < len(text) and (limit is None or n_ids <= limit):
            end = start + LONG_TEXT_CHARS
            if end < len(text):
                end = 1 + max(text.rfind(space, start, end) for space in WHITESPACE)
            if end > start:
                part = self._joint([text[start:end]])[0]
            else:  # a window without ASCII whitespace, such as Chinese
                end = start + LONG_TEXT_CHARS
                part = self._certain(text[start:end]) if limit is not None else _NO_IDS
                if limit is None or n_ids + len(part) <= limit:
                    space = SPACE.search(text, end)
                    end = len(text) if space is None else space.end()
                    part = self._joint([text[start:end]])[0]
            parts.append(part)
            n_ids += len(part)
            start = end
        return frozen(np.concatenate(parts))

    def _certain(self, window: str) -> TokenIds:
        """Return the ids of ``window`` that hold whatever text comes after it.

        Left out are its last word, which may go on, and the words in which an added token may
        begin that ends after the window.
        """
        encoding = self._tokenizer.encode(window, add_special_tokens=False)
        words, n_chars = encoding.word_ids, len(window) - self._longest_added
        for word, (_, end) in zip(words, encoding.offsets, strict=True):
            if word == words[-1] or end > n_chars:
                return np.array(encoding.ids[: words.index(word)], np.int32)
        return _NO_IDS


def _as_bytes(ids: Iterable[int]) -> bytes:
    return array("i", ids).tobytes()

"""The ids of BERT tokenizers from a dict of words, equal to the tokenizer's own on any text."""

from __future__ import annotations

import itertools
import re
import string
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers

from rerank_plugins.cross_encoder.pairs import TokenIds
from rerank_plugins.cross_encoder.tokens.rules import WordPieceRules
from rerank_plugins.cross_encoder.tokens.texts import (
    LONG_TEXT_CHARS,
    frozen,
    joint_groups,
    utf8,
)
from rerank_plugins.cross_encoder.tokens.word_table import (
    END_ID,
    END_OF_TEXT,
    LARGEST_ID,
    WordTable,
)

# Words beyond the vocabulary are remembered up to this number, and forgotten together when it is
# reached. Words of more bytes are not remembered. At most 550 bytes each, 36 MB in all; words of
# English take a third of that. A table of the short ones comes to 13 MB at most.
MAX_WORDS = 65_536
MAX_WORD_BYTES = 64
# Shorter texts are through the dict before NumPy has begun.
TABLE_BYTES = 4_096

PUNCTUATION = tuple(mark.encode() for mark in string.punctuation)
SPACED_PUNCTUATION = tuple((mark, b" %b " % mark) for mark in PUNCTUATION)
WHITESPACE = " \t\n\r"
ALPHANUMERIC = re.compile("[0-9A-Za-z]*")
SPACE = re.compile(f"[{WHITESPACE}]")


class WordPieceEncoder:
    """Cuts texts into words and looks up the ids of each.

    The cuts are at ASCII whitespace and around ASCII punctuation, where BERT cuts too, whatever
    stands beside them. ASCII letters are lower-cased and ASCII control characters dropped first,
    which BERT does to one character at a time. All else is left in the words. A word of ASCII
    letters and digits is cut into its longest pieces here; the tokenizer is asked for any other.
    A text that holds an added token such as ``[SEP]``, in any case of letters, is asked whole.

    Keeps the ASCII part of the vocabulary and at most ``MAX_WORDS`` words more in a dict, and the
    short ones of these in a `WordTable`, which larger texts are looked up in.
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
        # Of words that were known when it was made. Their ids never change, so it is never wrong.
        has_table = max(rules.vocabulary.values()) <= LARGEST_ID
        self.table = WordTable(self._words.items()) if has_table else None
        self._n_asked = 0  # words that might have been in the table

    def encode(self, texts: Sequence[str], limit: int | None = None) -> list[TokenIds]:
        short = [text for text in texts if len(text) <= LONG_TEXT_CHARS]
        rows = itertools.chain.from_iterable(map(self._joint, joint_groups(short)))
        if len(short) == len(texts):
            return list(rows)
        return [
            next(rows) if len(text) <= LONG_TEXT_CHARS else self._long(text, limit)
            for text in texts
        ]

    def part_end(self, text: str, start: int, n_chars: int) -> int:
        end = start + n_chars
        if end >= len(text):
            return len(text)
        before = max(text.rfind(space, start, end) for space in WHITESPACE)
        if before >= 0:
            return before + 1
        after = SPACE.search(text, end)
        return len(text) if after is None else after.end()

    def _forget(self) -> None:
        self._words = {**self._first, END_OF_TEXT: _as_bytes([-1])}

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
        flat, ends = self._ids_and_ends(joined)
        rows, start = [], 0
        for end in ends.tolist():
            rows.append(frozen(flat[start:end].astype(np.int32)))
            start = end + 1
        return rows

    def _ids_and_ends(
        self, joined: bytes
    ) -> tuple[npt.NDArray[np.integer[Any]], npt.NDArray[np.int64]]:
        """Return the ids of all words of ``joined``, and where the texts end among them."""
        table = self.table
        # In a table, a word of zero bytes would be none.
        if table is not None and len(joined) >= TABLE_BYTES and b"\0" not in joined:
            in_table, n_asked = table.ids(joined, self._ids)
            self._n_asked += n_asked
            if self._n_asked > len(self._words):  # which cost about as much as a new table
                self._n_asked = 0
                self.table = WordTable(list(self._words.items()))
            return in_table, np.flatnonzero(in_table == END_ID)
        for mark, spaced in SPACED_PUNCTUATION:
            joined = joined.replace(mark, spaced)
        flat = np.frombuffer(b"".join(self._ids(joined.split())), np.int32)
        return flat, np.flatnonzero(flat == -1)

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
        parts: list[TokenIds] = []
        n_ids = start = 0
        while start < len(text) and (limit is None or n_ids <= limit):
            end = start + LONG_TEXT_CHARS
            if end < len(text):
                end = 1 + max(text.rfind(space, start, end) for space in WHITESPACE)
            if end > start:
                part, start = self._joint([text[start:end]])[0], end
            else:
                part, start = self._first_words(text, start)
            parts.append(part)
            n_ids += len(part)
        return frozen(np.concatenate(parts))

    def _first_words(self, text: str, start: int) -> tuple[TokenIds, int]:
        """Return the ids of some words of ``text`` from ``start`` on, and where the next begins.

        For a window without ASCII whitespace, such as Chinese. The tokenizer is asked for it; the
        last word may go on after it, and in its last characters an added token may begin.
        """
        too_long = self._rules.filler * (self._rules.max_word_chars + 1)
        head, n_chars = "", LONG_TEXT_CHARS
        while True:
            window = head + text[start : start + n_chars]
            encoding = self._tokenizer.encode(window, add_special_tokens=False)
            ids = np.array(encoding.ids, np.int32)
            if start + n_chars >= len(text):
                return ids, len(text)
            certain = len(window) - self._longest_added
            if not len(ids):
                return ids, start + certain
            words, offsets = encoding.word_ids, encoding.offsets
            n_certain = words.index(
                next(
                    word
                    for word, (_, end) in zip(words, offsets, strict=True)
                    if end > certain or word == words[-1]
                )
            )
            if n_certain:
                return ids[:n_certain], start + offsets[n_certain][0] - len(head)
            end = max(
                end for word, (_, end) in zip(words, offsets, strict=True) if word == words[0]
            )
            word = self._tokenizer.normalizer.normalize_str(window[:certain]).strip()
            if end > certain and len(word) >= len(too_long):
                # The rest of a word that is already too long to be known cannot change its id,
                # so any word as long may stand for what was read of it.
                start += certain - len(head)
                run = ALPHANUMERIC.match(text, start)
                if run is not None:
                    start = max(start, run.end() - self._longest_added)
                head = too_long
            else:
                n_chars *= 2


def _as_bytes(ids: Iterable[int]) -> bytes:
    return array("i", ids).tobytes()

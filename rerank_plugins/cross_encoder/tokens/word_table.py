"""The ids of short words, found by NumPy for all words of a text at once.

A dict of bytes makes an object of each word and asks it of memory all over the place, with the
interpreter's lock held. Here a word is two integers, and what is done to it is done to all words of
some passages in one operation, most of it without that lock.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Ids = npt.NDArray[np.uint16]

# No text has this byte in UTF-8, so that as a word it is never part of one.
END_OF_TEXT = b"\xff"
# A word of more bytes, or of more ids, is not in a table. Few of any language's are.
WORD_BYTES = 16
WORD_IDS = 4
# A table has room for this many words a word, and a word stands at most this far from its place.
ROOM = 3
REACH = 8

# In the place of ids. Vocabularies that have tables are smaller.
END_ID = 0xFFFF
_NO_ID = 0xFFFE
_ASKED_ID = 0xFFFD
LARGEST_ID = 0xFFFC

# What a byte is: part of a word (1), a word of its own (2), or neither (0).
_KINDS = bytes(
    2 if byte in string.punctuation.encode() + END_OF_TEXT else 0 if bytes([byte]).isspace() else 1
    for byte in range(256)
)
# The bytes of a word, by its length. The last one is of all longer words: no word has none.
_MASKS = np.frombuffer(
    b"".join((b"\xff" * length).ljust(WORD_BYTES, b"\0") for length in [*range(WORD_BYTES + 1), 0]),
    np.uint64,
).reshape(-1, 2)
_UNKNOWN = np.array([_ASKED_ID, _NO_ID, _NO_ID, _NO_ID], np.uint16).view(np.uint64)[0]


class WordTable:
    """What some words' ids are. Never changes, so any number of threads may read it.

    ``words`` are pairs of a word and its ids, as bytes of int32 up to ``LARGEST_ID``, or -1 for
    ``END_OF_TEXT``; the words that are most frequent had better come first. Those that are too
    long, or find no free row near their place, are left out. A row holds the word's bytes, then
    its ids: 24 bytes a row, 7 to 14 MB for a hundred thousand words.
    """

    def __init__(self, words: Iterable[tuple[bytes, bytes]]) -> None:
        kept = [
            (word.ljust(WORD_BYTES, b"\0"), ids)
            for word, ids in words
            if len(word) <= WORD_BYTES and len(ids) <= 4 * WORD_IDS
        ]
        keys = np.frombuffer(b"".join(word for word, _ in kept), np.uint64).reshape(-1, 2)
        counts = np.array([len(ids) // 4 for _, ids in kept], np.int64)
        values = np.full((len(kept), WORD_IDS), _NO_ID, np.uint16)
        values[np.arange(WORD_IDS) < counts[:, None]] = np.frombuffer(
            b"".join(ids for _, ids in kept), np.int32
        ).astype(np.uint16)
        n_rows = max(2, 1 << (ROOM * len(kept) - 1).bit_length())
        self._shift = np.uint64(64 - (n_rows - 1).bit_length())
        self._rows = np.zeros((n_rows + REACH, 3), np.uint64)
        self._rows[:, 1] = 1  # a free row: zero bytes, then another, are no word's and no mask's
        self._enter(keys, values.view(np.uint64)[:, 0])

    def _enter(self, keys: npt.NDArray[np.uint64], values: npt.NDArray[np.uint64]) -> None:
        places = self._places(keys)
        left = np.arange(len(keys))
        for step in range(REACH):
            rows, first = np.unique(places[left] + step, return_index=True)
            first = first[self._rows[rows, 0] == 0]
            entered = left[first]
            self._rows[places[entered] + step, :2] = keys[entered]
            self._rows[places[entered] + step, 2] = values[entered]
            left = np.delete(left, first)

    def ids(self, text: bytes, ask: Callable[[list[bytes]], list[bytes]]) -> tuple[Ids, int]:
        """Return the ids of all words of ``text``, and how many short words it had to ask for.

        ``END_OF_TEXT`` gives ``END_ID``. ``ask`` returns the ids of words that are not in the
        table. Words end at whitespace and around punctuation; ``text`` has no zero byte.
        """
        starts, lengths = _words(text)
        keys = _keys(text, starts, lengths)
        values, unknown = self._find(keys)
        every = values.view(np.uint16)
        ids: Ids = every[every != _NO_ID]
        if not len(unknown):
            return ids, 0
        words = [
            text[start : start + length]
            for start, length in zip(
                starts[unknown].tolist(), lengths[unknown].tolist(), strict=True
            )
        ]
        answers = ask(words)
        counts = np.ones(len(ids), np.int64)
        counts[ids == _ASKED_ID] = [len(answer) // 4 for answer in answers]
        ids = np.repeat(ids, counts)
        ids[ids == _ASKED_ID] = np.frombuffer(b"".join(answers), np.int32).astype(np.uint16)
        return ids, int((lengths[unknown] <= WORD_BYTES).sum())

    def _find(self, keys: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint64], Integers]:
        """Return each word's value, and which words are not there."""
        places = self._places(keys)
        rows = self._rows.take(places, axis=0)
        found = (rows[:, 0] == keys[:, 0]) & (rows[:, 1] == keys[:, 1])
        values = np.where(found, rows[:, 2], _UNKNOWN)
        left = np.flatnonzero(~found)
        for step in range(1, REACH):
            if not len(left):
                break
            rows = self._rows.take(places[left] + step, axis=0)
            found = (rows[:, :2] == keys[left]).all(axis=1)
            values[left[found]] = rows[found, 2]
            left = left[~found]
        return values, left

    def _places(self, keys: npt.NDArray[np.uint64]) -> Integers:
        # Odd constants (of xxHash): the upper bits of a product depend on all bytes of a key.
        hashes = keys[:, 0] * np.uint64(0x9E3779B185EBCA87)
        hashes ^= keys[:, 1] * np.uint64(0xC2B2AE3D27D4EB4F)
        hashes *= np.uint64(0x165667B19E3779F9)
        hashes >>= self._shift
        return hashes.view(np.int64)


def _words(text: bytes) -> tuple[Integers, Integers]:
    """Return where words start, and their lengths."""
    kinds = np.frombuffer((b" %b " % text).translate(_KINDS), np.uint8)
    before, here = kinds[:-1], kinds[1:]
    # A byte of a word starts one unless the byte before is of it; one that is a word always does.
    # As booleans, in which NumPy finds what is not zero five times as fast.
    starts = np.flatnonzero((here & ~(before & 1)) != 0)
    stops = np.flatnonzero((before & ~(here & 1)) != 0)
    return starts, stops - starts


def _keys(text: bytes, starts: Integers, lengths: Integers) -> npt.NDArray[np.uint64]:
    padded = text + bytes(WORD_BYTES)
    windows = np.ndarray(len(text) + 1, f"V{WORD_BYTES}", padded, strides=1)
    keys = windows[starts].view(np.uint64).reshape(-1, 2)
    keys &= _MASKS.take(lengths, axis=0, mode="clip")
    return keys

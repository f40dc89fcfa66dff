"""A table of words against the list that it was made of."""

from __future__ import annotations

from array import array
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_plugins.cross_encoder.tokens.word_table import (
    END_ID,
    END_OF_TEXT,
    LARGEST_ID,
    WORD_BYTES,
    WORD_IDS,
    WordTable,
)


def as_bytes(ids: list[int]) -> bytes:
    return array("i", ids).tobytes()


def never(words: list[bytes]) -> list[bytes]:
    raise AssertionError(f"{words} are in the table")


def test_words_in_the_table_are_not_asked_for() -> None:
    table = WordTable(
        [(b"the", as_bytes([7])), (b".", as_bytes([LARGEST_ID])), (END_OF_TEXT, as_bytes([-1]))]
    )
    ids, n_asked = table.ids(b" the.the \xff\t\n", never)
    assert ids.tolist() == [7, LARGEST_ID, 7, END_ID]
    assert n_asked == 0


@pytest.mark.parametrize("text", [b"", b" ", b"\n\n\n"])
def test_a_text_without_words_has_no_ids(text: bytes) -> None:
    ids, n_asked = WordTable([(b"a", as_bytes([1]))]).ids(text, never)
    assert (ids.tolist(), n_asked) == ([], 0)


def test_a_table_of_no_words_asks_for_every_one() -> None:
    ids, n_asked = WordTable([]).ids(
        b"one, two", lambda words: [as_bytes([len(word), 9]) for word in words]
    )
    assert (ids.tolist(), n_asked) == ([3, 9, 1, 9, 3, 9], 3)


def test_only_short_words_of_few_ids_are_kept() -> None:
    longest, longer = b"x" * WORD_BYTES, b"x" * (WORD_BYTES + 1)
    most, more = list(range(WORD_IDS)), list(range(WORD_IDS + 1))
    known = {
        longest: as_bytes(most),
        longer: as_bytes([5]),
        b"many": as_bytes(more),
        b"none": b"",
    }
    asked: list[bytes] = []

    def ask(words: list[bytes]) -> list[bytes]:
        asked.extend(words)
        return [known[word] for word in words]

    ids, n_asked = WordTable(known.items()).ids(b" ".join(known), ask)
    assert ids.tolist() == [*most, 5, *more]
    assert asked == [longer, b"many"]
    assert n_asked == 1  # the longer one could never be in a table


words = st.binary(min_size=1, max_size=WORD_BYTES + 2).filter(
    lambda word: (
        not set(word) & set(b"\0 \t\n\r\x0b\x0c\xff") and not set(word) & set(range(33, 128))
    )
)
some_ids = st.lists(st.integers(0, LARGEST_ID), max_size=WORD_IDS + 1)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(words, some_ids, max_size=60),
    st.dictionaries(words, some_ids, min_size=1, max_size=20),
    st.randoms(use_true_random=False),
)
def test_ids_are_those_of_each_word_in_order(
    known: dict[bytes, list[int]], unknown: dict[bytes, list[int]], random: Random
) -> None:
    every = {**unknown, **known}
    table = WordTable([(word, as_bytes(ids)) for word, ids in known.items()])
    chosen = random.choices(list(every), k=50)
    ids, _ = table.ids(b" ".join(chosen), lambda asked: [as_bytes(every[word]) for word in asked])
    assert ids.tolist() == [each for word in chosen for each in every[word]]


def test_nearly_all_of_many_words_find_a_row() -> None:
    known = {f"w{number}".encode(): as_bytes([number]) for number in range(60_000)}
    asked: list[bytes] = []

    def ask(words: list[bytes]) -> list[bytes]:
        asked.extend(words)
        return [known[word] for word in words]

    ids, n_asked = WordTable(known.items()).ids(b" ".join(known), ask)
    assert ids.tolist() == list(range(60_000))
    assert n_asked == len(asked) < 600

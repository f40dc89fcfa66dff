"""Python's documentation as passages, each about one thing where its text is long enough."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

from demo_corpus.documentation import (
    Entry,
    compiled_entries,
    source_entries,
    source_files,
    topic_entries,
)

# A symbol with fewer words shares a passage with its neighbours: one line alone says too little.
MIN_WORDS = 15
GROUP_WORDS = 60
MAX_WORDS = 180


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of documentation; ``symbols`` are the names it documents.

    ``id`` is the symbol and the number of the piece (``itertools.groupby#0``), or the first symbol
    and how many more share the passage (``str.isalnum+3``). ``title`` says what it is about.
    """

    id: str
    title: str
    symbols: tuple[str, ...]
    text: str


def read_passages() -> list[Passage]:
    """Return the passages of this Python's own documentation, the same ones at every call."""
    modules = list(_modules())
    # Written in Python and again in C, a symbol is documented twice: keep the longer text.
    longest: dict[str, Entry] = {}
    for entry in chain.from_iterable(modules):
        known = longest.get(entry.symbol)
        if known is None or len(entry.text) > len(known.text):
            longest[entry.symbol] = entry
    passages: list[Passage] = []
    for entries in modules:
        symbols = dict.fromkeys(entry.symbol for entry in entries)
        passages += _passages([longest.pop(symbol) for symbol in symbols if symbol in longest])
    return passages


def _modules() -> Iterator[list[Entry]]:
    for topic in topic_entries():
        yield [topic]
    for path in source_files():
        yield list(source_entries(path))
    yield from compiled_entries()


def _passages(entries: Sequence[Entry]) -> Iterator[Passage]:
    """Yield one passage or more for each long entry, one for every few short ones of a class."""
    short = []
    for entry in entries:
        if len(entry.text.split()) >= MIN_WORDS:
            yield from _pieces(entry)
        else:
            short.append(entry)
    for owner, siblings in groupby(short, key=lambda entry: entry.owner):
        group: list[Entry] = []
        for entry in siblings:
            group.append(entry)
            if sum(len(_shown(each).split()) for each in group) >= GROUP_WORDS:
                yield _group(owner, group)
                group = []
        if group:
            yield _group(owner, group)


def _group(owner: str, entries: Sequence[Entry]) -> Passage:
    symbols = tuple(entry.symbol for entry in entries)
    if len(symbols) == 1:
        return Passage(
            f"{symbols[0]}#0", symbols[0] + entries[0].signature, symbols, entries[0].text
        )
    names = [symbol.removeprefix(f"{owner}.") for symbol in symbols]
    title = f"{owner}: {', '.join(names)}"
    text = "\n".join(_shown(entry) for entry in entries)
    return Passage(f"{symbols[0]}+{len(symbols) - 1}", title, symbols, text)


def _pieces(entry: Entry) -> Iterator[Passage]:
    title = entry.symbol + entry.signature
    for number, body in enumerate(split_text(entry.text)):
        yield Passage(f"{entry.symbol}#{number}", title, (entry.symbol,), body)


def _shown(entry: Entry) -> str:
    return f"{entry.symbol}{entry.signature}\n{entry.text}"


def split_text(text: str) -> list[str]:
    """Split at blank lines, or at line ends where a paragraph is long, into near-equal pieces.

    Each piece has at most `MAX_WORDS` words, unless one line alone has more.
    """
    blocks: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        blocks += [paragraph] if _n_words(paragraph) <= MAX_WORDS else paragraph.splitlines()
    # Equal shares, so that no short rest is left over at the end.
    n_pieces = -(-_n_words(text) // MAX_WORDS)
    share = _n_words(text) / n_pieces if n_pieces else 0
    pieces: list[list[str]] = [[]]
    n_words = 0
    for block in blocks:
        length = _n_words(block)
        full = n_words + length / 2 > share and len(pieces) < n_pieces
        if pieces[-1] and (full or n_words + length > MAX_WORDS):
            pieces.append([])
            n_words = 0
        pieces[-1].append(block)
        n_words += length
    return ["\n".join(piece) for piece in pieces]


def _n_words(text: str) -> int:
    return len(text.split())

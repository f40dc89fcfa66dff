"""The demo's corpus: Python's documentation as passages of about 60 to 180 words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from rerank_plugins.demo.documentation import (
    Entry,
    compiled_entries,
    source_entries,
    source_files,
    topic_entries,
)

MIN_WORDS = 60
MAX_WORDS = 180

Track = Callable[[Sequence[Path], str], Iterable[Path]]


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of documentation; ``symbols`` are the names it documents.

    ``id`` is the symbol and the number of the piece (``itertools.groupby#0``), or the first symbol
    and how many more share the passage (``str.isalnum+3``), where each has a line or two.
    """

    id: str
    symbols: tuple[str, ...]
    text: str


def _untracked(files: Sequence[Path], description: str) -> Iterable[Path]:
    return files


def read_corpus(track: Track = _untracked) -> list[Passage]:
    """Return the passages of this Python's own documentation, the same ones at every call.

    ``track(files, description)`` wraps the longest loop, for whoever shows its progress.
    """
    modules = list(_modules(track))
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


def _modules(track: Track) -> Iterator[list[Entry]]:
    for topic in topic_entries():
        yield [topic]
    for path in track(source_files(), "Reading the standard library"):
        yield list(source_entries(path))
    yield from compiled_entries()


def _passages(entries: Sequence[Entry]) -> Iterator[Passage]:
    """Yield one passage or more for each long entry, and one for every few short ones."""
    groups: list[list[Entry]] = [[]]
    for entry in entries:
        if _n_words(_shown(entry)) >= MIN_WORDS:
            yield from _pieces(entry)
            continue
        if _group_words(groups[-1]) >= MIN_WORDS:
            groups.append([])
        groups[-1].append(entry)
    if len(groups) > 1 and _group_words(groups[-1]) < MIN_WORDS:
        rest = groups.pop()
        groups[-1] += rest
    yield from (_group(group) for group in groups if group)


def _group_words(entries: Sequence[Entry]) -> int:
    return sum(_n_words(_shown(entry)) for entry in entries)


def _group(entries: Sequence[Entry]) -> Passage:
    symbols = tuple(entry.symbol for entry in entries)
    name = f"{symbols[0]}+{len(symbols) - 1}" if len(symbols) > 1 else f"{symbols[0]}#0"
    return Passage(name, symbols, "\n".join(_shown(entry) for entry in entries))


def _pieces(entry: Entry) -> Iterator[Passage]:
    title = entry.symbol + entry.signature
    for number, body in enumerate(split_text(entry.text)):
        yield Passage(f"{entry.symbol}#{number}", (entry.symbol,), f"{title}\n{body}")


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

"""Runs and qrels in TREC's form: read by query, checked by line, written so that order lasts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rerank_plugins.errors import DataFormatError

__all__ = ["Candidates", "Qrels", "Run", "TrecRun", "read_qrels", "trec_lines"]

Run = dict[str, dict[str, float]]
Qrels = dict[str, dict[str, int]]
Advance = Callable[[int], None]

_RUN_FIELDS = "query_id Q0 doc_id rank score tag"
_QRELS_FIELDS = "query_id 0 doc_id relevance"
_BEIR_HEADER = ["query-id", "corpus-id", "score"]


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the first stage returned for one query, best first; ``lines`` are 1-based."""

    doc_ids: list[str]
    scores: list[float]
    lines: list[int]


class TrecRun:
    """A run file, read one query at a time: only the places of its queries are kept in memory.

    The lines of a query need not stand together. ``advance`` is called with the bytes read.
    """

    def __init__(self, path: str | Path, advance: Advance | None = None) -> None:
        self.path = Path(path)
        # query_id -> (first byte, byte after the last, first line) of each block of its lines
        self._blocks: dict[str, list[tuple[int, int, int]]] = {}
        digest = hashlib.blake2b(digest_size=16)
        last: bytes | None = None
        first_byte = first_line = end = 0
        for number, start, raw in numbered_lines(self.path, advance):
            digest.update(raw)
            fields = raw.split(maxsplit=1)
            if not fields:
                continue
            if fields[0] != last:
                self._close_block(last, first_byte, end, first_line)
                last, first_byte, first_line = fields[0], start, number
            end = start + len(raw)
        self._close_block(last, first_byte, end, first_line)
        self.digest = digest.hexdigest()

    @property
    def query_ids(self) -> list[str]:
        """The queries of the run, in order of their first lines."""
        return list(self._blocks)

    def __contains__(self, query_id: object) -> bool:
        return query_id in self._blocks

    def first_line(self, query_id: str) -> int:
        """Return the line on which the query first stands."""
        return self._blocks[query_id][0][2]

    def candidates(self, query_id: str, depth: int | None = None) -> Candidates:
        """Return the ``depth`` best candidates: by score, equal scores by the rank column.

        Raises `DataFormatError`, with file and line, for a line that is not ``query_id Q0 doc_id
        rank score tag``, a score that is not a finite number, and a document listed twice.
        """
        rows: list[tuple[float, int, int, str]] = []
        seen: dict[str, int] = {}
        with self.path.open("rb") as file:
            for first_byte, end, number in self._blocks.get(query_id, ()):
                file.seek(first_byte)
                for raw in file.read(end - first_byte).split(b"\n"):
                    if raw.strip():
                        row = self._row(raw, number)
                        if row[3] in seen:
                            raise DataFormatError(
                                f"{self.path}:{number}: document {row[3]!r} is listed again for "
                                f"query {query_id!r}, first on line {seen[row[3]]}; keep one"
                            )
                        seen[row[3]] = number
                        rows.append(row)
                    number += 1
        rows.sort(key=lambda row: (-row[0], row[1]))
        rows = rows[:depth]
        return Candidates(
            [row[3] for row in rows], [row[0] for row in rows], [row[2] for row in rows]
        )

    def _row(self, raw: bytes, number: int) -> tuple[float, int, int, str]:
        # White space is ASCII's alone: an id may hold any other character.
        fields = raw.split()
        if len(fields) != 6:
            raise _wrong_fields(self.path, number, line_fields(raw, self.path, number), _RUN_FIELDS)
        score = _number(fields[4], "score", self.path, number)
        rank = int(_number(fields[3], "rank", self.path, number))
        return score, rank, number, decoded(fields[2], self.path, number)

    def _close_block(self, query: bytes | None, first_byte: int, end: int, first_line: int) -> None:
        if query is not None:
            query_id = decoded(query, self.path, first_line)
            self._blocks.setdefault(query_id, []).append((first_byte, end, first_line))


def read_qrels(path: str | Path, queries: Container[str] | None = None) -> Qrels:
    """Return the judgements of a TREC qrels file, or of BEIR's TSV with its header.

    Raises `DataFormatError`, with file and line, for a malformed line, a relevance that is not a
    whole number, a document judged twice, and a query that is not one of ``queries``.
    """
    path = Path(path)
    qrels: Qrels = {}
    beir = False
    for number, _, raw in numbered_lines(path):
        fields = line_fields(raw, path, number)
        if number == 1 and fields == _BEIR_HEADER:
            beir = True
            continue
        if not fields:
            continue
        if len(fields) != (3 if beir else 4):
            raise _wrong_fields(
                path, number, fields, " ".join(_BEIR_HEADER) if beir else _QRELS_FIELDS
            )
        query_id, doc_id, value = fields[0], fields[-2], fields[-1]
        if queries is not None and query_id not in queries:
            raise DataFormatError(
                f"{path}:{number}: query {query_id!r} is judged and is not among the queries; add "
                "it there, or take its judgements out"
            )
        judged = qrels.setdefault(query_id, {})
        if doc_id in judged:
            raise DataFormatError(
                f"{path}:{number}: document {doc_id!r} is judged again for query {query_id!r}; "
                "keep one judgement"
            )
        try:
            judged[doc_id] = int(value)
        except ValueError:
            raise DataFormatError(
                f"{path}:{number}: relevance is {value!r}; a whole number such as 0, 1 or 2 "
                "belongs there"
            ) from None
    if not qrels:
        raise DataFormatError(f"{path} holds no judgements; expected lines {_QRELS_FIELDS!r}")
    return qrels


def trec_lines(query_id: str, doc_ids: Sequence[str], scores: Sequence[float], tag: str) -> str:
    """Return a query's lines of a run file, ``doc_ids`` given best first.

    Tools that read runs order them by score, many in float32, and break ties by document id. So
    that every tool sees the order given here, the scores are written as float32 values that
    strictly decrease: a score that is not below its predecessor's becomes the next float32 below.

    >>> print(trec_lines("q1", ["b", "a"], [2.5, 2.5], tag="embedded"), end="")
    q1 Q0 b 1 2.5 embedded
    q1 Q0 a 2 2.49999976 embedded
    """
    rows = enumerate(zip(doc_ids, _strictly_decreasing(scores), strict=True), start=1)
    return "".join(
        f"{query_id} Q0 {doc_id} {rank} {score:.9g} {tag}\n" for rank, (doc_id, score) in rows
    )


def _strictly_decreasing(scores: Sequence[float]) -> list[float]:
    # Inside the range of float32, with room left below for ties.
    values = np.clip(scores, -3e38, 3e38).astype(np.float32)
    for place in np.flatnonzero(values[1:] >= values[:-1]) + 1:
        # Moving one down may bring it to the next one, which no comparison above has seen.
        while place < len(values) and values[place] >= values[place - 1]:
            values[place] = np.nextafter(values[place - 1], np.float32(-np.inf))
            place += 1
    floats: list[float] = values.tolist()
    return floats


def numbered_lines(path: Path, advance: Advance | None = None) -> Iterator[tuple[int, int, bytes]]:
    """Yield (1-based line number, first byte, line with its end) of a file."""
    if path.suffix in {".gz", ".bz2", ".xz", ".zst"}:
        raise DataFormatError(
            f"{path} is compressed; lines are read by their place in the file, so decompress it "
            f"first{f': gunzip --keep {path}' if path.suffix == '.gz' else ''}"
        )
    start = reported = 0
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                yield number, start, raw
                start += len(raw)
                if advance and start - reported >= 1 << 20:
                    advance(start - reported)
                    reported = start
    except OSError as error:
        raise DataFormatError(f"{path} cannot be read: {error.strerror}; check the path") from error
    if advance:
        advance(start - reported)


def decoded(raw: bytes, path: Path, number: int) -> str:
    """Return the text of a line, or raise `DataFormatError` with its number."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise DataFormatError(
            f"{path}:{number}: not UTF-8 ({error.reason} at byte {error.start} of the line); "
            "convert the file to UTF-8"
        ) from None


def line_fields(raw: bytes, path: Path, number: int) -> list[str]:
    """Return what stands between ASCII white space: an id may hold any other character."""
    return [decoded(field, path, number) for field in raw.split()]


def _number(text: bytes, name: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataFormatError(
            f"{path}:{line}: {name} is {decoded(text, path, line)!r}; a finite number belongs "
            f"there ({_RUN_FIELDS})"
        )
    return value


def _wrong_fields(path: Path, line: int, fields: Sequence[str], expected: str) -> DataFormatError:
    return DataFormatError(
        f"{path}:{line}: {len(fields)} fields, expected {len(expected.split())} "
        f"({expected}): {' '.join(fields)[:80]!r}"
    )

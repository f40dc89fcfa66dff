"""Runs and qrels in TREC's form: checked by line, written so that their order lasts."""

from __future__ import annotations

import hashlib
import math
import re
from array import array
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rerank_plugins.errors import DataFormatError
from rerank_plugins.progress import Advance
from rerank_plugins.text_files import decoded, numbered_lines

__all__ = ["Candidates", "Qrels", "Run", "TrecRun", "read_qrels", "trec_lines"]

Run = dict[str, dict[str, float]]
Qrels = dict[str, dict[str, int]]

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
    """A run file in memory, about 30 bytes a line; the lines of a query need not stand together.

    ``.gz``, ``.bz2`` and ``.xz`` are read as they are. ``advance`` is called with the bytes read.
    Raises `DataFormatError`, with file and line, for a line that is not ``query_id Q0 doc_id rank
    score tag`` and for a score that is not a finite number.
    """

    def __init__(self, path: str | Path, advance: Advance | None = None) -> None:
        self.path = Path(path)
        self._rows: dict[str, _Rows] = {}
        by_raw_id: dict[bytes, _Rows] = {}
        digest = hashlib.blake2b(digest_size=16)
        for number, _, raw in numbered_lines(self.path, advance):
            digest.update(raw)
            # White space is ASCII's alone: an id may hold any other character.
            fields = raw.split()
            if not fields:
                continue
            if len(fields) != 6:
                found = line_fields(raw, self.path, number)
                raise _wrong_fields(self.path, number, found, _RUN_FIELDS)
            if not raw.isascii():
                decoded(raw, self.path, number)
            rows = by_raw_id.get(fields[0])
            if rows is None:
                rows = by_raw_id[fields[0]] = self._rows[fields[0].decode()] = _Rows()
            rows.doc_ids += fields[2] + b"\n"
            rows.ranks.append(_number(fields[3], "rank", self.path, number))
            rows.scores.append(_number(fields[4], "score", self.path, number))
            rows.lines.append(number)
        self.digest = digest.hexdigest()

    @property
    def query_ids(self) -> list[str]:
        """The queries of the run, in order of their first lines."""
        return list(self._rows)

    def __contains__(self, query_id: object) -> bool:
        return query_id in self._rows

    def first_line(self, query_id: str) -> int:
        """Return the line on which the query first stands."""
        return self._rows[query_id].lines[0]

    def candidates(self, query_id: str, depth: int | None = None) -> Candidates:
        """Return the ``depth`` best candidates: by score, equal scores by the rank column.

        Raises `DataFormatError`, with file and line, for a document listed twice.
        """
        rows = self._rows.get(query_id)
        if rows is None:
            return Candidates([], [], [])
        doc_ids = rows.doc_ids.decode().split("\n")[:-1]
        if len(set(doc_ids)) < len(doc_ids):
            raise self._listed_twice(query_id, doc_ids, rows.lines)
        order = np.lexsort((np.asarray(rows.ranks), -np.asarray(rows.scores)))[:depth].tolist()
        return Candidates(
            [doc_ids[index] for index in order],
            [rows.scores[index] for index in order],
            [rows.lines[index] for index in order],
        )

    def _listed_twice(
        self, query_id: str, doc_ids: Sequence[str], lines: Sequence[int]
    ) -> DataFormatError:
        seen: dict[str, int] = {}
        for doc_id, line in zip(doc_ids, lines, strict=True):
            if doc_id in seen:
                break
            seen[doc_id] = line
        return DataFormatError(
            f"{self.path}:{line}: document {doc_id!r} is listed again for query {query_id!r}, "
            f"first on line {seen[doc_id]}; keep one"
        )


class _Rows:
    """The lines of one query: ids that each end with a line break, and numbers by line."""

    __slots__ = ("doc_ids", "lines", "ranks", "scores")

    def __init__(self) -> None:
        self.doc_ids = bytearray()
        self.ranks, self.scores, self.lines = array("d"), array("d"), array("L")


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
        # trec_eval keeps a counter for each grade up to the highest and crashes beyond its memory;
        # -1 and -2 have meanings to it, and it crashes on what is lower.
        if not re.fullmatch(r"-[12]|[+]?[0-9]{1,6}", value):
            raise DataFormatError(
                f"{path}:{number}: relevance is {value[:40]!r}; a whole number such as 0, 1 or 2 "
                "belongs there, from -2 to 999999"
            )
        judged[doc_id] = int(value)
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
    for index in np.flatnonzero(values[1:] >= values[:-1]) + 1:
        # Moving one down may bring it to the next one, which no comparison above has seen.
        while index < len(values) and values[index] >= values[index - 1]:
            values[index] = np.nextafter(values[index - 1], np.float32(-np.inf))
            index += 1
    floats: list[float] = values.tolist()
    return floats


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
            f"{path}:{line}: {name} is {decoded(text, path, line)[:40]!r}; a finite number belongs "
            f"there ({_RUN_FIELDS})"
        )
    return value


def _wrong_fields(path: Path, line: int, fields: Sequence[str], expected: str) -> DataFormatError:
    return DataFormatError(
        f"{path}:{line}: {len(fields)} fields, expected {len(expected.split())} "
        f"({expected}): {' '.join(fields)[:80]!r}"
    )

"""Corpus and queries in BEIR's JSON lines: ``{"_id": ..., "title": ..., "text": ...}``."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from rerank_plugins.errors import DataFormatError
from rerank_plugins.progress import Advance
from rerank_plugins.text_files import check_writable, json_object, numbered_lines, shown

__all__ = ["Corpus", "JsonlCorpus", "read_queries"]


class Corpus(Protocol):
    """Where passages come from; None stands for a document that is not there."""

    @property
    def name(self) -> str:
        """What an error calls it."""

    @property
    def digest(self) -> str:
        """A name of the content: a corpus that changed has another one."""

    def known(self, doc_ids: Sequence[str]) -> list[bool]:
        """Say of each document whether it is there, without reading its text."""

    def passages(self, doc_ids: Sequence[str]) -> list[str | None]:
        """Return the passages of these documents, in the order given."""


class JsonlCorpus:
    """A corpus file whose passages stay on disk: 24 bytes of memory for each.

    The passage of a document is its title and its text joined by a space, as BEIR does. The whole
    file is read and checked once; ``advance`` is called with the bytes read. Raises
    `DataFormatError`, with file and line, for a line that is not such an object and for an id that
    comes twice.
    """

    def __init__(self, path: str | Path, advance: Advance | None = None) -> None:
        self.path = Path(path)
        self.name = str(self.path)
        digest = hashlib.blake2b(digest_size=16)
        hashes, starts, lengths = array("q"), array("q"), array("q")
        for number, start, raw in numbered_lines(self.path, advance, seekable=True):
            digest.update(raw)
            if raw.strip():
                hashes.append(hash(_record(raw, self.path, number)["_id"]))
                starts.append(start)
                lengths.append(len(raw))
        self.digest = digest.hexdigest()
        if not hashes:
            raise DataFormatError(
                f'{self.path} holds no passages; expected lines {{"_id": ..., "text": ...}}'
            )
        unsorted = np.frombuffer(hashes, dtype=np.int64)
        order = np.argsort(unsorted, kind="stable")
        self._hashes = unsorted[order]
        self._starts = np.frombuffer(starts, dtype=np.int64)[order]
        self._lengths = np.frombuffer(lengths, dtype=np.int64)[order]
        self._check_duplicates()

    def __len__(self) -> int:
        return len(self._hashes)

    def known(self, doc_ids: Sequence[str]) -> list[bool]:
        wanted = np.array([hash(doc_id) for doc_id in doc_ids], dtype=np.int64)
        first = np.searchsorted(self._hashes, wanted)
        found = first < len(self._hashes)
        found[found] = self._hashes[first[found]] == wanted[found]
        return [bool(value) for value in found]

    def passages(self, doc_ids: Sequence[str]) -> list[str | None]:
        wanted = np.array([hash(doc_id) for doc_id in doc_ids], dtype=np.int64)
        first = np.searchsorted(self._hashes, wanted).tolist()
        # Unbuffered: each line's length is known, and a buffer would read far beyond it.
        with self.path.open("rb", buffering=0) as file:
            return [
                self._passage(file, doc_id, index)
                for doc_id, index in zip(doc_ids, first, strict=True)
            ]

    def _passage(self, file: IO[bytes], doc_id: str, index: int) -> str | None:
        wanted = hash(doc_id)
        # Two ids may share a hash: the id on the line decides.
        while index < len(self._hashes) and self._hashes[index] == wanted:
            record = self._read(file, index)
            if record["_id"] == doc_id:
                return f"{record.get('title') or ''} {record['text']}".strip()
            index += 1
        return None

    def _read(self, file: IO[bytes], index: int) -> dict[str, Any]:
        file.seek(int(self._starts[index]))
        record: dict[str, Any] = json.loads(file.read(int(self._lengths[index])))
        return record

    def _check_duplicates(self) -> None:
        same = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
        with self.path.open("rb") as file:
            for index in same.tolist():
                doc_id = self._read(file, index)["_id"]
                if self._read(file, index + 1)["_id"] == doc_id:
                    raise DataFormatError(
                        f"{self.path}:{self._line(index + 1)}: document {doc_id!r} comes again, "
                        f"first on line {self._line(index)}; keep one"
                    )

    def _line(self, index: int) -> int:
        wanted = self._starts[index]
        return next(number for number, start, _ in numbered_lines(self.path) if start == wanted)


def read_queries(path: str | Path) -> dict[str, str]:
    """Return ``{query_id: query}``; errors as in `JsonlCorpus`."""
    path = Path(path)
    queries: dict[str, str] = {}
    for number, _, raw in numbered_lines(path):
        if not raw.strip():
            continue
        record = _record(raw, path, number)
        if record["_id"] in queries:
            raise DataFormatError(
                f"{path}:{number}: query {record['_id']!r} comes again; keep one of its lines"
            )
        queries[record["_id"]] = record["text"]
    if not queries:
        raise DataFormatError(
            f'{path} holds no queries; expected lines {{"_id": ..., "text": ...}}'
        )
    return queries


def _record(raw: bytes, path: Path, number: int) -> dict[str, Any]:
    fields = json_object(raw, path, number, expected='an object {"_id": "...", "text": "..."}')
    if not isinstance(fields.get("_id"), str) or not isinstance(fields.get("text"), str):
        raise DataFormatError(
            f'{path}:{number}: expected an object with the strings "_id" and "text", got '
            f"{shown(raw.decode())}"
        )
    if not isinstance(fields.get("title") or "", str):
        raise DataFormatError(
            f'{path}:{number}: "title" is {str(fields["title"])[:40]}, not a string'
        )
    where = f"{path}:{number}"
    for name in ("_id", "title", "text"):
        check_writable(fields.get(name) or "", f'"{name}"', where)
    return fields

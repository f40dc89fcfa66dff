"""Rows of pairs from JSON lines and Parquet, or from a run with its corpus and queries."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from rerank_plugins.dataset import Columns, Row, Rows, write_json_lines
from rerank_plugins.errors import DataFormatError, InvalidArgumentError, require_extra
from rerank_plugins.fingerprint import file_digest
from rerank_plugins.text_files import check_writable, json_object, numbered_lines
from rerank_plugins.written_files import whole_file

__all__ = ["JsonLines", "Parquet", "RunRows", "rows_of"]

_ROWS_PER_MARK = 1024


def rows_of(paths: Sequence[Path], columns: Columns) -> Rows:
    """Return the rows of files that are all JSON lines or all Parquet, by their names."""
    parquet = [path for path in paths if path.suffix == ".parquet"]
    if parquet and len(parquet) < len(paths):
        raise InvalidArgumentError(
            f"{parquet[0]} is Parquet and others are not; give files of one kind"
        )
    return Parquet(paths, columns) if parquet else JsonLines(paths, columns)


class _Mark(NamedTuple):
    """Where a row stands: its file, and the number and the first byte of its line."""

    row: int
    file: int
    number: int
    byte: int


class JsonLines:
    """One object a line; the query and the passage are strings, or null for no text."""

    suffix = ".jsonl"

    def __init__(self, paths: Sequence[Path], columns: Columns) -> None:
        self._paths, self._columns = paths, columns

    @cached_property
    def _index(self) -> tuple[list[int], list[_Mark]]:
        """Count the rows of each file, and mark some, so that reading can begin near any row."""
        counts, marks, row = [], [_Mark(0, 0, 1, 0)], 0
        for file, path in enumerate(self._paths):
            first = row
            for number, byte, raw in numbered_lines(path):
                if raw.strip():
                    if (row - first) % _ROWS_PER_MARK == 0:
                        marks.append(_Mark(row, file, number, byte))
                    row += 1
            counts.append(row - first)
        return counts, marks

    @property
    def n_rows(self) -> int:
        return sum(self._index[0])

    def described(self) -> dict[str, Any]:
        return {
            path.name: {"n_rows": count, "digest": file_digest(path)}
            for path, count in zip(self._paths, self._index[0], strict=True)
        }

    def read(self, start: int, end: int) -> Iterator[Row]:
        marks = self._index[1]
        mark = marks[bisect_right(marks, start, key=lambda mark: mark.row) - 1]
        row, begin = mark.row, (mark.number, mark.byte)
        for path in self._paths[mark.file :]:
            if row >= end:
                return
            for number, _, raw in numbered_lines(path, begin=begin):
                if not raw.strip():
                    continue
                if row >= end:
                    return
                if row >= start:
                    yield self._row(raw, path, number)
                row += 1
            begin = (1, 0)

    def write(self, path: Path, rows: Sequence[Row]) -> None:
        write_json_lines(path, rows)

    def _row(self, raw: bytes, path: Path, number: int) -> Row:
        names = (self._columns.query, self._columns.passage)
        expected = f'an object with "{names[0]}" and "{names[1]}"'
        row = json_object(raw, path, number, expected=expected)
        for name in names:
            if name not in row or not (row[name] is None or isinstance(row[name], str)):
                raise DataFormatError(
                    f'{path}:{number}: "{name}" is missing or no string; expected {expected}, '
                    "null where there is no text"
                )
        check_writable(json.dumps(row, ensure_ascii=False), "the row", f"{path}:{number}")
        return row


class Parquet:
    """Tables with a column of queries and one of passages."""

    suffix = ".parquet"

    def __init__(self, paths: Sequence[Path], columns: Columns) -> None:
        require_extra("pyarrow", extra="parquet", purpose="reading Parquet")
        import pyarrow.parquet

        self._parquet = pyarrow.parquet
        self._paths, self._columns, self._files = paths, columns, []
        for path in paths:
            try:
                self._files.append(self._parquet.ParquetFile(path))
            except (OSError, pyarrow.ArrowInvalid) as error:
                raise DataFormatError(f"{path} cannot be read as Parquet: {error}") from error
            names = self._files[-1].schema_arrow.names
            for name in (columns.query, columns.passage):
                if name not in names:
                    raise DataFormatError(
                        f"{path} has no column {name!r}; its columns: {', '.join(names)}"
                    )

    def __reduce__(self) -> Any:
        return Parquet, (self._paths, self._columns)  # open files stay in their process

    @property
    def n_rows(self) -> int:
        return sum(file.metadata.num_rows for file in self._files)

    def described(self) -> dict[str, Any]:
        return {
            path.name: {"n_rows": file.metadata.num_rows, "digest": file_digest(path)}
            for path, file in zip(self._paths, self._files, strict=True)
        }

    def read(self, start: int, end: int) -> Iterator[Row]:
        first = 0
        for file in self._files:
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                low, high = max(start - first, 0), min(end - first, count)
                if low < high:
                    yield from file.read_row_group(group).slice(low, high - low).to_pylist()
                first += count

    def write(self, path: Path, rows: Sequence[Row]) -> None:
        import pyarrow

        with whole_file(path) as file:
            self._parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)


class RunRows:
    """The candidates of a run, with the texts of a corpus and of queries."""

    suffix = ".jsonl"

    def __init__(
        self, run: Path, corpus: Path, queries: Path, depth: int, columns: Columns
    ) -> None:
        from rerank_plugins.evaluation import Collection, TrecRun
        from rerank_plugins.evaluation.beir import JsonlCorpus, read_queries

        self._files, self._depth, self._columns = (run, corpus, queries), depth, columns
        first_stage = TrecRun(run)
        self._collection = collection = Collection(
            queries=read_queries(queries),
            corpus=JsonlCorpus(corpus),
            qrels={query_id: {} for query_id in first_stage.query_ids},
            run=first_stage,
            depth=depth,
        )
        self._query_ids = collection.query_ids
        collection.check()
        counts = [len(collection.candidates(query_id).doc_ids) for query_id in self._query_ids]
        self._ends = list(accumulate(counts))

    def __reduce__(self) -> Any:
        # Read again: the corpus finds ids by hashes that differ from process to process.
        return RunRows, (*self._files, self._depth, self._columns)

    @property
    def n_rows(self) -> int:
        return self._ends[-1] if self._ends else 0

    def described(self) -> dict[str, Any]:
        from rerank_plugins.evaluation.collection import digest_of

        return {
            "run": self._collection.run.digest,
            "corpus": self._collection.corpus.digest,
            "queries": digest_of(dict(self._collection.queries)),
            "depth": self._collection.depth,
        }

    def read(self, start: int, end: int) -> Iterator[Row]:
        index = bisect_right(self._ends, start)
        first = self._ends[index - 1] if index else 0
        for query_id in self._query_ids[index:]:
            if first >= end:
                return
            candidates = self._collection.candidates(query_id)
            passages = self._collection.passages(candidates)
            for doc_id, passage in zip(candidates.doc_ids, passages, strict=True):
                if start <= first < end:
                    yield {
                        "query_id": query_id,
                        "doc_id": doc_id,
                        self._columns.query: self._collection.queries[query_id],
                        self._columns.passage: passage,
                    }
                first += 1

    def write(self, path: Path, rows: Sequence[Row]) -> None:
        write_json_lines(path, rows)

"""Rows of pairs from JSON lines and Parquet, or from a run with its corpus and queries."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank_plugins.dataset import Columns, Row, Rows, write_json_lines
from rerank_plugins.errors import DataFormatError, InvalidArgumentError, require_extra
from rerank_plugins.text_files import check_writable, json_object, numbered_lines
from rerank_plugins.written_files import whole_file

if TYPE_CHECKING:
    from rerank_plugins.evaluation import Collection

__all__ = ["JsonLines", "Parquet", "RunRows", "rows_of"]


def rows_of(paths: Sequence[Path], columns: Columns) -> Rows:
    """Return the rows of files that are all JSON lines or all Parquet, by their names."""
    parquet = [path for path in paths if path.suffix == ".parquet"]
    if parquet and len(parquet) < len(paths):
        raise InvalidArgumentError(
            f"{parquet[0]} is Parquet and others are not; give files of one kind"
        )
    return Parquet(paths, columns) if parquet else JsonLines(paths, columns)


class JsonLines:
    """One object a line; the query and the passage are strings, or null for no text."""

    suffix = ".jsonl"

    def __init__(self, paths: Sequence[Path], columns: Columns) -> None:
        self._paths, self._columns = paths, columns

    @cached_property
    def counts(self) -> list[int]:
        """The number of rows of each file."""
        return [sum(1 for _, _, raw in numbered_lines(path) if raw.strip()) for path in self._paths]

    @property
    def n_rows(self) -> int:
        return sum(self.counts)

    def described(self) -> dict[str, Any]:
        return {
            path.name: {"n_rows": count, "n_bytes": path.stat().st_size}
            for path, count in zip(self._paths, self.counts, strict=True)
        }

    def read(self, start: int, end: int) -> Iterator[Row]:
        first = 0
        for path, count in zip(self._paths, self.counts, strict=True):
            index = first
            if first < end and first + count > start:
                for number, _, raw in numbered_lines(path):
                    if not raw.strip():
                        continue
                    if index >= end:
                        return
                    if index >= start:
                        yield self._row(raw, path, number)
                    index += 1
            first += count

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
        self._paths, self._files = paths, []
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

    @property
    def n_rows(self) -> int:
        return sum(file.metadata.num_rows for file in self._files)

    def described(self) -> dict[str, Any]:
        return {
            path.name: {"n_rows": file.metadata.num_rows, "n_bytes": path.stat().st_size}
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

    def __init__(self, collection: Collection, columns: Columns) -> None:
        self._collection, self._columns = collection, columns
        self._query_ids = collection.query_ids
        collection.check()
        counts = [len(collection.candidates(query_id).doc_ids) for query_id in self._query_ids]
        self._ends = list(accumulate(counts))

    @property
    def n_rows(self) -> int:
        return self._ends[-1] if self._ends else 0

    def described(self) -> dict[str, Any]:
        return {
            "run": self._collection.run.digest,
            "corpus": self._collection.corpus.digest,
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

"""Many pairs from files, scored into files: block by block, so that any block can be done anew.

The rows of all inputs, one after the other, are cut into blocks of `ROWS_PER_BLOCK`. Each block
becomes one file of the output folder, whole or not at all; what is there is not scored again.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from rerank_plugins.errors import DataFormatError, ScoringError
from rerank_plugins.fingerprint import check_unchanged, fingerprint
from rerank_plugins.progress import Progress, Silent
from rerank_plugins.ranking import Scorer
from rerank_plugins.shards import WHOLE, Shard
from rerank_plugins.written_files import locked_folder, whole_file, write_text

__all__ = ["ROWS_PER_BLOCK", "Columns", "Rows", "Summary", "rerank_rows", "score_batches"]

ROWS_PER_BLOCK = 4096
MANIFEST = "_manifest.json"
_PACKAGES = ("rerank_plugins", "torch", "transformers", "tokenizers")

Row = dict[str, Any]


class Rows(Protocol):
    """Where rows come from; ``suffix`` is the form that the scores are written in."""

    suffix: str

    @property
    def n_rows(self) -> int:
        """The number of rows."""

    def described(self) -> dict[str, Any]:
        """Say by plain data what is read, so that a change is seen."""

    def read(self, start: int, end: int) -> Iterator[Row]:
        """Yield the rows from ``start`` up to ``end``, counted from 0."""

    def write(self, path: Path, rows: Sequence[Row]) -> None:
        """Write rows into a file of this form, whole or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The names of the columns that are read, and of the one that is added."""

    query: str = "query"
    passage: str = "passage"
    score: str = "relevance_score"


@dataclass(frozen=True, slots=True)
class Block:
    """The rows from ``start`` up to ``end``, and the file that their scores go into."""

    path: Path
    start: int
    end: int

    @property
    def n_rows(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What is in the output: every row of the shard, those of earlier runs included."""

    n_rows: int
    n_earlier: int
    n_without_text: int
    folder: Path


def score_batches(
    scorer: Scorer, batches: Iterable[Sequence[Row]], columns: Columns
) -> Iterator[list[Row]]:
    """Yield each batch with its scores in place of its texts; a row without text has score None."""
    for batch in batches:
        pairs = [(row.get(columns.query), row.get(columns.passage)) for row in batch]
        scores = iter(_scored(scorer, [pair for pair in pairs if None not in pair]))
        yield [
            {
                key: value
                for key, value in row.items()
                if key not in (columns.query, columns.passage)
            }
            | {columns.score: None if None in pair else next(scores)}
            for row, pair in zip(batch, pairs, strict=True)
        ]


def _scored(scorer: Scorer, pairs: Sequence[Any]) -> list[float]:
    if hasattr(scorer, "score_pairs"):
        scores: list[float] = scorer.score_pairs(pairs)
        return scores
    scores = []
    for query, group in groupby(pairs, key=lambda pair: pair[0]):
        scores += scorer.score(query, [passage for _, passage in group])
    return scores


def rerank_rows(
    scorer: Scorer,
    rows: Rows,
    output: str | Path,
    *,
    columns: Columns | None = None,
    shard: Shard = WHOLE,
    restart: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Score every row into ``part-*`` files of the folder ``output``, going on where it stopped.

    The texts are left out and the score is added; all other columns stay. ``_manifest.json`` says
    what scored what: going on with another model, option, input or version is a `DataFormatError`
    that names it, also where weights or texts changed under the same name. A ``shard`` takes its
    share of the blocks, into a folder of its own in ``output``; the parts of all shards, by name,
    are those of a single process. Raises `OutputInUseError` where another process is writing.
    """
    columns = columns or Columns()

    def here(blocks: Sequence[Block]) -> Iterator[tuple[int, int]]:
        for block in blocks:
            yield block.n_rows, score_block(scorer, rows, block, columns)

    return rerank_blocks(
        here, describe(scorer), rows, output, columns, shard, restart=restart, progress=progress
    )


def rerank_blocks(
    score: Callable[[Sequence[Block]], Iterable[tuple[int, int]]],
    scored_by: Mapping[str, Any],
    rows: Rows,
    output: str | Path,
    columns: Columns,
    shard: Shard = WHOLE,
    *,
    restart: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Do what `rerank_rows` does, by whatever scores blocks: here, or on other machines.

    ``score`` gets the blocks that are not there yet, writes each one's file, and yields the rows
    and the rows without text of each, in any order. ``scored_by`` is what `describe` says.
    """
    folder = Path(output) if shard == WHOLE else Path(output) / shard.folder_name
    n_rows = rows.n_rows
    blocks = [
        Block(
            folder / f"part-{block:06}{rows.suffix}",
            block * ROWS_PER_BLOCK,
            min(n_rows, (block + 1) * ROWS_PER_BLOCK),
        )
        for block in shard.part(range(-(-n_rows // ROWS_PER_BLOCK)))
    ]
    with locked_folder(folder):
        if restart:
            # Before the new manifest: a kill in between must not leave it beside another's parts.
            for path in folder.glob(f"part-*{rows.suffix}"):
                path.unlink()
        _check_manifest(folder, _manifest(scored_by, rows, columns, shard), restart)
        waiting = [block for block in blocks if not block.path.exists()]
        total = sum(block.n_rows for block in blocks)
        n_waiting = sum(block.n_rows for block in waiting)
        advance = (progress or Silent()).step(
            scored_by["model"], total, "passages", done=total - n_waiting
        )
        n_scored = n_without_text = 0
        for n_rows_scored, n_rows_without_text in score(waiting) if waiting else ():
            n_scored += n_rows_scored
            n_without_text += n_rows_without_text
            advance(n_rows_scored)
        if n_scored != n_waiting:
            raise ScoringError(
                f"{n_scored} of {n_waiting} rows were scored; start again to score the others"
            )
    return Summary(
        n_rows=total,
        n_earlier=total - n_waiting,
        n_without_text=n_without_text,
        folder=folder,
    )


def score_block(scorer: Scorer, rows: Rows, block: Block, columns: Columns) -> int:
    """Score a block into its file; return the number of its rows that have no text."""
    batch = list(rows.read(block.start, block.end))
    if len(batch) != block.n_rows:
        raise DataFormatError(
            f"{len(batch)} rows were read where {block.n_rows} were counted; the input changed "
            "while it was read"
        )
    (scored,) = score_batches(scorer, [batch], columns)
    rows.write(block.path, scored)
    return sum(row[columns.score] is None for row in scored)


def describe(scorer: Scorer) -> dict[str, Any]:
    """Say by plain data what scores: model, options and versions."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        **fingerprint(scorer),
        "versions": versions,
    }


def _manifest(
    scored_by: Mapping[str, Any], rows: Rows, columns: Columns, shard: Shard
) -> dict[str, Any]:
    return {
        **scored_by,
        "columns": asdict(columns),
        "rows_per_block": ROWS_PER_BLOCK,
        "n_rows": rows.n_rows,
        "shard": str(shard),
        "input": rows.described(),
    }


def _check_manifest(folder: Path, manifest: Mapping[str, Any], restart: bool) -> None:
    path = folder / MANIFEST
    if path.exists() and not restart:
        try:
            before = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            before = None
        if not isinstance(before, dict):
            raise DataFormatError(
                f"{path} is damaged; give another output folder, or discard what is there with "
                "--restart (restart=True)"
            )
        check_unchanged(folder, before, manifest)
        return
    if not restart and any(folder.glob("part-*")):
        raise DataFormatError(f"{folder} has parts and no {MANIFEST}; give another output folder")
    write_text(path, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def write_json_lines(path: Path, rows: Sequence[Row]) -> None:
    """Write one JSON object a line."""
    with whole_file(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")

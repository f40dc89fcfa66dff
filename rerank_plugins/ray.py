"""Bulk reranking on Ray: a model a worker, rows in equal rows out.

`rerank_dataset` adds a step to any Ray dataset. `rerank_files` is `rerank_plugins.dataset` with
workers on many machines that share the folders: the same files, going on where it stopped.
`serve_app` is the server in replicas on Ray Serve. Where Ray runs and on what is ``ray.init``'s,
and yours; without it Ray starts on this machine.
"""

from __future__ import annotations

import functools
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from rerank_plugins.arrow import RerankScores, check_columns
from rerank_plugins.dataset import (
    Block,
    Columns,
    Rows,
    Summary,
    describe,
    rerank_blocks,
    score_block,
)
from rerank_plugins.dataset_files import rows_of
from rerank_plugins.errors import (
    DataFormatError,
    InvalidArgumentError,
    RerankError,
    require_extra,
)
from rerank_plugins.fingerprint import same
from rerank_plugins.models import DEFAULT_MODEL
from rerank_plugins.options import checked_options
from rerank_plugins.progress import Progress
from rerank_plugins.ray_serve import serve_app
from rerank_plugins.registry import shared_scorer
from rerank_plugins.shards import WHOLE, Shard
from rerank_plugins.written_files import PARTIAL

require_extra("ray", "pyarrow", extra="ray", purpose="rerank_plugins.ray")

import ray  # noqa: E402
import ray.data  # noqa: E402

__all__ = ["Workers", "rerank_dataset", "rerank_files", "serve_app"]

# The scorer runs 512 pairs at a time: with blocks of whole slices a score does not depend, in its
# last bits, on where a block ends.
_SLICE = 512
_ROWS_PER_BLOCK = 4096
_QUERIES_PER_BLOCK = 64
# Options of map_batches that a task has too: where it may run, and with what installed.
_PLACING = ("accelerator_type", "label_selector", "memory", "resources", "runtime_env")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """How many processes score, each with a model of its own, and what each one gets.

    ``n`` is a number, or the least and the most of a cluster that grows; by default as many as
    Ray's CPUs and GPUs allow, one CPU left for reading and writing. ``cpus`` are a worker's
    threads: 1 by default, 2 beside a GPU. ``options`` go to ``Dataset.map_batches`` as they are,
    such as ``{"resources": {...}}`` or ``{"runtime_env": {...}}``.
    """

    n: int | tuple[int, int] | None = None
    cpus: int | None = None
    gpus: float = 0
    options: Mapping[str, Any] | None = None

    def keywords(self) -> dict[str, Any]:
        """Return keywords of ``map_batches``.

        Raises `InvalidArgumentError` for workers that would leave no CPU for reading: such a job
        would never end.
        """
        least, most = self.n if isinstance(self.n, tuple) else (self.n, self.n)
        available = ray.cluster_resources()
        n_cpus, cpus = int(available.get("CPU", 0)), self.n_cpus
        fit = (n_cpus - 1) // cpus
        if least is None or most is None:
            if self.gpus:
                fit = min(fit, int(available.get("GPU", 0) / self.gpus))
            least = most = max(fit, 1)
        if not 1 <= least <= most:
            raise InvalidArgumentError(f"workers must be at least 1, got {self.n}")
        if least > (n_cpus - 1) // cpus:
            raise InvalidArgumentError(
                f"{least} workers with {cpus} CPUs each leave none of Ray's {n_cpus} CPUs for "
                f"reading and writing; at most {max((n_cpus - 1) // cpus, 0)} fit, or give Ray "
                f"more: ray.init(num_cpus={least * cpus + 1})"
            )
        return {
            "compute": ray.data.ActorPoolStrategy(min_size=least, max_size=most),
            **self.resources(),
            **(self.options or {}),
        }

    @property
    def n_cpus(self) -> int:
        return self.cpus or (2 if self.gpus else 1)

    @property
    def device(self) -> str:
        # Ray shows each worker its own GPUs only, so that the first is always the right one.
        return "cuda" if self.gpus else "cpu"

    def resources(self) -> dict[str, Any]:
        return {"num_cpus": self.n_cpus, "num_gpus": self.gpus}


def rerank_dataset(
    dataset: Any,
    model: str = DEFAULT_MODEL,
    *,
    columns: Columns | None = None,
    keep: Sequence[str] | None = None,
    workers: Workers | None = None,
    rows_per_block: int | None = None,
    **scorer_options: Any,
) -> Any:
    """Return the ``ray.data.Dataset`` with a column of scores more; nothing runs until it is read.

    The rows are those of `RerankScores`: pairs, or queries with lists of passages, which need no
    shuffle to be ranked. They are cut anew into blocks of ``rows_per_block`` (4,096 pairs, 64
    queries), as Ray's own may be one for all workers. Of pairs it must be a multiple of 512; up to
    16,384 suit a hundred workers. Order and files are Ray's: go by ids, never by position.

    Raises `InvalidArgumentError` for columns and workers that cannot be, and `InvalidTypeError`
    for an unknown scorer option.
    """
    workers, columns = workers or Workers(), columns or Columns()
    schema = dataset.schema(fetch_if_missing=False)
    grouped = schema is not None and check_columns(schema.base_schema, columns, keep)
    if rows_per_block is None:
        rows_per_block = _QUERIES_PER_BLOCK if grouped else _ROWS_PER_BLOCK
    elif rows_per_block < 1 or not (grouped or rows_per_block % _SLICE == 0):
        raise InvalidArgumentError(
            f"rows_per_block must be a multiple of {_SLICE}, got {rows_per_block}"
        )
    options = checked_options(**{"model": model, "device": workers.device, **scorer_options})
    return dataset.repartition(target_num_rows_per_block=rows_per_block).map_batches(
        RerankScores,
        fn_constructor_kwargs={"columns": columns, "keep": keep, **options},
        batch_format="pyarrow",
        batch_size=None,
        **workers.keywords(),
    )


def rerank_files(
    inputs: Rows | Sequence[str | Path],
    output: str | Path,
    model: str = DEFAULT_MODEL,
    *,
    columns: Columns | None = None,
    shard: Shard = WHOLE,
    restart: bool = False,
    progress: Progress | None = None,
    workers: Workers | None = None,
    **scorer_options: Any,
) -> Summary:
    """Do what `rerank_plugins.dataset.rerank_rows` does, by workers: the same files, resumable.

    Inputs and output are on storage that every machine has under the same path. A block whose
    worker dies is scored again by another one; a job that dies goes on by the same call, and loses
    what was under way. Raises what `rerank_rows` raises, and `DataFormatError` where a worker has
    another version, dtype or device than the first.
    """
    workers, columns = workers or Workers(), columns or Columns()
    options = checked_options(**{"model": model, "device": workers.device, **scorer_options})
    rows = _rows(inputs, columns)
    keywords = workers.keywords()
    scored_by = _first_worker_says(options, workers)

    def score(blocks: Sequence[Block]) -> Iterator[tuple[int, int]]:
        dataset = ray.data.from_items(
            [{"path": str(each.path), "start": each.start, "end": each.end} for each in blocks],
            override_num_blocks=len(blocks),
        )
        dataset.context.enable_progress_bars = False  # for ours
        scored = dataset.map_batches(
            _BlockScorer,
            fn_constructor_args=(rows, columns, options, scored_by),
            batch_format="pyarrow",
            batch_size=None,
            **keywords,
        )
        for row in scored.iter_rows():
            if row["error"]:
                raise pickle.loads(row["error"])
            yield row["n_rows"], row["n_without_text"]

    return rerank_blocks(
        score,
        scored_by,
        rows,
        Path(output).absolute(),
        columns,
        shard,
        restart=restart,
        progress=progress,
    )


def _first_worker_says(options: Mapping[str, Any], workers: Workers) -> dict[str, Any]:
    """Load the model on one worker, so that what is wrong with it is said once; describe it."""
    placed = {name: value for name, value in (workers.options or {}).items() if name in _PLACING}
    task = ray.remote(**workers.resources(), **placed)(_described)
    try:
        said: dict[str, Any] = ray.get(task.remote(options))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RerankError):
            raise error.cause from None
        raise
    return said


def _described(options: Mapping[str, Any]) -> dict[str, Any]:
    return describe(shared_scorer(**options))


class _BlockScorer:
    """Reads, scores and writes blocks on a worker; of a block only its counts travel."""

    def __init__(
        self,
        rows: Rows,
        columns: Columns,
        options: Mapping[str, Any],
        scored_by: Mapping[str, Any],
    ) -> None:
        self._rows, self._columns, self._scored_by = rows, columns, scored_by
        self._scorer = shared_scorer(**options)

    def __call__(self, table: Any) -> dict[str, list[Any]]:
        counts: dict[str, list[Any]] = {"n_rows": [], "n_without_text": [], "error": []}
        for row in table.to_pylist():
            block, n_without_text, error = (
                Block(Path(row["path"]), row["start"], row["end"]),
                0,
                b"",
            )
            try:
                n_without_text = self._score(block)
            except RerankError as fault:
                # As a row: Ray would make an error of its own of it, with the cause as text.
                error = pickle.dumps(fault)
            counts["n_rows"].append(block.n_rows)
            counts["n_without_text"].append(n_without_text)
            counts["error"].append(error)
        return counts

    @functools.cached_property
    def _here(self) -> dict[str, Any]:
        """What scores on this worker, asked with the first block: its model stays the same."""
        return describe(self._scorer)

    def _score(self, block: Block) -> int:
        for name, value in self._scored_by.items():
            if not same(self._here[name], value):
                raise DataFormatError(
                    f"{name} is {self._here[name]!r} on this worker and {value!r} on the first; "
                    "give all machines the same versions and devices"
                )
        # Ray may have given the block to another worker too, where it lost sight of one.
        own = block.path.with_name(f".{block.path.name}.{uuid4().hex}{PARTIAL}")
        n_without_text = score_block(
            self._scorer, self._rows, replace(block, path=own), self._columns
        )
        os.replace(own, block.path)
        return n_without_text


def _rows(inputs: Rows | Sequence[str | Path], columns: Columns) -> Rows:
    if isinstance(inputs, Sequence):
        return rows_of([Path(path).absolute() for path in inputs], columns)
    return inputs

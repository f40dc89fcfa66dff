"""Scores for a table of pairs, in whatever engine hands out Arrow tables: Ray, Spark, Dask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rerank_plugins.dataset import Columns
from rerank_plugins.errors import InvalidArgumentError, require_extra
from rerank_plugins.models import DEFAULT_MODEL
from rerank_plugins.options import checked_options
from rerank_plugins.registry import shared_scorer

if TYPE_CHECKING:
    import pyarrow

__all__ = ["RerankScores"]


class RerankScores:
    """Adds a column of scores (float64) to a table; the model is loaded once a process.

    A row is a pair, its passage a string; or it is a query with all its passages, a list of
    strings, and gets a list of scores. A text that is null gives a score that is null, counted in
    ``n_without_text``. ``keep`` names the columns to return beside the scores, all of them by
    default; without the texts a table is a small part of its size. ``scorer_options`` are those of
    `shared_scorer`; another one is an `InvalidTypeError`.

    Raises `InvalidArgumentError` for a column that is missing, is not text or would be replaced,
    and `MissingExtraError` without pyarrow (extra ``parquet``).
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        columns: Columns | None = None,
        keep: Sequence[str] | None = None,
        **scorer_options: Any,
    ) -> None:
        require_extra("pyarrow", extra="parquet", purpose="RerankScores")
        self._columns = columns or Columns()
        self._keep = keep
        self._options = checked_options(model=model, **scorer_options)
        self.n_without_text = 0

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        """Return ``table`` with one column more, its rows in their order."""
        import pyarrow

        grouped = check_columns(table.schema, self._columns, self._keep)
        queries = table[self._columns.query].to_pylist()
        cells = table[self._columns.passage].to_pylist()
        groups = cells if grouped else [[passage] for passage in cells]
        pairs = [
            (query, passage)
            for query, passages in zip(queries, groups, strict=True)
            for passage in passages or ()
            if query is not None and passage is not None
        ]
        scores = iter(shared_scorer(**self._options).score_pairs(pairs))
        scored: list[list[float | None]] = [
            [None if query is None or passage is None else next(scores) for passage in group or ()]
            for query, group in zip(queries, groups, strict=True)
        ]
        self.n_without_text += sum(row.count(None) for row in scored)
        number = pyarrow.float64()
        column = (
            pyarrow.array(
                [None if group is None else row for group, row in zip(groups, scored, strict=True)],
                pyarrow.list_(number),
            )
            if grouped
            else pyarrow.array([score for (score,) in scored], number)
        )
        kept = table if self._keep is None else table.select(self._keep)
        return kept.append_column(self._columns.score, column)


def check_columns(
    schema: pyarrow.Schema, columns: Columns, keep: Sequence[str] | None = None
) -> bool:
    """Say whether a row of such a table holds all passages of a query: its passage is a list.

    Raises `InvalidArgumentError` that names the column.
    """
    for name in (columns.query, columns.passage, *(keep or ())):
        if name not in schema.names:
            raise InvalidArgumentError(
                f"there is no column {name!r}; the columns: {', '.join(schema.names)}"
            )
    if columns.score in (schema.names if keep is None else keep):
        raise InvalidArgumentError(
            f"there is a column {columns.score!r} already; name another one for the scores, such "
            "as Columns(score='score_2')"
        )
    passage = schema.field(columns.passage).type
    grouped = _is_list(passage)
    for name, kind in (
        (columns.query, schema.field(columns.query).type),
        (columns.passage, passage.value_type if grouped else passage),
    ):
        if not _is_text(kind):
            raise InvalidArgumentError(f"column {name!r} must hold strings, and is {kind}")
    return grouped


def _is_list(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return any(
        is_a(kind) for is_a in (types.is_list, types.is_large_list, types.is_fixed_size_list)
    )


def _is_text(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return any(
        is_a(kind)
        for is_a in (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    )

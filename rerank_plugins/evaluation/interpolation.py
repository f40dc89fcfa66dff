"""How much of the first stage to add: fitted on one half of the queries, reported on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ir_measures

from rerank_plugins.errors import InvalidArgumentError
from rerank_plugins.evaluation.collection import Collection
from rerank_plugins.evaluation.trec import TrecRun, trec_lines
from rerank_plugins.interpolation import interpolate
from rerank_plugins.progress import Advance
from rerank_plugins.written_files import whole_file

__all__ = ["WEIGHTS", "FittedWeights", "fit_weights", "write_interpolated"]

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5, 2.0)


@dataclass(frozen=True, slots=True)
class FittedWeights:
    """The first-stage weight of each half; no query had a part in fitting its own weight.

    The halves are every second query of those sorted by id. ``fitted_on_first`` was chosen on the
    first half and is used on the second, and the other way round.
    """

    fitted_on_first: float
    fitted_on_second: float
    first_half: frozenset[str]

    def weight(self, query_id: str) -> float:
        """Return the weight that this query is ranked with."""
        return self.fitted_on_second if query_id in self.first_half else self.fitted_on_first


def fit_weights(
    collection: Collection,
    reranked: TrecRun,
    measure: Any,
    advance: Advance | None = None,
) -> FittedWeights:
    """Choose each half's weight: the one of `WEIGHTS` with the highest mean of ``measure``.

    Equal means take the smaller weight. Raises `InvalidArgumentError` for fewer than two queries.
    """
    query_ids = sorted(collection.query_ids)
    if len(query_ids) < 2:
        raise InvalidArgumentError(
            f"fitting a first-stage weight needs at least 2 queries, got {len(query_ids)}"
        )
    values: dict[str, list[float]] = {}
    for query_id in query_ids:
        # One query under thirteen weights is measured as thirteen queries, in one call.
        query = _query(collection, reranked, query_id)
        run = {
            str(weight): {
                doc_id: -float(index) for index, doc_id in enumerate(query.ranked(weight)[0])
            }
            for weight in WEIGHTS
        }
        judged = dict.fromkeys(run, collection.qrels[query_id])
        found = {
            metric.query_id: float(metric.value)
            for metric in ir_measures.iter_calc([measure], judged, run)
        }
        values[query_id] = [found[name] for name in run]
        if advance:
            advance(1)
    first, second = query_ids[::2], query_ids[1::2]
    return FittedWeights(
        _best([values[query_id] for query_id in first]),
        _best([values[query_id] for query_id in second]),
        frozenset(first),
    )


def write_interpolated(
    collection: Collection, reranked: TrecRun, weights: FittedWeights, path: Path, tag: str
) -> None:
    """Write the run in which each query is ranked with its own half's weight."""
    with whole_file(path) as file:
        for query_id in collection.query_ids:
            query = _query(collection, reranked, query_id)
            doc_ids, scores = query.ranked(weights.weight(query_id))
            file.write(trec_lines(query_id, doc_ids, scores, tag).encode())


@dataclass(frozen=True, slots=True)
class _Query:
    """One query's candidates in first-stage order, with both scores."""

    doc_ids: list[str]
    scores: list[float]
    first_stage_scores: list[float]

    def ranked(self, weight: float) -> tuple[list[str], list[float]]:
        """Return documents and scores, best first; ties keep the order of the first stage."""
        scores = interpolate(self.scores, self.first_stage_scores, weight)
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        return [self.doc_ids[index] for index in order], [scores[index] for index in order]


def _query(collection: Collection, reranked: TrecRun, query_id: str) -> _Query:
    first, scored = collection.candidates(query_id), reranked.candidates(query_id)
    by_document = dict(zip(scored.doc_ids, scored.scores, strict=True))
    return _Query(first.doc_ids, [by_document[doc_id] for doc_id in first.doc_ids], first.scores)


def _best(values: Sequence[Sequence[float]]) -> float:
    means = [sum(column) / len(values) for column in zip(*values, strict=True)]
    # Means of the same values in another order of summing differ in the last digits.
    return next(
        weight for weight, mean in zip(WEIGHTS, means, strict=True) if mean >= max(means) - 1e-12
    )

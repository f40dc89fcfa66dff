"""Measures by their ir_measures names, computed one query at a time."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import ir_measures

from rerank_plugins.checks import check_texts
from rerank_plugins.errors import InvalidArgumentError, closest_name
from rerank_plugins.evaluation.trec import Candidates, Qrels
from rerank_plugins.progress import Advance

__all__ = ["DEFAULT_MEASURES", "Values", "mean_values", "parse_measures", "query_values"]

DEFAULT_MEASURES = ("nDCG@10", "RR@10")

Values = dict[str, dict[str, float]]
"""``{measure: {query_id: value}}``."""


def parse_measures(names: Iterable[str]) -> list[Any]:
    """Return ir_measures' measures for names such as ``nDCG@10``, ``RR@10`` or ``RR(rel=2)@10``.

    >>> parse_measures(["nDCG@10", "RR(rel=2)@10"])
    [nDCG@10, RR(rel=2)@10]
    >>> parse_measures(["NDGC@10"])
    Traceback (most recent call last):
        ...
    rerank_plugins.errors.InvalidArgumentError: unknown measure 'NDGC@10'; did you mean 'NDCG@10'? \
Names are those of ir_measures, such as nDCG@10, RR@10, R@100, AP or P(rel=2)@5
    """
    measures = [_measure(name) for name in dict.fromkeys(check_texts("names", names))]
    if not measures:
        raise InvalidArgumentError("no measure named; name at least one, such as nDCG@10")
    return measures


def _measure(name: str) -> Any:
    hint = ""
    try:
        tree = ast.parse(name.strip(), mode="eval").body
        cutoff = None
        if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.MatMult):
            cutoff, tree = ast.literal_eval(tree.right), tree.left
        values: dict[str, object] = {}
        if isinstance(tree, ast.Call) and not tree.args:
            values = {str(word.arg): ast.literal_eval(word.value) for word in tree.keywords}
            tree = tree.func
        assert isinstance(tree, ast.Name)
        known = ir_measures.measures.registry
        if tree.id not in known:
            close = closest_name(tree.id, known)
            hint = f"did you mean {name.replace(tree.id, close)!r}? " if close else ""
        measure = known[tree.id](**values)
        measure = measure if cutoff is None else measure @ cutoff
        if ir_measures.DefaultPipeline.supports(measure):
            return measure
        hint = "it is known, but nothing that is installed here computes it. "
    except (SyntaxError, ValueError, KeyError, AssertionError, TypeError):
        pass
    raise InvalidArgumentError(
        f"unknown measure {name!r}; {hint}Names are those of ir_measures, such as nDCG@10, RR@10, "
        "R@100, AP or P(rel=2)@5"
    )


def query_values(
    measures: Sequence[Any],
    qrels: Qrels,
    candidates: Callable[[str], Candidates],
    advance: Advance | None = None,
) -> Values:
    """Return ir_measures' value of every judged query, holding one query of the run at a time.

    Candidates go in with the scores they have, so ties are broken as ir_measures breaks them.
    """
    values: Values = {str(measure): {} for measure in measures}
    for query_id, judged in qrels.items():
        found = candidates(query_id)
        run = (
            {query_id: dict(zip(found.doc_ids, found.scores, strict=True))} if found.doc_ids else {}
        )
        for metric in ir_measures.iter_calc(measures, {query_id: judged}, run):
            values[str(metric.measure)][query_id] = float(metric.value)
        if advance:
            advance(1)
    return values


def mean_values(
    measures: Sequence[Any], values: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """Return one figure a measure over all queries, as ir_measures aggregates it."""
    figures = {}
    for measure in measures:
        aggregate = measure.aggregator()
        for value in values[str(measure)].values():
            aggregate.add(value)
        figures[str(measure)] = float(aggregate.result())
    return figures

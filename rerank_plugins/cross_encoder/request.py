"""The texts of one call in, the job of its distinct pairs out."""

from __future__ import annotations

from collections.abc import Sequence

from rerank_plugins.checks import check_passages, check_query
from rerank_plugins.cross_encoder.scheduling.job import Job


def one_query(query: str, passages: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the query once for each passage, and the passages, both checked.

    As tuples, which the garbage collector, unlike lists, drops from its books when they hold
    nothing but strings: those of a thousand waiting calls bring no full collection nearer.
    """
    texts = tuple(check_passages(passages))
    return (check_query(query),) * len(texts), texts


def distinct_job(
    queries: Sequence[str],
    passages: Sequence[str],
    *,
    max_length: int,
    windows: bool,
    argument: str,
) -> tuple[Job, list[int] | None]:
    """Return the job of the distinct pairs, and each pair's place in it (None: as given).

    A pair that comes again is scored once, so that all of its scores are equal to the last bit.
    """
    indices, places = _distinct(queries, passages)
    if places is not None:
        queries = [queries[index] for index in indices]
        passages = [passages[index] for index in indices]
    job = Job(
        queries,
        passages,
        max_length=max_length,
        windows=windows,
        indices=None if places is None else indices,
        argument=argument,
    )
    return job, places


def _distinct(
    queries: Sequence[str], passages: Sequence[str]
) -> tuple[list[int], list[int] | None]:
    """Return the index of each distinct pair, and each pair's place among these.

    The places are None where all pairs are distinct, and the indices then mean nothing.
    """
    one_query = all(query is queries[0] for query in queries)
    keys: Sequence[object] = passages if one_query else list(zip(queries, passages, strict=True))
    first = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))
    if len(first) == len(keys):
        return [], None
    indices = sorted(first.values())
    place_of = {keys[index]: place for place, index in enumerate(indices)}
    return indices, [place_of[key] for key in keys]

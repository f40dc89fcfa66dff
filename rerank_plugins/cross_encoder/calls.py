"""The texts of one call in, the job of its distinct pairs out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rerank_plugins.checks import check_pairs, check_passages, check_query
from rerank_plugins.cross_encoder.scheduling.job import Job
from rerank_plugins.ranking import CheckedPassages


@dataclass(frozen=True, slots=True)
class CallPairs:
    """The pairs of one call, checked: the query and the passage of each, in the order given.

    ``argument`` is what the caller knows them by. They are ``distinct`` where that is known.
    """

    queries: tuple[str, ...]
    passages: tuple[str, ...]
    argument: str
    distinct: bool = False

    # Tuples, which the garbage collector, unlike lists, drops from its books when they hold
    # nothing but strings: those of a thousand waiting calls bring no full collection nearer.

    @classmethod
    def of_query(cls, query: str, passages: Sequence[str]) -> CallPairs:
        """Return one query with each of ``passages``; raises `InvalidTypeError`."""
        checked = isinstance(passages, CheckedPassages) and passages.query is query
        if not checked:
            query, passages = check_query(query), check_passages(passages)
        texts = tuple(passages)
        return cls((query,) * len(texts), texts, "passages", distinct=checked)

    @classmethod
    def of(cls, pairs: Sequence[tuple[str, str]]) -> CallPairs:
        """Return ``pairs``, each a query and a passage; raises `InvalidTypeError`."""
        queries, passages = check_pairs(pairs)
        return cls(tuple(queries), tuple(passages), "pairs")

    def prefixed(self, query_prefix: str, passage_prefix: str) -> CallPairs:
        """Return the pairs behind these prefixes."""
        if not query_prefix and not passage_prefix:
            return self
        queries, passages = self.queries, self.passages
        if query_prefix:
            # One object for each query: pairs of one query are recognised by it.
            texts = {query: query_prefix + query for query in dict.fromkeys(queries)}
            queries = tuple(texts[query] for query in queries)
        if passage_prefix:
            passages = tuple(passage_prefix + passage for passage in passages)
        return replace(self, queries=queries, passages=passages)

    def job(self, *, max_length: int, windows: bool) -> tuple[Job, list[int] | None]:
        """Return the job of the distinct pairs, and each pair's index in it (None: its own).

        A pair that comes again is scored once, so that all of its scores are equal to the last
        bit.
        """
        queries: Sequence[str] = self.queries
        passages: Sequence[str] = self.passages
        first, index_in_job = (None, None) if self.distinct else self._merged()
        if first is not None:
            queries = [queries[index] for index in first]
            passages = [passages[index] for index in first]
        job = Job(
            queries,
            passages,
            max_length=max_length,
            windows=windows,
            indices=first,
            argument=self.argument,
        )
        return job, index_in_job

    def _merged(self) -> tuple[list[int], list[int]] | tuple[None, None]:
        """Return the first index of each distinct pair, and each pair's index among these.

        None and None where all pairs are distinct.
        """
        queries, passages = self.queries, self.passages
        one_query = all(query is queries[0] for query in queries)
        keys: Sequence[object] = (
            passages if one_query else list(zip(queries, passages, strict=True))
        )
        first = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))
        if len(first) == len(keys):
            return None, None
        indices = sorted(first.values())
        index_of = {keys[index]: position for position, index in enumerate(indices)}
        return indices, [index_of[key] for key in keys]

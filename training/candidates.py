"""Candidate lists: for each query its own passage and passages that look like it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import bm25s
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import Stemmer

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Progress = Callable[[int], None]


class BM25:
    """BM25 over the training passages, with the scores of any pair at hand as a sparse product."""

    def __init__(self, passages: Sequence[str]) -> None:
        self._stemmer = Stemmer.Stemmer("english")
        tokens = bm25s.tokenize(
            list(passages), stopwords="en", stemmer=self._stemmer, show_progress=False
        )
        self._index = bm25s.BM25(k1=0.9, b=0.4)
        self._index.index(tokens, show_progress=False)
        parts = self._index.scores
        shape = (len(passages), len(parts["indptr"]) - 1)
        by_term = sp.csc_matrix((parts["data"], parts["indices"], parts["indptr"]), shape=shape)
        self.passages: sp.csr_matrix = by_term.tocsr()

    def queries(self, queries: Sequence[str]) -> sp.csr_matrix:
        """Return the known terms of each query with their counts (n_queries, n_terms)."""
        known = self._index.vocab_dict
        words = bm25s.tokenize(
            list(queries),
            stopwords="en",
            stemmer=self._stemmer,
            show_progress=False,
            return_ids=False,
        )
        rows, columns = [], []
        for row, terms in enumerate(words):
            for term in terms:
                if term in known and known[term] < self.passages.shape[1]:
                    rows.append(row)
                    columns.append(known[term])
        ones = np.ones(len(rows), dtype=np.float32)
        return sp.csr_matrix((ones, (rows, columns)), shape=(len(queries), self.passages.shape[1]))

    def top(
        self, queries: sp.csr_matrix, *, top_k: int, progress: Progress | None = None
    ) -> IntArray:
        """Return the best passages of each query (n_queries, top_k), -1 where nothing matches."""
        by_term = self.passages.T.tocsr()
        best = np.full((queries.shape[0], top_k), -1, dtype=np.int64)
        for start in range(0, queries.shape[0], 500):
            scores = queries[start : start + 500] @ by_term
            for row in range(scores.shape[0]):
                span = slice(scores.indptr[row], scores.indptr[row + 1])
                values, columns = scores.data[span], scores.indices[span]
                if len(values) > top_k:
                    cut = np.argpartition(-values, top_k)[:top_k]
                    values, columns = values[cut], columns[cut]
                order = np.argsort(-values, kind="stable")
                best[start + row, : len(order)] = columns[order]
            if progress is not None:
                progress(scores.shape[0])
        return best


def dense_top(
    queries: FloatArray,
    passages: FloatArray,
    *,
    top_k: int,
    shard: int,
    rng: np.random.Generator,
    progress: Progress | None = None,
) -> IntArray:
    """Return the nearest passages of each query in a random shard (n_queries, top_k).

    A new shard for every few thousand queries: cheap, and no passage is everyone's neighbour.
    """
    import torch

    everything = torch.from_numpy(passages).bfloat16()
    parts = []
    for start in range(0, len(queries), 2_000):
        chosen = torch.from_numpy(
            rng.choice(len(passages), min(shard, len(passages)), replace=False)
        )
        part = torch.from_numpy(queries[start : start + 2_000]).bfloat16()
        near = (part @ everything[chosen].T).float().topk(top_k, dim=1).indices
        parts.append(chosen[near].numpy())
        if progress is not None:
            progress(len(part))
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class ListShape:
    """What a list of candidates is made of; the first one is the query's own passage."""

    bm25_top: int = 3
    bm25_rest: int = 3
    dense: int = 2
    random: int = 1

    @property
    def size(self) -> int:
        return 1 + self.bm25_top + self.bm25_rest + self.dense + self.random


def candidate_list(
    own: int,
    bm25: IntArray,
    dense: IntArray,
    *,
    shape: ListShape,
    n_passages: int,
    rng: np.random.Generator,
) -> IntArray:
    """Return ``shape.size`` distinct passages, ``own`` first; random ones fill what is missing.

    ``bm25`` and ``dense`` are best first. The near-certain rival at the top and the long tail are
    both what a reranker meets, so BM25 gives some of its first ten and some of the rest.
    """
    matching = bm25[(bm25 >= 0) & (bm25 != own)]
    picked: list[int] = [own]

    def add(pool: IntArray, count: int) -> None:
        fresh = [int(index) for index in rng.permutation(pool) if int(index) not in picked]
        picked.extend(fresh[:count])

    add(matching[:10], shape.bm25_top)
    add(matching[10:], shape.bm25_rest)
    add(dense, shape.dense)
    while len(picked) < shape.size:
        other = int(rng.integers(n_passages))
        if other not in picked:
            picked.append(other)
    return np.asarray(picked, dtype=np.int64)


def reciprocal_rank(scores: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return 1 / rank of column 0 in each row, ties counted against it; 0 below rank 10.

    >>> reciprocal_rank(np.array([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0]])).tolist()
    [1.0, 0.5]
    """
    rank = 1 + (scores[:, 1:] >= scores[:, :1]).sum(axis=1)
    return np.where(rank <= 10, 1.0 / rank, 0.0)

"""Waiting jobs in, batches out: which pairs are tokenised next, and which rows run together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rerank_plugins.cross_encoder.batches import even_batches
from rerank_plugins.cross_encoder.jobs import Batch, Job
from rerank_plugins.cross_encoder.pairs import PairEncoder, Rows

# A slice is what one job may have tokenised at a time. Enough pairs that sorting them by length
# makes even batches; few enough, and of few enough characters, that memory stays flat.
SLICE_PAIRS = 512
SLICE_CHARACTERS = 2_000_000


@dataclass(slots=True)
class Slice:
    """The next pairs of one job, by their range."""

    job: Job
    start: int
    stop: int

    @classmethod
    def next_of(cls, job: Job) -> Slice:
        """Return the job's next pairs: at least one, then as many as fit the limits."""
        start = stop = job.n_planned
        characters = 0
        for passage in job.passages[start : start + SLICE_PAIRS]:
            characters += len(passage)
            if stop > start and characters > SLICE_CHARACTERS:
                break
            stop += 1
        return cls(job, start, stop)

    @property
    def n_pairs(self) -> int:
        return self.stop - self.start


class Planner:
    """Tokenises slices and cuts them into batches. Holds no state that a caller can see."""

    def __init__(self, encoder: PairEncoder, *, max_batch_tokens: int, n_workers: int) -> None:
        self.max_batch_tokens = max_batch_tokens
        self._encoder = encoder
        self._n_workers = n_workers
        self._numbers = itertools.count()

    def shrink(self, max_batch_tokens: int) -> None:
        """Learn from a batch that ran out of memory: never plan one as large again."""
        self.max_batch_tokens = max(1, min(self.max_batch_tokens, max_batch_tokens))

    def encode(self, piece: Slice) -> Rows:
        """Return the rows of a slice, with ``pair_index`` counted from the job's first pair."""
        job = piece.job
        rows = self._encoder.rows(
            job.queries[piece.start : piece.stop],
            job.passages[piece.start : piece.stop],
            max_length=job.max_length,
            windows=job.windows,
        )
        rows.pair_index = rows.pair_index + piece.start
        return rows

    def batches(self, group: Sequence[tuple[Job, Rows]], tag: float) -> list[Batch]:
        """Return the batches of rows that may run together, the first at virtual time ``tag``."""
        jobs = [job for job, _ in group]
        counts = [len(rows.tails) for _, rows in group]
        owner = np.repeat(np.arange(len(jobs)), counts)
        merged = Rows(
            heads=[head for _, rows in group for head in rows.heads],
            tails=[tail for _, rows in group for tail in rows.tails],
            lengths=np.concatenate([rows.lengths for _, rows in group]),
            pair_index=np.concatenate([rows.pair_index for _, rows in group]),
            starts=np.concatenate([rows.starts for _, rows in group]),
            truncated=np.empty(0, np.bool_),
        )
        batches = []
        for order in even_batches(
            merged.lengths, max_batch_tokens=self.max_batch_tokens, n_workers=self._n_workers
        ):
            pairs = self._encoder.pack(merged, order.tolist())
            batches.append(
                Batch(
                    tag,
                    next(self._numbers),
                    pairs,
                    jobs,
                    owner[order],
                    merged.pair_index[order],
                    merged.starts[order],
                )
            )
            tag += pairs.n_tokens
        return batches

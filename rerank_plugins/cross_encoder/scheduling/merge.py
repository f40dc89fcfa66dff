"""Pairs of waiting jobs in, batches out: what is tokenised together, and what runs together."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from rerank_plugins.cross_encoder.pairs import FloatArray, Int64Array, PackedPairs
from rerank_plugins.cross_encoder.scheduling.job import BoolArray, Job, Waiting
from rerank_plugins.cross_encoder.tokens.pairs import PairEncoder, Sequences

# A range is what one job may have tokenised at a time. Enough pairs that sorting them by length
# makes even batches; few enough, and of few enough characters, that memory stays flat and a call
# that arrives meanwhile is not kept waiting.
RANGE_PAIRS = 512
RANGE_CHARACTERS = 2_000_000
# Batches of this many tokens are never cut further after memory ran out: one pair can be as long.
SMALLEST_BUDGET = 512
# Below this many tokens a second worker costs more in hand-over than it saves in arithmetic.
SMALLEST_SHARE = 256


@dataclass(frozen=True, slots=True)
class PairRange:
    """The next pairs of one job: ``start`` to ``stop``."""

    waiting: Waiting
    start: int
    stop: int
    n_characters: int

    @property
    def n_pairs(self) -> int:
        return self.stop - self.start

    @property
    def is_whole(self) -> bool:
        """Whether it holds all of its job."""
        return self.n_pairs == self.waiting.job.n_pairs


@dataclass(frozen=True, slots=True)
class RangeTokens:
    """What a range became: truncation of its pairs (n_pairs,), number of sequences and tokens."""

    waiting: Waiting
    truncated: BoolArray
    n_sequences: int
    n_tokens: int


@dataclass(frozen=True, slots=True)
class TokenisedBatches:
    """Ranges that were tokenised together, and the batches that they are in."""

    ranges: Sequence[RangeTokens]
    batches: Sequence[Batch]


class MergedJobs:
    """The sequences of jobs that were tokenised together, and are mixed in the same batches.

    Job ``i`` has the sequences ``bounds[i]`` to ``bounds[i + 1]``; ``pair_index`` and ``starts``
    (n_sequences,) say which pair each is of, and with which passage token it starts. One of
    several jobs gets its scores when all of them are there: a batch brings a few of every job,
    and to hand over each of these would cost more.
    """

    def __init__(
        self,
        waiting: Sequence[Waiting],
        bounds: Sequence[int],
        pair_index: Int64Array,
        starts: Int64Array,
    ) -> None:
        self.waiting = waiting
        n_sequences = np.diff(bounds)
        self.owner = np.repeat(np.arange(len(waiting)), n_sequences)
        self._bounds = bounds
        self._pair_index = pair_index
        self._starts = starts
        self._logits = np.empty(len(starts))
        self._n_left = n_sequences  # sequences of each job without a score; -1: handed over
        self._lock = threading.Lock()

    def deliver(self, indices: Int64Array, logits: FloatArray) -> None:
        """Take the logits (n,) of the sequences at ``indices`` (n,); hand over complete jobs."""
        if len(self.waiting) == 1:
            self.waiting[0].deliver(self._pair_index[indices], self._starts[indices], logits)
            return
        with self._lock:
            self._logits[indices] = logits
            self._n_left -= np.bincount(self.owner[indices], minlength=len(self.waiting))
            scored = np.flatnonzero(self._n_left == 0)
            self._n_left[scored] = -1
        for index in scored.tolist():
            waiting, mine = self.waiting[index], slice(*self._bounds[index : index + 2])
            if not waiting.job.done:
                waiting.deliver(self._pair_index[mine], self._starts[mine], self._logits[mine])


@dataclass(slots=True, order=True)
class Batch:
    """Some sequences of merged jobs. Orders by virtual time, then by age."""

    virtual_start: float
    number: int
    pairs: PackedPairs = field(compare=False)
    merged: MergedJobs = field(compare=False)
    indices: Int64Array = field(compare=False)  # (n_pairs,): which sequences of ``merged``

    def deliver(self, logits: FloatArray) -> None:
        """Hand over each sequence's logit (n_pairs,)."""
        self.merged.deliver(self.indices, logits)

    def fail(self, error: BaseException) -> None:
        for job in self.open_jobs():
            job.fail(error)

    def open_jobs(self) -> list[Job]:
        """Return the jobs that still wait for a sequence of this batch."""
        jobs = [self.merged.waiting[index].job for index in np.unique(self._owner)]
        return [job for job in jobs if not job.done]

    def without_done(self) -> Batch:
        """Return the batch without the sequences of finished or cancelled jobs."""
        done = np.array([waiting.job.done for waiting in self.merged.waiting])
        return self._select(np.flatnonzero(~done[self._owner])) if done.any() else self

    def halves(self) -> tuple[Batch, Batch]:
        """Return the first and the second half of the sequences."""
        n_pairs = self.pairs.n_pairs
        middle = n_pairs // 2
        return self._select(np.arange(middle)), self._select(np.arange(middle, n_pairs))

    def _select(self, positions: Int64Array) -> Batch:
        pairs = self.pairs.select(positions)
        indices = self.indices[positions]
        return Batch(self.virtual_start, self.number, pairs, self.merged, indices)

    @property
    def _owner(self) -> Int64Array:
        return self.merged.owner[self.indices]


class Planner:
    """Tokenises ranges and cuts them into batches; any number of threads may do so at once."""

    def __init__(self, encoder: PairEncoder, *, max_batch_tokens: int, n_workers: int) -> None:
        self.max_batch_tokens = max_batch_tokens
        self._encoder = encoder
        self._n_workers = n_workers
        self._numbers = itertools.count()
        # A GPU's batch holds more pairs than fit into the default.
        self._range_pairs = max(RANGE_PAIRS, n_workers * max_batch_tokens // 64)

    def shrink(self, max_batch_tokens: int) -> None:
        """Learn from a batch that ran out of memory: never plan one as large again."""
        floor = min(self.max_batch_tokens, SMALLEST_BUDGET)
        self.max_batch_tokens = max(floor, min(self.max_batch_tokens, max_batch_tokens))

    def next_ranges(self, waiting: Iterable[Waiting], now: float) -> list[PairRange]:
        """Return what to tokenise next of ``waiting``, which come in the order of their turns.

        Small calls go together, because they fill each other's batches. A large one goes alone:
        all calls that are merged wait for all of their sequences.
        """
        merged: list[PairRange] = []
        n_pairs = n_characters = 0
        for each in waiting:
            # A job that has had more than its share waits until there is nothing else.
            if merged and each.virtual_start > now:
                break
            if merged and each.job.windows != merged[0].waiting.job.windows:
                continue
            piece = self._next_range(each)
            if not piece.is_whole or piece.n_pairs > self._range_pairs // 8:
                if merged:
                    continue
                return [piece]
            n_pairs += piece.n_pairs
            n_characters += piece.n_characters
            if merged and (n_pairs > self._range_pairs or n_characters > RANGE_CHARACTERS):
                break
            merged.append(piece)
        return merged

    def _next_range(self, waiting: Waiting) -> PairRange:
        """Return the job's next pairs: at least one, then as many as fit the limits."""
        start = waiting.n_tokenised
        passages = waiting.job.passages[start : start + self._range_pairs]
        # Nearly always all of them: found without a loop, because the queue's lock is held.
        n_characters = sum(map(len, passages))
        if n_characters <= RANGE_CHARACTERS:
            return PairRange(waiting, start, start + len(passages), n_characters)
        ends = list(itertools.accumulate(map(len, passages)))
        n_pairs = max(1, sum(end <= RANGE_CHARACTERS for end in ends))
        return PairRange(waiting, start, start + n_pairs, ends[n_pairs - 1])

    def tokenise(self, ranges: Sequence[PairRange]) -> TokenisedBatches:
        """Tokenise ``ranges`` in one go; their jobs agree about windows."""
        sequences = self._sequences(ranges)
        tokens, bounds, first = [], [0], 0
        for piece in ranges:
            last = first + piece.n_pairs
            start = bounds[-1]
            stop = start + int(np.searchsorted(sequences.pair_index[start:], last))
            n_tokens = int(sequences.lengths[start:stop].sum())
            truncated = sequences.truncated[first:last]
            tokens.append(RangeTokens(piece.waiting, truncated, stop - start, n_tokens))
            # Count from the first pair of each job instead of the first of the first range.
            sequences.pair_index[start:stop] += piece.start - first
            bounds.append(stop)
            first = last
        waiting = [piece.waiting for piece in ranges]
        merged = MergedJobs(waiting, bounds, sequences.pair_index, sequences.starts)
        return TokenisedBatches(tokens, self._batches(merged, sequences))

    def _sequences(self, ranges: Sequence[PairRange]) -> Sequences:
        queries: list[str] = []
        passages: list[str] = []
        for piece in ranges:
            queries += piece.waiting.job.queries[piece.start : piece.stop]
            passages += piece.waiting.job.passages[piece.start : piece.stop]
        job = ranges[0].waiting.job
        lengths = [piece.waiting.job.max_length for piece in ranges]
        max_length: int | Int64Array = job.max_length
        if any(each != max_length for each in lengths):
            max_length = np.repeat(lengths, [piece.n_pairs for piece in ranges])
        return self._encoder.sequences(
            queries, passages, max_length=max_length, windows=job.windows
        )

    def _batches(self, merged: MergedJobs, sequences: Sequences) -> list[Batch]:
        """Return the batches of the sequences, from the virtual time of their jobs on."""
        virtual_start = max(waiting.virtual_start for waiting in merged.waiting)
        batches = []
        for order in even_batches(
            sequences.lengths, max_batch_tokens=self.max_batch_tokens, n_workers=self._n_workers
        ):
            pairs = self._encoder.pack(sequences, order.tolist())
            batches.append(Batch(virtual_start, next(self._numbers), pairs, merged, order))
            virtual_start += pairs.n_tokens
        return batches


def even_batches(lengths: Int64Array, *, max_batch_tokens: int, n_workers: int) -> list[Int64Array]:
    """Return arrays of indices, longest first, of about equal numbers of tokens.

    No batch holds more than ``max_batch_tokens``, save one whose single pair is longer. There are
    as many batches as the budget asks for, rounded up so that ``n_workers`` finish together.
    Longest pairs come first, so an out-of-memory error comes first too.

    >>> even_batches(np.array([300, 900, 400, 800]), max_batch_tokens=1800, n_workers=2)
    [array([1]), array([3, 2, 0])]
    """
    n_pairs, n_tokens = len(lengths), int(lengths.sum())
    if n_pairs == 0:
        return []
    n_batches = -(-n_tokens // max_batch_tokens)
    if n_tokens >= n_workers * SMALLEST_SHARE:
        n_batches = -(-n_batches // n_workers) * n_workers
    n_batches = min(n_batches, n_pairs)
    order = np.argsort(-lengths, kind="stable")
    if n_batches == 1:
        return [order]
    # Deal neighbours in length to the same batch: a batch ends where its share of tokens does.
    # The last pair of a batch may pass that mark, so aim low enough for the budget to hold.
    target = n_tokens / n_batches
    batches: list[Int64Array] = []
    start = 0
    ends = np.cumsum(lengths[order])
    while start < n_pairs:
        done = int(ends[start - 1]) if start else 0
        left = n_batches - len(batches)
        share = (n_tokens - done) / left if left > 0 else target
        within = min(max(share, 1.0), float(max_batch_tokens))
        stop = int(np.searchsorted(ends, done + within + 0.5, side="right"))
        stop = max(stop, start + 1)
        batches.append(order[start:stop])
        start = stop
    return batches

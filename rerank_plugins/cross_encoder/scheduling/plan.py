"""Waiting jobs in, batches out: which pairs are tokenised next, and which rows run together."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rerank_plugins.cross_encoder.pairs import even_batches
from rerank_plugins.cross_encoder.scheduling.jobs import Job, Reading
from rerank_plugins.cross_encoder.scheduling.ready import Batch, Group
from rerank_plugins.cross_encoder.tokens.pairs import PairEncoder, Sequences

# A slice is what one job may have tokenised at a time. Enough pairs that sorting them by length
# makes even batches; few enough, and of few enough characters, that memory stays flat and a call
# that arrives meanwhile is not kept waiting.
SLICE_PAIRS = 512
SLICE_CHARACTERS = 2_000_000
# A passage that is read to its end is tokenised in parts of this size, where its tokenizer can be
# cut: a slice of its own each, so that the worker is free again in between.
PART_CHARACTERS = 250_000
# Batches of this many tokens are never cut further after memory ran out: one pair can be as long.
SMALLEST_BUDGET = 512


@dataclass(slots=True)
class Slice:
    """The next pairs of one job, by their range; no pair means the next part of a passage."""

    job: Job
    start: int
    stop: int
    n_characters: int

    @property
    def n_pairs(self) -> int:
        return self.stop - self.start

    @property
    def is_first(self) -> bool:
        """Whether nothing of its job has been tokenised before."""
        return self.start == 0 and self.job.reading is None

    @property
    def is_whole(self) -> bool:
        """Whether it holds all of its job."""
        return self.n_pairs == self.job.n_pairs


@dataclass(frozen=True, slots=True)
class Part:
    """What a slice became: its pairs' truncation, and how many rows, of how many tokens."""

    job: Job
    truncated: npt.NDArray[np.bool_]
    n_rows: int
    n_tokens: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Slices that were tokenised together, and the batches that they are in."""

    parts: Sequence[Part]
    batches: Sequence[Batch]


class Planner:
    """Tokenises slices and cuts them into batches; any number of threads may do so at once."""

    def __init__(self, encoder: PairEncoder, *, max_batch_tokens: int, n_workers: int) -> None:
        self.max_batch_tokens = max_batch_tokens
        self._encoder = encoder
        self._n_workers = n_workers
        self._numbers = itertools.count()
        # A GPU's batch holds more pairs than fit into the default.
        self._slice_pairs = max(SLICE_PAIRS, n_workers * max_batch_tokens // 64)

    def shrink(self, max_batch_tokens: int) -> None:
        """Learn from a batch that ran out of memory: never plan one as large again."""
        floor = min(self.max_batch_tokens, SMALLEST_BUDGET)
        self.max_batch_tokens = max(floor, min(self.max_batch_tokens, max_batch_tokens))

    def next_slices(self, jobs: Iterable[Job], now: float) -> list[Slice]:
        """Return what to tokenise next of ``jobs``, which come in the order of their turns.

        Small calls go together, because they fill each other's batches. A large one goes alone:
        all calls of a group wait for all of its rows.
        """
        group: list[Slice] = []
        n_pairs = n_characters = 0
        for job in jobs:
            # Whoever is ahead of its share waits until there is nothing else.
            if group and job.tag > now:
                break
            if group and job.windows != group[0].job.windows:
                continue
            piece = self._next_slice(job)
            few = piece.is_whole and piece.n_pairs <= self._slice_pairs // 8
            if not few or _is_long(job, piece.start):
                if group:
                    continue
                return [piece]
            n_pairs += piece.n_pairs
            n_characters += piece.n_characters
            if group and (n_pairs > self._slice_pairs or n_characters > SLICE_CHARACTERS):
                break
            group.append(piece)
        return group

    def _next_slice(self, job: Job) -> Slice:
        """Return the job's next pairs: at least one, then as many as fit the limits."""
        start = stop = job.n_planned
        if _is_long(job, start):
            is_read = job.reading and job.reading.n_characters == len(job.passages[start])
            return Slice(job, start, start + bool(is_read), PART_CHARACTERS)
        passages = job.passages[start : start + self._slice_pairs]
        # Nearly always all of them: found without a loop, because the queue's lock is held.
        characters = sum(map(len, passages))
        if characters <= SLICE_CHARACTERS and max(map(len, passages)) <= PART_CHARACTERS:
            return Slice(job, start, start + len(passages), characters)
        characters = 0
        for passage in passages:
            over = characters + len(passage) > SLICE_CHARACTERS
            if stop > start and (over or _is_long(job, stop)):
                break
            characters += len(passage)
            stop += 1
        return Slice(job, start, stop, characters)

    def plan(self, slices: Sequence[Slice]) -> Plan:
        """Tokenise ``slices`` in one go; their jobs agree about windows."""
        rows = self._rows(slices)
        parts, bounds, first = [], [0], 0
        for piece in slices:
            last = first + piece.n_pairs
            start = bounds[-1]
            stop = start + int(np.searchsorted(rows.pair_index[start:], last))
            n_tokens = int(rows.lengths[start:stop].sum())
            parts.append(Part(piece.job, rows.truncated[first:last], stop - start, n_tokens))
            # Counted from the first pair of each job, in place of the first slice's.
            rows.pair_index[start:stop] += piece.start - first
            bounds.append(stop)
            first = last
        group = Group([piece.job for piece in slices], bounds, rows.pair_index, rows.starts)
        return Plan(parts, self._batches(group, rows))

    def _rows(self, slices: Sequence[Slice]) -> Sequences:
        job = slices[0].job
        if not slices[0].n_pairs:
            self._read(job, job.passages[slices[0].start])
            return Sequences.none()
        queries: list[str] = []
        passages: list[str] = []
        for piece in slices:
            queries += piece.job.queries[piece.start : piece.stop]
            passages += piece.job.passages[piece.start : piece.stop]
        max_length: int | npt.NDArray[np.int64] = job.max_length
        if any(piece.job.max_length != max_length for piece in slices):
            max_length = np.repeat(
                [piece.job.max_length for piece in slices], [piece.n_pairs for piece in slices]
            )
        return self._encoder.sequences(
            queries,
            passages,
            max_length=max_length,
            windows=job.windows,
            passage_ids=[np.concatenate(job.reading.ids)] if job.reading else None,
        )

    def _read(self, job: Job, passage: str) -> None:
        reading = job.reading = job.reading or Reading()
        ids, reading.n_characters = self._encoder.read(
            passage, reading.n_characters, PART_CHARACTERS
        )
        reading.ids.append(ids)

    def _batches(self, group: Group, rows: Sequences) -> list[Batch]:
        """Return the batches of the group's rows, from the virtual time of its jobs on."""
        tag = max(job.tag for job in group.jobs)
        batches = []
        for order in even_batches(
            rows.lengths, max_batch_tokens=self.max_batch_tokens, n_workers=self._n_workers
        ):
            pairs = self._encoder.pack(rows, order.tolist())
            batches.append(Batch(tag, next(self._numbers), pairs, group, order))
            tag += pairs.n_tokens
        return batches


def _is_long(job: Job, index: int) -> bool:
    """Say whether a passage is read in parts; one that is cut at ``max_length`` never is."""
    return job.windows and len(job.passages[index]) > PART_CHARACTERS

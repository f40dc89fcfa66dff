"""A model whose scores can be worked out by hand, that can be held up and made to fail.

Texts are words that are whole numbers, and each word is one token with that id. The logit of a
row is the sum of ``id * position`` over its query and passage tokens, counted from 1.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from rerank_plugins.cross_encoder.pairs import FloatArray, PackedPairs, TokenIds
from rerank_plugins.cross_encoder.scheduling.job import Job
from rerank_plugins.cross_encoder.scheduling.merge import Planner
from rerank_plugins.cross_encoder.scheduling.scoring_queue import ScoringQueue
from rerank_plugins.cross_encoder.tokens.encoders import TextEncoder
from rerank_plugins.cross_encoder.tokens.pairs import PairEncoder
from rerank_plugins.cross_encoder.tokens.template import PairTemplate

SPECIAL = 3  # tokens a pair that are no words
LONG = 60.0  # seconds after which a wait that should end has failed


def expected(query: str, passage: str) -> float:
    """Return the logit of a pair that is read whole."""
    words = [int(word) for word in f"{query} {passage}".split()]
    return float(sum(position * word for position, word in enumerate(words, start=1)))


class NumberEncoder:
    """The words of a text as its ids. Raises for a text that holds another word."""

    def encode(self, texts: Sequence[str], limit: int | None = None) -> list[TokenIds]:
        return [np.array([int(word) for word in text.split()], np.int32) for text in texts]


class FakeReplica:
    """Computes logits at once; ``before`` is called first, with the batch, and may raise."""

    pads_to_longest = False

    def __init__(
        self,
        before: Callable[[PackedPairs], object] = lambda pairs: None,
        *,
        n_workers: int = 1,
        launches_async: bool = False,
    ) -> None:
        self.before = before
        self.n_workers = n_workers
        self.launches_async = launches_async
        self.batches: list[PackedPairs] = []

    def launch(self, pairs: PackedPairs) -> object:
        if not self.launches_async:
            self.before(pairs)
        self.batches.append(pairs)
        return pairs

    def collect(self, launched: object) -> FloatArray:
        assert isinstance(launched, PackedPairs)
        if self.launches_async:
            self.before(launched)
        return np.array([logit(row) for row in rows_of(launched)], np.float64)


def rows_of(pairs: PackedPairs) -> list[list[int]]:
    """Return the words of each row, without special tokens."""
    ends = np.cumsum(pairs.lengths)
    rows = np.split(pairs.ids, ends[:-1])
    return [[int(word) for word in row if word >= 0] for row in rows]


def logit(words: Sequence[int]) -> float:
    return float(sum(position * word for position, word in enumerate(words, start=1)))


class Gate:
    """Holds up whoever calls it until it is opened, and says when somebody came."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self, _: object = None) -> None:
        self.reached.release()
        assert self._open.wait(60), "the gate was never opened"

    def open(self) -> None:
        self._open.set()


class Steps:
    """Runs one batch for each release of ``go``; ``order`` has the queries of each, joined."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.started = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def __call__(self, pairs: PackedPairs) -> None:
        self.order.append("".join(sorted({str(row[0]) for row in rows_of(pairs)})))
        self.started.release()
        assert self.go.acquire(timeout=LONG)


def fake_encoder(texts: TextEncoder | None = None) -> PairEncoder:
    template = PairTemplate(
        prefix=np.array([-1], np.int32),
        middle=np.array([-2], np.int32),
        suffix=np.array([-2], np.int32),
        query_type=0,
        passage_type=1,
    )
    return PairEncoder(texts or NumberEncoder(), template, "{}")


def fake_queue(
    *replicas: FakeReplica,
    texts: TextEncoder | None = None,
    max_batch_tokens: int = 64,
    max_queued_pairs: int | None = None,
    survives_fork: bool = True,
) -> ScoringQueue:
    replicas = replicas or (FakeReplica(),)
    planner = Planner(
        fake_encoder(texts),
        max_batch_tokens=max_batch_tokens,
        n_workers=sum(replica.n_workers for replica in replicas),
    )
    return ScoringQueue(
        replicas,
        planner,
        name="fake",
        max_queued_pairs=max_queued_pairs,
        survives_fork=survives_fork,
    )


def job(
    query: str, passages: Sequence[str], *, max_length: int = 512, windows: bool = False
) -> Job:
    return Job([query] * len(passages), passages, max_length=max_length, windows=windows)


def passages(count: int, start: int = 0) -> list[str]:
    return [" ".join(["1"] * (n % 7) + [str(n)]) for n in range(start, start + count)]


def submit(queue: ScoringQueue, *jobs: Job) -> None:
    for each in jobs:
        queue.submit(each)


def check(each: Job) -> None:
    """Wait for a job, and compare its scores with those worked out by hand."""
    outcome = each.result(LONG)
    wanted = [expected(q, p) for q, p in zip(each.queries, each.passages, strict=True)]
    assert outcome.logits.tolist() == wanted


def settles(holds: Callable[[], bool]) -> None:
    """Wait until ``holds``: a job is settled a moment before its pairs are counted out."""
    end = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)

"""A model, a text or a planner that fails: who gets the error, and that all others go on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from fake_model import (
    LONG,
    FakeReplica,
    Gate,
    check,
    fake_encoder,
    fake_queue,
    job,
    logit,
    passages,
    rows_of,
    submit,
)

from rerank_plugins.cross_encoder.pairs import FloatArray, PackedPairs
from rerank_plugins.cross_encoder.scheduling.job import Job
from rerank_plugins.cross_encoder.scheduling.merge import PairRange, Planner, TokenisedBatches
from rerank_plugins.cross_encoder.scheduling.scoring_queue import ScoringQueue
from rerank_plugins.errors import (
    NonFiniteScoreError,
    OutOfMemoryError,
    RerankError,
    ScorerClosedError,
    ScoringError,
)


def test_a_batch_that_runs_out_of_memory_is_halved_and_finished_work_stays() -> None:
    def before(pairs: PackedPairs) -> None:
        if pairs.n_tokens > 700:
            raise torch.OutOfMemoryError("fake")

    replica = FakeReplica(before)
    queue = fake_queue(replica, max_batch_tokens=2000)
    call = job("1", passages(400))
    queue.submit(call)
    check(call)
    stats = queue.stats()
    assert stats.out_of_memory_retries >= 1
    assert stats.max_batch_tokens <= 1000
    assert sum(batch.n_pairs for batch in replica.batches) == 400, "nothing was computed twice"
    queue.close()


def test_one_pair_that_does_not_fit_is_an_error_of_its_own_call_only() -> None:
    def before(pairs: PackedPairs) -> None:
        if pairs.max_length > 50:
            raise MemoryError

    gate = Gate()
    replica = FakeReplica(gate)
    queue = fake_queue(replica, max_batch_tokens=10_000)
    queue.submit(job("1", ["1"]))
    assert gate.reached.acquire(timeout=LONG)
    large, small = job("2", ["3", "4 " * 60]), job("3", ["3", "4"])
    submit(queue, large, small)
    replica.before = before
    gate.open()
    check(small)
    with pytest.raises(OutOfMemoryError, match=r"one pair of 64 tokens .*smaller max_length"):
        large.result(LONG)
    queue.close()


@pytest.mark.parametrize("launches_async", [False, True])
def test_a_failing_model_fails_only_the_calls_it_fails_for(launches_async: bool) -> None:
    def before(pairs: PackedPairs) -> None:
        if any(666 in row for row in rows_of(pairs)):
            raise RuntimeError("broken kernel")

    gate = Gate()
    replica = FakeReplica(gate, launches_async=launches_async)
    queue = fake_queue(replica, max_batch_tokens=10_000)
    queue.submit(job("1", ["1"]))
    assert gate.reached.acquire(timeout=LONG)
    good = [job(str(n), passages(5)) for n in range(2, 6)]
    bad = job("9", ["5", "666"])
    submit(queue, *good[:2], bad, *good[2:])
    replica.before = before
    gate.open()
    for call in good:
        check(call)
    with pytest.raises(ScoringError, match=r"RuntimeError: broken kernel") as caught:
        bad.result(LONG)
    assert isinstance(caught.value.__cause__, RuntimeError)
    queue.close()


def test_a_text_that_cannot_be_tokenised_fails_only_its_call() -> None:
    gate = Gate()
    queue = fake_queue(FakeReplica(gate))
    queue.submit(job("1", ["1"]))
    assert gate.reached.acquire(timeout=LONG)
    good, bad = job("2", passages(5)), job("3", ["4", "five"])
    submit(queue, good, bad)
    gate.open()
    check(good)
    with pytest.raises(ScoringError, match="could not be tokenised: ValueError"):
        bad.result(LONG)
    queue.close()


class BrokenPlanner(Planner):
    """Cannot make batches of pairs with the query 13."""

    def tokenise(self, ranges: Sequence[PairRange]) -> TokenisedBatches:
        if any(piece.waiting.job.queries[0] == "13" for piece in ranges):
            raise MemoryError
        return super().tokenise(ranges)


class UnreachablePlanner(Planner):
    """Fails where nothing is expected to."""

    def next_ranges(self, waiting: object, now: float) -> list[PairRange]:
        raise AssertionError("unreachable")


def test_a_failure_while_batches_are_cut_leaves_the_queue_working() -> None:
    planner = BrokenPlanner(fake_encoder(), max_batch_tokens=64, n_workers=1)
    gate = Gate()
    queue = ScoringQueue([FakeReplica(gate)], planner, name="fake")
    queue.submit(job("1", ["1"]))
    assert gate.reached.acquire(timeout=LONG)
    # These wait together, and are planned together at first.
    good = [job(str(n), passages(3)) for n in range(2, 4)]
    bad = [job("13", passages(3)) for _ in range(3)]
    submit(queue, bad[0], good[0], bad[1], bad[2], good[1])
    gate.open()
    for call in bad:
        with pytest.raises(OutOfMemoryError):
            call.result(LONG)
    for call in good:
        check(call)
    after = job("1", passages(3))
    queue.submit(after)
    check(after)
    queue.close()


def test_a_worker_that_dies_leaves_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    planner = UnreachablePlanner(fake_encoder(), max_batch_tokens=64, n_workers=1)
    queue = ScoringQueue([FakeReplica()], planner, name="fake")
    call = job("1", passages(3))
    queue.submit(call)
    with pytest.raises(RerankError):
        call.result(LONG)
    with pytest.raises(ScorerClosedError):
        queue.submit(job("1", ["1"]))
    assert "a worker thread failed" in caplog.text
    queue.close()


class NotFinite(FakeReplica):
    """Answers NaN for the passage 13."""

    def collect(self, launched: object) -> FloatArray:
        assert isinstance(launched, PackedPairs)
        return np.array([np.nan if row[-1] == 13 else logit(row) for row in rows_of(launched)])


def test_nan_names_the_passage_by_its_place_in_the_callers_list() -> None:
    queue = fake_queue(NotFinite())
    call = Job(
        ["1", "1"], ["5", "13"], max_length=512, windows=False, indices=[0, 4], argument="pairs"
    )
    queue.submit(call)
    with pytest.raises(NonFiniteScoreError, match=r"nan for pairs\[4\], the passage '13'"):
        call.result(LONG)
    queue.close()


def test_nan_fails_its_own_call_and_not_those_in_its_batch() -> None:
    gate = Gate()
    queue = fake_queue(NotFinite(gate), max_batch_tokens=10_000)
    queue.submit(job("1", ["1"]))
    assert gate.reached.acquire(timeout=LONG)
    good, bad = [job(str(n), ["3", "4"]) for n in range(2, 5)], job("9", ["5", "13"])
    submit(queue, good[0], bad, *good[1:])
    gate.open()
    for call in good:
        check(call)
    with pytest.raises(NonFiniteScoreError, match=r"passages\[1\], the passage '13'"):
        bad.result(LONG)
    queue.close()


class TooFew(FakeReplica):
    def collect(self, launched: object) -> FloatArray:
        return super().collect(launched)[:-1]


def test_a_model_that_returns_too_few_scores_is_an_error() -> None:
    queue = fake_queue(TooFew())
    call = job("1", passages(3))
    queue.submit(call)
    with pytest.raises(ScoringError, match=r"array \(2,\)"):
        call.result(LONG)
    queue.close()

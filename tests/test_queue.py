"""The queue with a model that can be worked out by hand: who gets what, in which order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from fake_model import (
    SPECIAL,
    FakeReplica,
    Gate,
    decision,
    expected,
    fake_encoder,
    fake_queue,
    job,
    rows_of,
)

from rerank_plugins.cross_encoder.batches import PackedPairs
from rerank_plugins.cross_encoder.checkpoint.head_rule import FloatArray
from rerank_plugins.cross_encoder.queue.jobs import Job
from rerank_plugins.cross_encoder.queue.plan import SLICE_PAIRS, Planner, Slice
from rerank_plugins.cross_encoder.queue.ready import Batch
from rerank_plugins.cross_encoder.queue.scoring_queue import ScoringQueue
from rerank_plugins.cross_encoder.tokens.pairs import Rows
from rerank_plugins.errors import (
    DeviceError,
    NonFiniteScoreError,
    OutOfMemoryError,
    OverloadedError,
    RerankError,
    ScorerClosedError,
    ScoringError,
)

LONG = 60.0  # seconds after which a wait that should end has failed


def passages(count: int, start: int = 0) -> list[str]:
    return [" ".join(["1"] * (n % 7) + [str(n)]) for n in range(start, start + count)]


def submit(queue: ScoringQueue, *jobs: Job) -> None:
    for each in jobs:
        queue.submit(each)


def check(each: Job) -> None:
    outcome = each.future.result(LONG)
    wanted = [expected(q, p) for q, p in zip(each.queries, each.passages, strict=True)]
    assert outcome.decisions.tolist() == wanted


@pytest.mark.parametrize("n_pairs", [0, 1, 2, 1000, 3000])
@pytest.mark.parametrize(
    "replicas",
    [
        lambda: [FakeReplica()],
        lambda: [FakeReplica(n_workers=3)],
        lambda: [FakeReplica(runs_ahead=True)],
        lambda: [FakeReplica(), FakeReplica(runs_ahead=True), FakeReplica(n_workers=2)],
    ],
    ids=["one", "three threads", "runs ahead", "several devices"],
)
def test_any_number_of_pairs_on_any_devices(
    n_pairs: int, replicas: Callable[[], list[FakeReplica]]
) -> None:
    queue = fake_queue(*replicas())
    one = job("7", passages(n_pairs))
    queue.submit(one)
    check(one)
    queue.close()


def test_waiting_calls_share_batches_and_get_their_own_scores() -> None:
    gate = Gate()
    replica = FakeReplica(gate)
    queue = fake_queue(replica, max_batch_tokens=1000)
    first = job("1", ["1"])
    queue.submit(first)
    assert gate.reached.acquire(timeout=LONG)
    calls = [job(str(n), passages(4, start=n)) for n in range(10)]
    submit(queue, *calls)
    gate.open()
    for call in [first, *calls]:
        check(call)
    assert [len(batch.lengths) for batch in replica.batches] == [1, 40]
    assert queue.stats().pairs == 41
    assert queue.stats().calls == 11
    queue.close()


def test_a_small_call_overtakes_a_bulk_call_and_both_end() -> None:
    order: list[str] = []
    started = threading.Semaphore(0)
    go = threading.Semaphore(0)

    def step(pairs: PackedPairs) -> None:
        order.append(",".join(sorted({str(row[0]) for row in rows_of(pairs)})))
        started.release()
        assert go.acquire(timeout=LONG)

    queue = fake_queue(FakeReplica(step), max_batch_tokens=64)
    bulk = job("1", passages(400))
    queue.submit(bulk)
    assert started.acquire(timeout=LONG)
    small = job("2", ["5"])
    queue.submit(small)
    for _ in range(1000):
        go.release()
    check(small)
    check(bulk)
    assert "2" in order[:3], "the small call ran among the first after the one that was running"
    assert len(order) > 20
    queue.close()


def test_a_stream_of_small_calls_does_not_starve_a_bulk_call() -> None:
    """A fresh small call is put in before every batch, so there is always one waiting."""
    calls: list[Job] = []
    lengths: list[int] = []

    def step(pairs: PackedPairs) -> None:
        lengths.append(pairs.n_pairs)
        if not bulk.done and len(calls) < 5000:
            calls.append(job("2", ["5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5"] * 1))
            queue.submit(calls[-1])

    queue = fake_queue(FakeReplica(step), max_batch_tokens=64)
    bulk = job("1", passages(300))
    queue.submit(bulk)
    check(bulk)
    assert len(calls) < 5000
    for call in calls:
        check(call)
    queue.close()


def test_queued_pairs_return_to_zero() -> None:
    queue = fake_queue(FakeReplica(n_workers=2))
    calls = [job(str(n), passages(50)) for n in range(20)]
    submit(queue, *calls)
    for call in calls:
        check(call)
    settles(lambda: queue.stats().queued_pairs == 0)
    queue.close()


def settles(holds: Callable[[], bool]) -> None:
    """Wait until ``holds``: a future is settled a moment before its pairs are counted out."""
    end = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_full_queue_refuses_by_name() -> None:
    gate = Gate()
    queue = fake_queue(FakeReplica(gate), max_queued_pairs=10, when_full="raise")
    first = job("1", passages(8))
    queue.submit(first)
    with pytest.raises(OverloadedError, match=r"8 pairs wait for fake, and 3 more .*=10"):
        queue.submit(job("2", passages(3)))
    second = job("2", passages(2))
    queue.submit(second)
    gate.open()
    check(first)
    check(second)
    assert queue.stats().calls == 2
    queue.close()


def test_a_full_queue_lets_calls_wait_in_order_and_one_larger_than_the_bound_go_alone() -> None:
    gate = Gate()
    replica = FakeReplica(gate)
    queue = fake_queue(replica, max_queued_pairs=10)
    calls = [job(str(n), passages(count)) for n, count in enumerate([8, 25, 1, 9, 0])]
    submit(queue, *calls)
    assert queue.stats().queued_pairs == 8
    gate.open()
    for call in calls:
        check(call)
    queries = [row[0] for batch in replica.batches for row in rows_of(batch)]
    assert queries.index(1) > max(i for i, q in enumerate(queries) if q == 0)
    assert queries.index(2) > max(i for i, q in enumerate(queries) if q == 1)
    queue.close()


def test_a_cancelled_call_takes_its_pairs_out() -> None:
    gate = Gate()
    replica = FakeReplica(gate)
    queue = fake_queue(replica, max_queued_pairs=100)
    running = job("1", ["1"])
    queue.submit(running)
    assert gate.reached.acquire(timeout=LONG)
    waiting, in_lobby = job("2", passages(99)), job("3", passages(50))
    submit(queue, waiting, in_lobby)
    assert queue.stats().queued_pairs == 100
    assert in_lobby.future.cancel()
    assert waiting.future.cancel()
    assert queue.stats().queued_pairs == 1
    gate.open()
    check(running)
    after = job("4", ["4"])
    queue.submit(after)
    check(after)
    assert {row[0] for batch in replica.batches for row in rows_of(batch)} == {1, 4}
    queue.close()


def test_cancelling_the_call_ahead_lets_the_next_one_in() -> None:
    gate = Gate()
    queue = fake_queue(FakeReplica(gate), max_queued_pairs=10)
    first, second = job("1", passages(10)), job("2", passages(10))
    submit(queue, first, second)
    assert first.future.cancel()
    gate.open()
    check(second)
    queue.close()


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
        large.future.result(LONG)
    queue.close()


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_a_failing_model_fails_only_the_calls_it_fails_for(runs_ahead: bool) -> None:
    def before(pairs: PackedPairs) -> None:
        if any(666 in row for row in rows_of(pairs)):
            raise RuntimeError("broken kernel")

    gate = Gate()
    replica = FakeReplica(gate, runs_ahead=runs_ahead)
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
        bad.future.result(LONG)
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
        bad.future.result(LONG)
    queue.close()


class BrokenPlanner(Planner):
    """Cannot make batches of pairs with the query 13."""

    def batches(self, group: list[tuple[Job, Rows]]) -> list[Batch]:  # type: ignore[override]
        if any(job.queries[0] == "13" for job, _ in group):
            raise MemoryError
        return super().batches(group)


class UnreachablePlanner(Planner):
    """Fails where nothing is expected to."""

    def next_slices(self, jobs: object, now: float) -> list[Slice]:
        raise AssertionError("unreachable")


def test_a_failure_while_batches_are_cut_leaves_the_queue_working() -> None:
    planner = BrokenPlanner(fake_encoder(), max_batch_tokens=64, n_workers=2)
    queue = ScoringQueue([FakeReplica(n_workers=2)], planner, name="fake")
    for _ in range(3):
        bad = job("13", passages(3))
        queue.submit(bad)
        with pytest.raises(OutOfMemoryError):
            bad.future.result(LONG)
    good = job("1", passages(3))
    queue.submit(good)
    check(good)
    queue.close()


def test_a_worker_that_dies_leaves_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    planner = UnreachablePlanner(fake_encoder(), max_batch_tokens=64, n_workers=1)
    queue = ScoringQueue([FakeReplica()], planner, name="fake")
    call = job("1", passages(3))
    queue.submit(call)
    with pytest.raises(RerankError):
        call.future.result(LONG)
    with pytest.raises(ScorerClosedError):
        queue.submit(job("1", ["1"]))
    assert "a worker thread failed" in caplog.text
    queue.close()


class NotFinite(FakeReplica):
    """Answers NaN for the passage 13."""

    def collect(self, launched: object) -> FloatArray:
        assert isinstance(launched, PackedPairs)
        return np.array([np.nan if row[-1] == 13 else decision(row) for row in rows_of(launched)])


def test_nan_names_the_passage_by_its_place_in_the_callers_list() -> None:
    queue = fake_queue(NotFinite())
    call = Job(
        ["1", "1"], ["5", "13"], max_length=512, windows=False, indices=[0, 4], argument="pairs"
    )
    queue.submit(call)
    with pytest.raises(NonFiniteScoreError, match=r"nan for pairs\[4\], the passage '13'"):
        call.future.result(LONG)
    queue.close()


class TooFew(FakeReplica):
    def collect(self, launched: object) -> FloatArray:
        return super().collect(launched)[:-1]


def test_a_model_that_returns_too_few_scores_is_an_error() -> None:
    queue = fake_queue(TooFew())
    call = job("1", passages(3))
    queue.submit(call)
    with pytest.raises(ScoringError, match=r"array \(2,\)"):
        call.future.result(LONG)
    queue.close()


def test_the_best_window_wins_and_the_earliest_of_equal_ones() -> None:
    # Windows of 4 passage tokens, 3 apart: [1 9 1 1] [1 1 9 1] [9 1 1 1] and equal ends.
    queue = fake_queue(max_batch_tokens=8)
    text = "1 9 1 1 1 9 1"
    call = job("0", [text, "2 2 2 2 2 2 2", "5"], max_length=1 + SPECIAL + 4, windows=True)
    queue.submit(call)
    outcome = call.future.result(LONG)
    # [1 9 1 1]: 2+27+4+5 = 38; [1 1 9 1]: 2+3+36+5 = 46
    assert outcome.decisions.tolist() == [46.0, 28.0, 10.0]
    assert outcome.window_starts.tolist() == [3, 0, 0]
    assert not outcome.truncated.any()
    queue.close()


def test_truncation_is_counted() -> None:
    queue = fake_queue()
    call = job("1 1", ["5 5 5", "5 5 5 5", "5 5 5 5 5"], max_length=2 + SPECIAL + 3)
    queue.submit(call)
    outcome = call.future.result(LONG)
    assert outcome.truncated.tolist() == [False, True, True]
    assert outcome.decisions.tolist() == [3 + 15 + 20 + 25] * 3
    assert queue.stats().truncated == 2
    queue.close()


def test_closing_fails_what_waits_and_lets_the_running_batch_end() -> None:
    gate = Gate()
    queue = fake_queue(FakeReplica(gate), max_queued_pairs=20)
    running = job("1", ["1"])
    queue.submit(running)
    assert gate.reached.acquire(timeout=LONG)
    waiting, in_lobby = job("2", passages(5)), job("3", passages(40))
    submit(queue, waiting, in_lobby)
    closer = threading.Thread(target=queue.close)
    closer.start()
    for call in (waiting, in_lobby):
        with pytest.raises(ScorerClosedError, match="fake was closed while this call waited"):
            call.future.result(LONG)
    gate.open()
    check(running)
    closer.join(LONG)
    assert not closer.is_alive()
    queue.close()
    with pytest.raises(ScorerClosedError, match="fake is closed"):
        queue.submit(job("1", ["1"]))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("broken")])
def test_a_batch_that_fails_while_the_queue_closes_leaves_nobody_waiting(
    error: Exception,
) -> None:
    gate = Gate()

    def before(pairs: PackedPairs) -> None:
        if pairs.n_pairs > 1:
            gate()
            raise error

    queue = fake_queue(FakeReplica(before), max_batch_tokens=1000)
    hold = Gate()
    replica = queue._replicas[0]
    assert isinstance(replica, FakeReplica)
    replica.before = hold
    queue.submit(job("1", ["1"]))
    assert hold.reached.acquire(timeout=LONG)
    calls = [job(str(n), ["1", "2"]) for n in range(2, 5)]
    submit(queue, *calls)
    replica.before = before
    hold.open()
    assert gate.reached.acquire(timeout=LONG)
    closer = threading.Thread(target=queue.close)
    closer.start()
    settles(lambda: queue.closed)
    gate.open()
    closer.join(LONG)
    for call in calls:
        with pytest.raises(RerankError):
            call.future.result(0)


def test_closing_ends_the_threads() -> None:
    before = threading.active_count()
    queue = fake_queue(FakeReplica(n_workers=3))
    assert threading.active_count() == before, "no thread before the first call"
    call = job("1", passages(3))
    queue.submit(call)
    check(call)
    assert threading.active_count() == before + 3
    queue.close()
    assert threading.active_count() == before


def test_workers_take_one_core_and_threads_made_later_keep_the_default() -> None:
    seen: list[int] = []
    queue = fake_queue(FakeReplica(lambda _: seen.append(torch.get_num_threads()), n_workers=2))

    def measured() -> int:
        numbers: list[int] = []
        thread = threading.Thread(target=lambda: numbers.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        return numbers[0]

    here, default = torch.get_num_threads(), measured()
    call = job("1", passages(30))
    queue.submit(call)
    check(call)
    assert set(seen) == {1}
    assert torch.get_num_threads() == here
    assert measured() == default
    queue.close()


def test_a_replica_that_a_fork_leaves_behind_is_refused_in_the_child() -> None:
    queue = fake_queue(survives_fork=False)
    queue.after_fork_in_child()
    with pytest.raises(DeviceError, match=r"get_context\('spawn'\)"):
        queue.submit(job("1", ["1"]))
    queue.close()


def test_memory_of_a_long_call_is_bounded_by_its_slices() -> None:
    """However many pairs, only a slice's worth of batches is ever ready."""
    most = 0

    def watch(_: PackedPairs) -> None:
        nonlocal most
        most = max(most, len(queue._schedule._ready))

    queue = fake_queue(FakeReplica(watch), max_batch_tokens=64)
    call = job("1", ["5"] * 20 * SLICE_PAIRS)
    queue.submit(call)
    check(call)
    n_batches_a_slice = SLICE_PAIRS * 5 // 64 + 2
    assert 0 < most <= n_batches_a_slice
    queue.close()

"""The score cache: nothing twice, nobody waits for ever, nobody gets another's error."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from fake_model import FakeReplica, Gate, expected, fake_queue, job, rows_of, settles

from rerank_plugins.cross_encoder.pairs import PackedPairs
from rerank_plugins.cross_encoder.scheduling.cache import ScoreCache
from rerank_plugins.cross_encoder.scheduling.jobs import Job
from rerank_plugins.cross_encoder.scheduling.scoring_queue import ScoringQueue
from rerank_plugins.errors import OverloadedError, ScorerClosedError, ScoringError

LONG = 60.0


def computed(replica: FakeReplica) -> list[list[int]]:
    return [row for batch in replica.batches for row in rows_of(batch)]


def check(each: Job) -> None:
    outcome = each.result(LONG)
    wanted = [expected(q, p) for q, p in zip(each.queries, each.passages, strict=True)]
    assert outcome.decisions.tolist() == wanted


def run(cache: ScoreCache, *args: object, **options: object) -> Job:
    call = job(*args, **options)  # type: ignore[arg-type]
    cache.submit(call)
    check(call)
    return call


def open_cache(
    before: Callable[[PackedPairs], object] = lambda pairs: None, size: int = 100, **options: object
) -> tuple[ScoreCache, ScoringQueue, FakeReplica]:
    replica = FakeReplica(before)
    queue = fake_queue(replica, **options)  # type: ignore[arg-type]
    return ScoreCache(queue, size=size), queue, replica


def test_a_pair_is_computed_once_and_counted_as_a_hit_after_that() -> None:
    cache, queue, replica = open_cache()
    run(cache, "1", ["2", "3"])
    run(cache, "1", ["3", "4", "2"])
    assert computed(replica) == [[1, 2], [1, 3], [1, 4]]
    stats = queue.stats()
    assert (stats.calls, stats.pairs, stats.cache_hits) == (2, 5, 2)
    queue.close()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"query": "1 2", "passage": "3"}, {"query": "1", "passage": "2 3"}),
        ({"query": "1", "passage": "2"}, {"query": "2", "passage": "1"}),
        ({"query": "1", "passage": "2"}, {"query": "1", "passage": "2", "max_length": 100}),
        ({"query": "1", "passage": "2"}, {"query": "1", "passage": "2 "}),
    ],
)
def test_different_pairs_are_kept_apart(
    first: dict[str, object], second: dict[str, object]
) -> None:
    cache, queue, replica = open_cache()
    for each in (first, second):
        run(cache, each["query"], [each["passage"]], max_length=each.get("max_length", 512))
    assert len(computed(replica)) == 2
    queue.close()


def test_truncation_and_best_window_come_back_from_the_cache() -> None:
    cache, queue, _ = open_cache()
    outcomes = []
    for _ in range(2):
        call = job("0", ["1 1 1 1 9 1 1", "1"], max_length=8, windows=True)
        cache.submit(call)
        outcomes.append(call.result(LONG))
    assert outcomes[0].window_starts.tolist() == outcomes[1].window_starts.tolist() == [3, 0]
    assert outcomes[0].decisions.tolist() == outcomes[1].decisions.tolist()
    queue.close()


def test_the_pairs_used_last_are_kept() -> None:
    cache, queue, replica = open_cache(size=2)
    run(cache, "1", ["2"])
    run(cache, "1", ["3"])
    run(cache, "1", ["2"])
    run(cache, "1", ["4"])  # drops 3
    assert len(cache) == 2
    run(cache, "1", ["2"])
    run(cache, "1", ["3"])
    assert computed(replica) == [[1, 2], [1, 3], [1, 4], [1, 3]]
    queue.close()


def test_a_call_larger_than_the_cache_gets_all_its_scores() -> None:
    cache, queue, _ = open_cache(size=3)
    run(cache, "1", [str(n) for n in range(50)])
    assert len(cache) == 3
    queue.close()


def test_identical_calls_at_the_same_time_are_computed_once() -> None:
    gate = Gate()
    cache, queue, replica = open_cache(gate)
    calls = [job("1", ["2", "3"]) for _ in range(8)]
    for call in calls:
        cache.submit(call)
    assert gate.reached.acquire(timeout=LONG)
    gate.open()
    for call in calls:
        check(call)
    assert computed(replica) == [[1, 2], [1, 3]]
    assert queue.stats().cache_hits == 14
    queue.close()


def test_when_the_first_of_identical_calls_is_cancelled_the_others_get_its_work() -> None:
    gate = Gate()
    cache, queue, replica = open_cache(gate)
    first, second = job("1", ["2", "3"]), job("1", ["3", "2"])
    cache.submit(first)
    assert gate.reached.acquire(timeout=LONG)
    cache.submit(second)
    assert first.cancel()
    gate.open()
    check(second)
    assert computed(replica) == [[1, 2], [1, 3]]
    queue.close()


def test_when_all_of_them_are_cancelled_their_pairs_leave_the_queue() -> None:
    gate = Gate()
    cache, queue, replica = open_cache(gate)
    cache.submit(job("9", ["9"]))
    assert gate.reached.acquire(timeout=LONG)
    calls = [job("1", ["2", "3"]) for _ in range(3)]
    for call in calls:
        cache.submit(call)
    assert queue.stats().queued_pairs == 3
    for call in calls:
        assert call.cancel()
    assert queue.stats().queued_pairs == 1
    gate.open()
    run(cache, "1", ["2"])
    assert computed(replica) == [[9, 9], [1, 2]]
    queue.close()


def test_when_the_first_of_identical_calls_fails_the_others_try_again() -> None:
    failed = threading.Event()
    gate = Gate()

    def before(pairs: PackedPairs) -> None:
        gate()
        if not failed.is_set():
            failed.set()
            raise RuntimeError("once")

    cache, queue, _ = open_cache(before)
    calls = [job("1", ["2"]) for _ in range(5)]
    for call in calls:
        cache.submit(call)
    gate.open()
    with pytest.raises(ScoringError, match="once"):
        calls[0].result(LONG)
    for call in calls[1:]:
        check(call)
    queue.close()


def test_when_it_always_fails_everybody_gets_an_error_of_its_own() -> None:
    gate = Gate()

    def before(pairs: PackedPairs) -> None:
        gate()
        raise RuntimeError("always")

    cache, queue, replica = open_cache(before)
    calls = [job("1", ["2"]) for _ in range(5)]
    for call in calls:
        cache.submit(call)
    gate.open()
    settles(lambda: all(call.done for call in calls))
    errors = {id(call.error) for call in calls}
    assert len(errors) == 5
    replica.before = lambda pairs: None
    run(cache, "1", ["2"])
    queue.close()


def test_a_refused_call_leaves_no_trace() -> None:
    gate = Gate()
    cache, queue, _ = open_cache(gate, max_queued_pairs=3, when_full="raise")
    first = job("1", ["2", "3"])
    cache.submit(first)
    with pytest.raises(OverloadedError):
        cache.submit(job("1", ["2", "4", "5"]))
    joined = job("1", ["2", "3"])  # needs no room of its own
    cache.submit(joined)
    gate.open()
    check(first)
    check(joined)
    run(cache, "1", ["4"])
    queue.close()


def test_closing_the_queue_fails_everybody_who_waits() -> None:
    gate = Gate()
    cache, queue, _ = open_cache(gate)
    cache.submit(job("9", ["9"]))
    assert gate.reached.acquire(timeout=LONG)
    calls = [job("1", ["2", "3"]) for _ in range(3)]
    for call in calls:
        cache.submit(call)
    closer = threading.Thread(target=queue.close)
    closer.start()
    for call in calls:
        with pytest.raises(ScorerClosedError):
            call.result(LONG)
    gate.open()
    closer.join(LONG)
    with pytest.raises(ScorerClosedError):
        cache.submit(job("9", ["9"]))  # even what is known


def test_many_threads_with_few_pairs_compute_each_of_them_once() -> None:
    cache, queue, replica = open_cache(size=1000)
    errors: list[BaseException] = []

    def client(number: int) -> None:
        try:
            for step in range(30):
                run(cache, "1", [str((number * step + k) % 40) for k in range(8)])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert not errors
    assert sorted(computed(replica)) == [[1, n] for n in range(40)]
    queue.close()


def test_a_call_that_starts_again_while_the_process_forks_gets_its_scores() -> None:
    gate = Gate()

    def fail(_: PackedPairs) -> None:
        gate()
        replica.before = lambda pairs: None
        raise RuntimeError("broken")

    cache, queue, replica = open_cache(fail)
    first, joined = job("1", ["2"]), job("1", ["2"])
    cache.submit(first)
    cache.submit(joined)
    assert gate.reached.acquire(timeout=LONG)

    def rest() -> None:
        for each in (queue, cache):
            each.before_fork()

    resting = threading.Thread(target=rest)
    resting.start()
    gate.open()
    resting.join(LONG)
    assert not resting.is_alive()
    for each in (queue, cache):
        each.after_fork_in_parent()
    with pytest.raises(ScoringError):
        first.result(LONG)
    check(joined)
    queue.close()

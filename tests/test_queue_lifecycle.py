"""The start and the end of a queue and of its threads."""

from __future__ import annotations

import contextlib
import threading

import pytest
import torch
from fake_model import (
    LONG,
    FakeReplica,
    Gate,
    check,
    fake_queue,
    job,
    passages,
    settles,
    submit,
)

from rerank_plugins.cross_encoder.pairs import PackedPairs
from rerank_plugins.cross_encoder.scheduling.scoring_queue import ScoringQueue
from rerank_plugins.errors import (
    DeviceError,
    RerankError,
    ScorerClosedError,
)


def test_closing_fails_what_waits_and_lets_the_running_batch_end() -> None:
    gate = Gate()
    queue = fake_queue(FakeReplica(gate))
    running = job("1", ["1"])
    queue.submit(running)
    assert gate.reached.acquire(timeout=LONG)
    waiting = [job("2", passages(5)), job("3", passages(40))]
    submit(queue, *waiting)
    closer = threading.Thread(target=queue.close)
    closer.start()
    for call in waiting:
        with pytest.raises(ScorerClosedError, match="fake was closed while this call waited"):
            call.result(LONG)
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

    hold = Gate()
    replica = FakeReplica(hold)
    queue = fake_queue(replica, max_batch_tokens=1000)
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
            call.result(0)


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


class Fork(threading.Thread):
    """A thread that forks, as far as the queue can tell; the fork ends with ``over``."""

    def __init__(self, queue: ScoringQueue) -> None:
        super().__init__()
        self.queue = queue
        self.at_rest = threading.Event()
        self.over = threading.Event()

    def run(self) -> None:
        self.queue.before_fork()
        self.at_rest.set()
        self.over.wait(LONG)
        self.queue.after_fork_in_parent()


def test_what_is_asked_while_the_process_forks_is_done_after_it() -> None:
    gate = Gate()
    queue = fake_queue(FakeReplica(gate))
    first, waiting, later = job("1", ["1"]), job("2", passages(5)), job("3", passages(5))
    submit(queue, first, waiting)
    assert gate.reached.acquire(timeout=LONG)
    fork = Fork(queue)
    fork.start()
    settles(lambda: queue.forking)

    # Two that come while the running batch is waited for, and two while the process forks.
    def ask() -> None:
        with contextlib.suppress(ScorerClosedError):  # where the closing comes first
            queue.submit(later)

    threads = [threading.Thread(target=ask)]
    threads += [threading.Thread(target=waiting.cancel)]
    for thread in threads:
        thread.start()
    settles(lambda: waiting.cancelled)
    gate.open()
    assert fork.at_rest.wait(LONG)
    threads += [threading.Thread(target=later.cancel), threading.Thread(target=queue.close)]
    for thread in threads[2:]:
        thread.start()
    assert threads[0].is_alive()
    fork.over.set()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()
    check(first)
    assert queue.closed
    assert queue.stats().queued_pairs == 0


def test_a_callback_that_asks_again_while_the_process_forks_gets_its_scores() -> None:
    gate = Gate()
    queue = fake_queue(FakeReplica(gate, n_workers=2))
    first, second = job("1", ["1"]), job("2", passages(5))
    first.add_done_callback(lambda _: queue.submit(second))
    queue.submit(first)
    assert gate.reached.acquire(timeout=LONG)
    fork = Fork(queue)
    fork.start()
    settles(lambda: queue.forking)
    gate.open()
    assert fork.at_rest.wait(LONG), "the fork does not wait for the callback, which waits for it"
    fork.over.set()
    check(first)
    check(second)
    queue.close()

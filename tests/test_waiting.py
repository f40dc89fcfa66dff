"""How calls share an event loop: by rounds and turns, never by the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from fake_model import FakeReplica, Gate, fake_queue, job

from rerank_plugins.cross_encoder.scheduling.job import Job
from rerank_plugins.cross_encoder.scheduling.waiting import CALLS_A_ROUND, take_turn, wait_async
from rerank_plugins.errors import DeadlineExceededError, ScorerClosedError


async def rounds_of(calls: list[Awaitable[object]]) -> list[int]:
    """Run all calls as tasks, and return how many ended in each round of the loop that ended any.

    A task that gives way once a round counts the rounds.
    """
    ended: list[int] = []
    now = 0

    async def one(call: Awaitable[object]) -> None:
        await call
        ended.append(now)

    tasks = [asyncio.ensure_future(one(call)) for call in calls]
    while not all(task.done() for task in tasks):
        now += 1
        await asyncio.sleep(0)
    for task in tasks:
        task.result()
    return [ended.count(round_) for round_ in sorted(set(ended))]


def test_a_round_of_the_loop_takes_in_a_few_calls() -> None:
    counts = asyncio.run(rounds_of([take_turn() for _ in range(200)]))
    assert sum(counts) == 200
    assert max(counts) <= CALLS_A_ROUND


def test_a_round_of_the_loop_ends_a_few_calls_however_many_are_scored_at_once() -> None:
    gate = Gate()
    queue = fake_queue(FakeReplica(gate), max_batch_tokens=10_000)

    async def run() -> list[int]:
        calls = [job("1", [str(n)]) for n in range(200)]
        for call in calls:
            queue.submit(call)
        waiting = asyncio.ensure_future(rounds_of([wait_async(call, None) for call in calls]))
        await asyncio.sleep(0)
        gate.open()
        while not all(call.done for call in calls):
            pass  # the loop stands still until all are scored
        return await waiting

    counts = asyncio.run(run())
    assert sum(counts) == 200
    assert max(counts) <= CALLS_A_ROUND
    queue.close()


def test_a_loop_that_another_one_interrupts_forgets_nobody() -> None:
    async def many() -> int:
        await asyncio.gather(*(take_turn() for _ in range(5 * CALLS_A_ROUND)))
        return 5 * CALLS_A_ROUND

    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    waiting = first.create_task(many())
    first.run_until_complete(asyncio.sleep(0))
    assert second.run_until_complete(many()) == 5 * CALLS_A_ROUND
    assert not waiting.done()
    assert first.run_until_complete(waiting) == 5 * CALLS_A_ROUND
    first.close()
    second.close()


def test_calls_cancelled_before_their_turn_leave_it_to_the_next() -> None:
    async def run() -> int:
        tasks = [asyncio.ensure_future(take_turn()) for _ in range(10 * CALLS_A_ROUND)]
        await asyncio.sleep(0)
        for task in tasks[CALLS_A_ROUND:-1]:
            task.cancel()
        await tasks[-1]
        return sum(task.cancelled() for task in tasks)

    assert asyncio.run(run()) == 9 * CALLS_A_ROUND - 1


@pytest.mark.parametrize("timeout_s", [None, 60.0])
def test_a_call_that_fails_raises_its_own_error(timeout_s: float | None) -> None:
    async def run(call: Job) -> None:
        await wait_async(call, timeout_s)

    call = job("1", ["1"])
    call.fail(ScorerClosedError("closed by the test"))
    with pytest.raises(ScorerClosedError, match="closed by the test"):
        asyncio.run(run(call))


def cancelled(call: Job) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        task = asyncio.ensure_future(wait_async(call, None))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    return run


def late(call: Job) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        with pytest.raises(DeadlineExceededError, match=r"timeout_s=0\.0"):
            await wait_async(call, 0.0)

    return run


@pytest.mark.parametrize("leave", [cancelled, late])
def test_whoever_stops_waiting_takes_the_pairs_out(
    leave: Callable[[Job], Callable[[], Awaitable[None]]],
) -> None:
    async def run(call: Job) -> None:
        await leave(call)()

    call = job("1", ["1"])
    asyncio.run(run(call))
    assert call.cancelled


def test_scores_that_come_after_the_loop_has_closed_are_dropped_in_silence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    call = job("1", ["1"])
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(wait_async(call, None))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    call.fail(ScorerClosedError("too late for anyone"))
    assert caplog.text == ""
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]

"""Waiting for a job, in a thread or in an event loop; whoever stops waiting takes its pairs out."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import deque

from rerank_plugins.cross_encoder import lifecycle
from rerank_plugins.cross_encoder.queue.jobs import Job, Outcome
from rerank_plugins.errors import DeadlineExceededError


def wait(job: Job, timeout_s: float | None) -> Outcome:
    """Return the job's outcome, or raise its error, or `DeadlineExceededError`."""
    try:
        concurrent.futures.wait([job.future], timeout_s)
        # A job that ends at this very moment cannot be cancelled, and counts.
        if job.future.cancel():
            raise _too_late(job, timeout_s)
        return job.future.result()
    finally:
        job.future.cancel()  # after an interrupt; does nothing to a finished one


async def wait_async(job: Job, timeout_s: float | None) -> Outcome:
    """Do what `wait` does, and leave the event loop free."""
    waiter = asyncio.wrap_future(job.future)
    try:
        if timeout_s is None:
            return await waiter
        await asyncio.wait([waiter], timeout=timeout_s)
        if not waiter.done():
            raise _too_late(job, timeout_s)
        return waiter.result()
    except GeneratorExit:
        # The loop is gone, and the garbage collector ends this coroutine, in any thread.
        lifecycle.run_elsewhere(job.future.cancel)
        raise
    except asyncio.CancelledError:
        if waiter.done() and not waiter.cancelled():
            waiter.exception()  # seen, so that asyncio does not complain that nobody looked
        job.future.cancel()
        raise
    except BaseException:
        job.future.cancel()
        raise


# Calls that one round of an event loop takes in. A thousand tasks that start at once are spread
# over many rounds, so that nothing else in the loop waits for all of them.
CALLS_A_ROUND = 16


class _Rounds(threading.local):
    """The rounds of this thread's event loop: who has come in this one, and who waits."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.n_calls = 0
        self.waiting: deque[asyncio.Future[None]] = deque()

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.n_calls, self.waiting = loop, 0, deque()
        loop.call_soon(self.next, loop)

    def next(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.loop is not loop:
            return  # left over from a loop that another one has replaced
        self.n_calls = 0
        while self.waiting and self.n_calls < CALLS_A_ROUND:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                self.n_calls += 1
        if self.n_calls:
            loop.call_soon(self.next, loop)
        else:
            self.loop = None


_rounds = _Rounds()


async def take_turn() -> None:
    """Return when the event loop can spare the time to take in a call: at once, for a few."""
    loop = asyncio.get_running_loop()
    if _rounds.loop is not loop:
        _rounds.begin(loop)
    if _rounds.n_calls < CALLS_A_ROUND and not _rounds.waiting:
        _rounds.n_calls += 1
        return
    waiter = loop.create_future()
    _rounds.waiting.append(waiter)
    await waiter


def _too_late(job: Job, timeout_s: float | None) -> DeadlineExceededError:
    return DeadlineExceededError(
        f"{job.n_pairs} pairs were not scored within timeout_s={timeout_s}; they were taken back. "
        "Allow more time, or send fewer passages"
    )

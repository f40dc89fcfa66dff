"""Waiting for a job, in a thread or in an event loop; whoever stops waiting takes its pairs out."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from rerank_plugins.cross_encoder.scheduling import forking
from rerank_plugins.cross_encoder.scheduling.job import Job, JobResult
from rerank_plugins.errors import DeadlineExceededError


def wait(job: Job, timeout_s: float | None) -> JobResult:
    """Return the job's result, or raise its error, or `DeadlineExceededError`."""
    try:
        try:
            return job.result(timeout_s)
        except TimeoutError:
            pass
        # A job that ends at this very moment cannot be cancelled, and counts.
        if job.cancel():
            raise _too_late(job, timeout_s)
        return job.result()
    finally:
        job.cancel()  # after an interrupt; does nothing to a finished one


async def wait_async(job: Job, timeout_s: float | None) -> JobResult:
    """Do what `wait` does, and leave the event loop free."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    job.add_done_callback(_Waker(loop, waiter))
    try:
        if timeout_s is None:
            await waiter
        else:
            await asyncio.wait([waiter], timeout=timeout_s)
            if not job.done:
                raise _too_late(job, timeout_s)
        turn = _leaving.turn(loop)
        if turn is not None:
            await turn
        return job.result()
    except GeneratorExit:
        # The loop is gone, and the garbage collector ends this coroutine, in any thread.
        forking.run_elsewhere(job.cancel)
        raise
    except BaseException:
        job.cancel()  # does nothing to a finished one
        raise


async def take_turn() -> None:
    """Return when the event loop can spare the time to take in a call: at once, for a few."""
    turn = _entering.turn(asyncio.get_running_loop())
    if turn is not None:
        await turn


class _Waker:
    """Wakes a task of an event loop from another thread."""

    __slots__ = ("_loop", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[None]) -> None:
        self._loop = loop
        self._waiter = waiter

    def __call__(self, _: object) -> None:
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            pass  # the loop is closed, and nobody waits

    def _wake(self) -> None:
        if not self._waiter.done():
            self._waiter.set_result(None)


# Calls that one round of an event loop takes in, and calls that it ends. A thousand tasks that
# start at once, or whose scores arrive at once, are spread over many rounds, so that nothing else
# in the loop waits for all of them. On 2 cores a burst of 1,000 calls held the loop up for a
# median of 14 ms with rounds and of 33 ms (longest 55 ms) without.
CALLS_A_ROUND = 16


class _Rounds:
    """Some rounds of one event loop, from a first call to a round without one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.over = False
        self._n_calls = 0  # that had a turn in this round
        self._waiting: deque[asyncio.Future[None]] = deque()
        loop.call_soon(self._next)

    def turn(self) -> asyncio.Future[None] | None:
        if self._n_calls < CALLS_A_ROUND and not self._waiting:
            self._n_calls += 1
            return None
        turn = self.loop.create_future()
        self._waiting.append(turn)
        return turn

    def _next(self) -> None:
        self._n_calls = 0
        while self._waiting and self._n_calls < CALLS_A_ROUND:
            turn = self._waiting.popleft()
            if not turn.done():  # else cancelled
                turn.set_result(None)
                self._n_calls += 1
        if self._n_calls:
            self.loop.call_soon(self._next)
        else:
            self.over = True


class _Turns(threading.local):
    """Who may go on in this round of the event loop that runs in this thread."""

    _rounds: _Rounds | None = None

    def turn(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None] | None:
        """Return None for a turn in this round, else what is done when the turn comes."""
        rounds = self._rounds
        if rounds is None or rounds.over or rounds.loop is not loop:
            # A loop that another one has interrupted keeps its rounds, and goes on with them.
            rounds = self._rounds = _Rounds(loop)
        return rounds.turn()


_entering = _Turns()
_leaving = _Turns()


def _too_late(job: Job, timeout_s: float | None) -> DeadlineExceededError:
    return DeadlineExceededError(
        f"{job.n_pairs} pairs were not scored within timeout_s={timeout_s}; they were taken back. "
        "Allow more time, or send fewer passages"
    )

"""Waiting for a job, in a thread or in an event loop; whoever stops waiting takes its pairs out."""

from __future__ import annotations

import asyncio
import concurrent.futures

from rerank_plugins.cross_encoder import lifecycle
from rerank_plugins.cross_encoder.jobs import Job, Outcome
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


def _too_late(job: Job, timeout_s: float | None) -> DeadlineExceededError:
    return DeadlineExceededError(
        f"{job.n_pairs} pairs were not scored within timeout_s={timeout_s}; they were taken back. "
        "Allow more time, or send fewer passages"
    )

"""Starting the workers' threads, each of which computes on one core."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from rerank_plugins.cross_encoder.scheduling.workers import Worker

# A thread that has not begun by then never will: it ran out of memory on its way.
_START_S = 60.0


def start(workers: Sequence[Worker], *, timeout_s: float = _START_S) -> None:
    """Start a thread for each worker, which computes on one core, and return when they run.

    Raises RuntimeError or MemoryError where one cannot be started; then none runs.
    """
    begun = threading.Barrier(len(workers) + 1)
    threads = [worker.new_thread(begun) for worker in workers]
    errors: list[RuntimeError | MemoryError] = []
    over = threading.Lock()
    over.acquire()

    def start_all() -> None:
        # torch.set_num_threads() acts on its own thread and on every thread that asks for the
        # first time later. So this is done where no caller's setting is touched, and the default
        # for the caller's later threads is put back.
        default = torch.get_num_threads()
        try:
            for thread in threads:
                thread.start()
            begun.wait(timeout_s)
        except (RuntimeError, MemoryError) as error:
            begun.abort()
            errors.append(error)
        finally:
            torch.set_num_threads(default)
            over.release()

    # A plain thread: `threading.Thread.start` waits for ever for one that lacks memory to begin.
    _thread.start_new_thread(start_all, ())
    if not over.acquire(timeout=timeout_s):
        begun.abort()  # whoever is late ends at once
        raise RuntimeError(f"no thread began within {timeout_s:g} s")
    if errors:
        raise errors[0]
    for worker, thread in zip(workers, threads, strict=True):
        worker.thread = thread


def take_one_core(begun: threading.Barrier) -> bool:
    """Give this thread one core of torch's; return False if not all workers could be started."""
    # The first look at the number sets it up for this thread; a later one would overwrite ours.
    torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        begun.wait(_START_S)
    except threading.BrokenBarrierError:
        return False
    return True

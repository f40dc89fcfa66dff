"""Threads that compute on one core each, without a change to anyone else's number of threads."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch


def start(threads: Sequence[threading.Thread], begun: threading.Barrier) -> None:
    """Start ``threads``, each on one core, and return when they run.

    Raises RuntimeError where no thread can be started.
    """
    errors: list[RuntimeError] = []

    def start_all() -> None:
        # torch.set_num_threads() acts on its own thread and on every thread that asks for the
        # first time later. So this is done where no caller's setting is touched, and the default
        # for the caller's later threads is put back.
        default = torch.get_num_threads()
        try:
            for thread in threads:
                thread.start()
            begun.wait()
        except RuntimeError as error:
            begun.abort()
            errors.append(error)
        finally:
            torch.set_num_threads(default)

    starter = threading.Thread(target=start_all, name="rerank-start", daemon=True)
    starter.start()
    starter.join()
    if errors:
        raise errors[0]


def take_one_core(begun: threading.Barrier) -> bool:
    """Give this thread one core of torch's; return False if not all workers could be started."""
    # The first look at the number sets it up for this thread; a later one would overwrite ours.
    torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        begun.wait()
    except threading.BrokenBarrierError:
        return False
    return True

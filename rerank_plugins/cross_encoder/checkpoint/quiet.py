"""Nothing of a dependency on standard error while a model is loaded."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Bars:
    """How many loads are under way, and whether transformers' bars were shown before the first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # held for the switch alone: loads never wait for each other
        self.n_loads = 0
        self.shown = False


_bars = _Bars()
if hasattr(os, "register_at_fork"):
    # The parent's loads do not exist in a child, and may have held the lock.
    os.register_at_fork(after_in_child=_bars.__init__)  # type: ignore[misc]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' bars and this thread's warnings off standard error.

    Faults are errors of ours, so its warnings say nothing new. Other threads' warnings pass; the
    switch of the bars belongs to the process and is put back.
    """
    from transformers.utils import logging as transformers_logging

    thread = threading.get_ident()

    def of_others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    handlers = list(logging.getLogger("transformers").handlers)
    with _bars.lock:
        if not _bars.n_loads:
            _bars.shown = transformers_logging.is_progress_bar_enabled()
            transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        _bars.n_loads += 1
    for handler in handlers:
        handler.addFilter(of_others)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(of_others)
        with _bars.lock:
            _bars.n_loads -= 1
            if not _bars.n_loads and _bars.shown:
                transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]

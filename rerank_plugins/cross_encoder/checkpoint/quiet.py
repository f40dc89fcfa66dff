"""Nothing of a dependency on standard error while a model is loaded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.RLock()


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
    with _lock:
        shown = transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        for handler in handlers:
            handler.addFilter(of_others)
        try:
            yield
        finally:
            for handler in handlers:
                handler.removeFilter(of_others)
            if shown:
                transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]

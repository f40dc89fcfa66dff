"""A value that another thread will bring."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class Promise(Generic[Value]):
    """A value, or an error, that is to come: `concurrent.futures.Future` of few objects.

    A future has a dozen that the garbage collector counts, and those of a thousand waiting calls
    bring on a full collection, which holds up an event loop for as long as all of torch takes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[Any], object]] = []
        self._value: Value | None = None
        self._error: BaseException | None = None
        self._done = False

    @property
    def done(self) -> bool:
        """Whether it has its value or its error, or was cancelled."""
        return self._done

    @property
    def cancelled(self) -> bool:
        return type(self._error) is CancelledError

    @property
    def error(self) -> BaseException | None:
        """What it failed with, once it is done and unless it was cancelled."""
        return None if self.cancelled else self._error

    def finish(self, value: Value) -> None:
        """Bring the value, unless it is done. Runs callbacks: hold no lock while calling."""
        self._settle(value, None)

    def fail(self, error: BaseException) -> None:
        """Bring an error, unless it is done. Runs callbacks: hold no lock while calling."""
        self._settle(None, error)

    def cancel(self) -> bool:
        """Give it up, and return whether it is given up; a value that is there stays."""
        self._settle(None, CancelledError())
        return self.cancelled

    def result(self, timeout_s: float | None = None) -> Value:
        """Wait for the value, or raise the error, `CancelledError`, or `TimeoutError`."""
        if not self._done:
            ended: queue.SimpleQueue[object] = queue.SimpleQueue()
            self.add_done_callback(ended.put)
            try:
                ended.get(timeout=timeout_s)
            except queue.Empty:
                raise TimeoutError from None
        error = self._error
        try:
            if error is not None:
                raise error
            return self._value  # type: ignore[return-value]
        finally:
            del self, error  # which the error would hold, through its traceback and this frame

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Call ``callback`` with this promise when it is done, in the thread that ends it."""
        with self._lock:
            if not self._done:
                self._callbacks.append(callback)
                return
        callback(self)

    def _settle(self, value: Value | None, error: BaseException | None) -> None:
        with self._lock:
            if self._done:
                return
            self._value, self._error = value, error
            self._done = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

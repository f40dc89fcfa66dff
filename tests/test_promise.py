"""A promise is settled once, whoever comes first, and everybody who waits for it learns how."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest
from fake_model import LONG

from rerank_plugins.cross_encoder.scheduling.promise import Promise

ENDS: dict[str, Callable[[Promise[int]], object]] = {
    "finish": lambda promise: promise.finish(5),
    "fail": lambda promise: promise.fail(KeyError("why")),
    "cancel": lambda promise: promise.cancel(),
}


def how(promise: Promise[int]) -> object:
    try:
        return promise.result(LONG)
    except (KeyError, CancelledError) as error:
        return type(error)


@pytest.mark.parametrize("first", ENDS)
@pytest.mark.parametrize("later", ENDS)
def test_the_first_end_counts(first: str, later: str) -> None:
    promise: Promise[int] = Promise()
    ENDS[first](promise)
    assert how(promise) == {"finish": 5, "fail": KeyError, "cancel": CancelledError}[first]
    ENDS[later](promise)
    assert how(promise) == {"finish": 5, "fail": KeyError, "cancel": CancelledError}[first]
    assert promise.done
    assert promise.cancelled == (first == "cancel")
    assert (promise.error is None) == (first != "fail")
    assert promise.cancel() == (first == "cancel")


@pytest.mark.parametrize("end", ENDS)
def test_threads_that_wait_are_woken(end: str) -> None:
    promise: Promise[int] = Promise()
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(how(promise))) for _ in range(5)]
    for thread in threads:
        thread.start()
    ENDS[end](promise)
    for thread in threads:
        thread.join(LONG)
    assert found == [how(promise)] * 5


def test_a_wait_ends_after_its_time_and_may_be_taken_up_again() -> None:
    promise: Promise[int] = Promise()
    for timeout_s in (0, 0.01):
        with pytest.raises(TimeoutError):
            promise.result(timeout_s)
    promise.finish(5)
    assert promise.result(0) == 5


def test_callbacks_run_once_without_the_lock_in_the_thread_that_ends_it() -> None:
    promise: Promise[int] = Promise()
    seen: list[tuple[bool, int]] = []

    def callback(ended: Promise[int]) -> None:
        assert not ended.cancel()  # takes the lock
        seen.append((ended is promise, threading.get_ident()))

    promise.add_done_callback(callback)
    thread = threading.Thread(target=promise.finish, args=[5])
    thread.start()
    thread.join(LONG)
    promise.add_done_callback(callback)
    promise.fail(KeyError())
    assert seen == [(True, thread.ident), (True, threading.get_ident())]


def test_of_many_threads_that_end_it_one_does() -> None:
    for _ in range(50):
        promise: Promise[int] = Promise()
        calls: list[Promise[int]] = []
        promise.add_done_callback(calls.append)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(promise.finish, range(4)))
        assert calls == [promise]
        assert promise.result(0) in range(4)


def test_an_error_that_was_raised_keeps_nothing_alive() -> None:
    class Failing(Promise[int]):
        """One that can be watched."""

    gc.disable()
    try:
        promise = Failing()
        promise.fail(KeyError("why"))
        with pytest.raises(KeyError):
            promise.result()
        watched = weakref.ref(promise)
        del promise
        assert watched() is None
    finally:
        gc.enable()

"""A job is settled once, whoever comes first, and everybody who waits for it learns how."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest
from fake_model import LONG, job

from rerank_plugins.cross_encoder.scheduling.job import Job, JobResult

RESULT = JobResult.empty(1)


def new() -> Job:
    return job("1", ["1"])


ENDS: dict[str, Callable[[Job], object]] = {
    "finish": lambda call: call.finish(RESULT),
    "fail": lambda call: call.fail(KeyError("why")),
    "cancel": lambda call: call.cancel(),
}


def how(call: Job) -> object:
    try:
        return call.result(LONG)
    except (KeyError, CancelledError) as error:
        return type(error)


@pytest.mark.parametrize("first", ENDS)
@pytest.mark.parametrize("later", ENDS)
def test_the_first_end_counts(first: str, later: str) -> None:
    call = new()
    ENDS[first](call)
    assert how(call) == {"finish": RESULT, "fail": KeyError, "cancel": CancelledError}[first]
    ENDS[later](call)
    assert how(call) == {"finish": RESULT, "fail": KeyError, "cancel": CancelledError}[first]
    assert call.done
    assert call.cancelled == (first == "cancel")
    assert (call.error is None) == (first != "fail")
    assert call.cancel() == (first == "cancel")


@pytest.mark.parametrize("end", ENDS)
def test_threads_that_wait_are_woken(end: str) -> None:
    call = new()
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(how(call))) for _ in range(5)]
    for thread in threads:
        thread.start()
    ENDS[end](call)
    for thread in threads:
        thread.join(LONG)
    assert found == [how(call)] * 5


def test_a_wait_ends_after_its_time_and_may_be_taken_up_again() -> None:
    call = new()
    for timeout_s in (0, 0.01):
        with pytest.raises(TimeoutError):
            call.result(timeout_s)
    call.finish(RESULT)
    assert call.result(0) is RESULT


def test_callbacks_run_once_in_the_thread_that_ends_it() -> None:
    call = new()
    seen: list[tuple[bool, int]] = []

    def callback(ended: Job) -> None:
        assert not ended.cancel()
        seen.append((ended is call, threading.get_ident()))

    call.add_done_callback(callback)
    thread = threading.Thread(target=call.finish, args=[RESULT])
    thread.start()
    thread.join(LONG)
    call.add_done_callback(callback)
    call.fail(KeyError())
    assert seen == [(True, thread.ident), (True, threading.get_ident())]


def test_of_many_threads_that_end_it_one_does() -> None:
    results = [JobResult.empty(n) for n in range(4)]
    for _ in range(50):
        call = new()
        calls: list[Job] = []
        call.add_done_callback(calls.append)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(call.finish, results))
        assert calls == [call]
        assert call.result(0) in results


def test_an_error_that_was_raised_keeps_nothing_alive() -> None:
    gc.disable()
    try:
        call = new()
        call.fail(KeyError("why"))
        with pytest.raises(KeyError):
            call.result()
        watched = weakref.ref(call)
        del call
        assert watched() is None
    finally:
        gc.enable()

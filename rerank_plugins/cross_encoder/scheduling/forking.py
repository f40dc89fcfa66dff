"""Fork, interpreter exit and garbage collection, for objects that own threads or locks.

A fork copies one thread and every lock as it stands. So before it, whatever is registered here is
brought to rest, and in the child it starts empty.
"""

from __future__ import annotations

import _thread
import atexit
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Protocol, TypeVar

Result = TypeVar("Result")


class Forkable(Protocol):
    """Something with threads or locks, which a fork and the end of the process concern."""

    def before_fork(self) -> None:
        """Come to rest, and hold every lock, until one of the other two is called."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Start empty: the threads and the callers of the parent do not exist here."""

    def close(self) -> None:
        """End the threads."""


_registered: weakref.WeakSet[Forkable] = weakref.WeakSet()
# Guards the set, and lets one fork at a time through the three steps. A signal handler may
# interrupt whoever holds it.
_lock = threading.RLock()
_resting: list[Forkable] = []
# What the end of the process waits for. A thread that is the last to hold a tensor frees it, and
# the process is aborted if the interpreter ends meanwhile.
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
_threads_lock = threading.RLock()  # innermost, so free whenever every owner is at rest
_elsewhere: list[threading.Lock] = []  # each held until its thread has let go of its function


def register(owner: Forkable) -> None:
    """Keep ``owner`` safe over forks, and close it at interpreter exit."""
    with _lock:
        _registered.add(owner)


def join_at_exit(threads: Iterable[threading.Thread]) -> None:
    """Let the end of the process wait for ``threads``, which their owner's ``close`` ends."""
    with _threads_lock:
        _threads.update(threads)


def in_own_thread(function: Callable[[], Result]) -> Result:
    """Return what ``function`` returns in a thread of its own, or raise what it raises.

    For work on several cores: a thread that has done some has helpers, which a forked child has
    not, and would wait for.
    """
    outcome: Future[Result] = Future()

    def run() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name="rerank-load", daemon=True)
    thread.start()
    try:
        return outcome.result()
    finally:
        thread.join()


def run_elsewhere(function: Callable[[], object]) -> None:
    """Run ``function`` in a thread of its own, without waiting for it.

    For the garbage collector, which runs finalizers in whatever thread it finds, at any line, also
    one that holds the very lock which ``function`` needs. A plain thread: `threading.Thread`
    would wait for its start.
    """
    ended = threading.Lock()
    ended.acquire()
    _elsewhere.append(ended)
    try:
        _thread.start_new_thread(_run, ([function], ended))
    except RuntimeError:
        _elsewhere.remove(ended)  # the interpreter is ending, and closes everything itself


def _run(work: list[Callable[[], object]], ended: threading.Lock) -> None:
    try:
        work.pop()()
    finally:
        _elsewhere.remove(ended)
        ended.release()


def _before_fork() -> None:
    _lock.acquire()
    _resting[:] = list(_registered)
    for owner in _resting:
        owner.before_fork()


def _after_fork_in_parent() -> None:
    for owner in _resting:
        owner.after_fork_in_parent()
    _resting.clear()
    _lock.release()


def _after_fork_in_child() -> None:
    # The tokenizers package does the same of its own accord, and prints a warning about it.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for owner in list(_registered):
        owner.after_fork_in_child()
    _resting.clear()
    _threads.clear()
    _elsewhere.clear()
    _lock.release()


@atexit.register
def _close_all() -> None:
    # Before the interpreter is torn down: a thread inside torch at that moment would crash.
    with _lock:
        owners = list(_registered)
    for owner in owners:
        owner.close()
    for ended in list(_elsewhere):
        ended.acquire()
    with _threads_lock:
        threads = list(_threads)
    for thread in threads:
        thread.join()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )

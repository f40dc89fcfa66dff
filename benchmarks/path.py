"""Where one warm call goes: ``python -m benchmarks.path`` counts rooms, files, moves and calls.

Three documents go through each adapter, with the embedded model in float32 on the CPU. A room is a
folder or a top-level module of the package; of the cross-encoder, the modules in front are one
room and each folder is one more. A move is a call into another room than the thread's last one.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

import rerank_plugins
from benchmarks.frameworks import Prepare, langchain_call, llama_index_call
from rerank_plugins import EMBEDDED_MODEL, shared_scorer

PACKAGE = Path(rerank_plugins.__file__).parent
QUERY = "how do birds fly"
TEXTS = ["a cat sleeps", "how do planes fly", "Birds fly by flapping their wings."]
# A worker that has made no call for so long has ended its part of the call.
QUIET_S = 0.2


@dataclass(frozen=True, slots=True)
class Called:
    """A function of the package that was called, and its file, relative to the package."""

    file: str
    function: str

    @property
    def room(self) -> str:
        *folders, name = self.file.split("/")
        return "/".join(folders) or name.removesuffix(".py")


class Trace:
    """The calls of each thread, the caller's first."""

    def __init__(self) -> None:
        self.threads: dict[int, list[Called]] = {threading.get_ident(): []}

    @property
    def calls(self) -> list[Called]:
        return [called for thread in self.threads.values() for called in thread]

    @property
    def entered(self) -> Counter[str]:
        """How often each room is entered; the count of moves is that without the threads' first."""
        return Counter(room for thread in self.threads.values() for room in _visits(thread))

    @property
    def n_moves(self) -> int:
        return self.entered.total() - sum(map(bool, self.threads.values()))


def _visits(thread: list[Called]) -> list[str]:
    return [room for room, _ in groupby(called.room for called in thread)]


class Tracer:
    """Notes the package's calls while it records, in this thread and in any that starts later."""

    def __init__(self) -> None:
        self._trace: Trace | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        before, of_threads = sys.getprofile(), threading.getprofile()
        sys.setprofile(self._note)
        threading.setprofile(self._note)
        try:
            yield
        finally:
            sys.setprofile(before)
            threading.setprofile(of_threads)

    def record(self, function: Callable[[], object]) -> Trace:
        """Return the calls of ``function``, and what other threads do until they are quiet."""
        trace = self._trace = Trace()
        function()
        n_calls = -1
        while n_calls < (n_calls := len(trace.calls)):
            time.sleep(QUIET_S)
        self._trace = None
        return trace

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        # Comprehensions and lambdas are part of the function that they stand in.
        if self._trace is None or event != "call" or code.co_name.startswith("<"):
            return
        path = Path(code.co_filename)
        if PACKAGE in path.parents:
            called = Called(path.relative_to(PACKAGE).as_posix(), code.co_name)
            self._trace.threads.setdefault(threading.get_ident(), []).append(called)


def traced() -> dict[str, Trace]:
    """Return the trace of a warm call through each adapter."""
    from rerank_plugins import langchain, llama_index

    # Of this scorer alone the threads start while they are watched.
    options: dict[str, Any] = {
        "model": EMBEDDED_MODEL,
        "device": "cpu",
        "dtype": "float32",
        "max_queued_pairs": len(TEXTS),
    }
    adapters: dict[str, Prepare] = {
        "langchain": langchain_call(langchain.CrossEncoderRerank(**options)),
        "llama_index": llama_index_call(llama_index.CrossEncoderRerank(**options)),
    }
    traces = {}
    tracer = Tracer()
    with tracer.installed(), shared_scorer(**options):
        for name, prepare in adapters.items():
            call = prepare(QUERY, TEXTS)
            call()  # loads what is loaded at the first call
            tracer.record(lambda: None)  # until the workers have ended that
            traces[name] = tracer.record(call)
    return traces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", action="store_true", help="list every call, thread by thread")
    arguments = parser.parse_args()
    for name, trace in traced().items():
        caller, *workers = trace.threads.values()
        files = {called.file for called in trace.calls}
        print(
            f"{name}: {len(trace.entered)} rooms, {len(files)} files, {trace.n_moves} moves; "
            f"{len(caller)} calls on the caller's thread, {sum(map(len, workers))} on workers"
        )
        for room, times in sorted(trace.entered.items()):
            print(f"  {room}: entered {times} times")
        if arguments.calls:
            for number, thread in enumerate(trace.threads.values()):
                for called in thread:
                    print(f"  thread {number}: {called.room:26} {called.file} {called.function}")


if __name__ == "__main__":
    main()

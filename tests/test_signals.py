"""Signals: a handler may use the scorer that it interrupts, and handlers stay as they were."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs POSIX signals")

_LONG = 240.0

_BEGIN = """
import os, signal, threading
from rerank_plugins import CrossEncoderScorer
from rerank_plugins.errors import ScorerClosedError

scorer = CrossEncoderScorer("embedded", device="cpu")
expected = scorer.score("q", ["a", "b"])
over = threading.Event()

def signals():
    # Each one when the last was handled, at whatever place the main thread is then.
    while not over.is_set():
        handled.clear()
        os.kill(os.getpid(), signal.SIGUSR1)
        handled.wait(1)

handled = threading.Event()
sender = threading.Thread(target=signals)
"""
_SCORES = """
n_handled, wrong = 0, []

def right(scores):  # to rounding: the two calls may share a batch
    return all(abs(one - other) < 1e-4 for one, other in zip(scores, expected, strict=True))

def handler(*_):
    global n_handled
    if not right(scorer.score("q", ["a", "b"])):
        wrong.append(n_handled)
    n_handled += 1
    handled.set()

signal.signal(signal.SIGUSR1, handler)
sender.start()
while n_handled < 20:
    if not right(scorer.score("q", ["a", "b"])):
        wrong.append("main")
over.set()
sender.join()
assert not wrong, wrong
"""
_CLOSES = """
def handler(*_):
    over.set()
    scorer.close()
    handled.set()

signal.signal(signal.SIGUSR1, handler)
sender.start()
try:
    while True:
        scorer.score("q", ["a", "b"])
except ScorerClosedError:
    sender.join()
"""
_KEPT = """
import os, signal, sys
catchable = [number for number in signal.valid_signals() if number not in (9, 19)]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
before = {number: signal.getsignal(number) for number in catchable}
from rerank_plugins import CrossEncoderScorer
with CrossEncoderScorer("embedded", device="cpu") as scorer:
    scorer.score("q", ["a"])
    assert {number: signal.getsignal(number) for number in catchable} == before
assert {number: signal.getsignal(number) for number in catchable} == before
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize(
    ("program", "status"),
    [(_BEGIN + _SCORES, 0), (_BEGIN + _CLOSES, 0), (_KEPT, 7)],
    ids=["a handler scores", "a handler closes", "handlers are kept"],
)
def test_a_process_with_signals_ends_as_it_should(program: str, status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=_LONG, check=False
    )
    assert done.returncode == status, done.stderr

"""Fork, spawn, exit: every program here must end by itself, silently, with the right scores."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import write_card
from model_shapes import CARDS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

LIMIT_S = 120  # a program that hangs is ended by this; none takes more than a few seconds

START = """
import asyncio, multiprocessing, os, sys, threading, time
import torch
from rerank_plugins import CrossEncoderScorer
from rerank_plugins.errors import RerankError

FOLDER = sys.argv[1]
QUERY = "how do i sort a list"
PASSAGES = [f"the river {n} of list number {n % 7} " * (1 + n % 5) for n in range(60)]

def close_to(scores, wanted):
    assert len(scores) == len(wanted), (len(scores), len(wanted))
    worst = max(abs(a - b) for a, b in zip(scores, wanted))
    assert worst < 1e-5, worst

def in_child(work):
    in_main = threading.current_thread() is threading.main_thread()
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except Exception:
            import traceback
            traceback.print_exc()
            os._exit(1)
        if in_main:
            sys.exit(0)  # the usual way, with everything that runs at exit
        os._exit(0)  # as multiprocessing does; elsewhere Python has no end for such a child
    return pid

def ended_well(pid):
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
"""

PROGRAMS = {
    "a forked child scores": """
torch.mm(torch.randn(600, 600), torch.randn(600, 600))  # fills torch's own pool of threads
scorer = CrossEncoderScorer(FOLDER, device="cpu")
wanted = scorer.score(QUERY, PASSAGES)
def child():
    assert scorer.stats.calls == 0
    close_to(scorer.score(QUERY, PASSAGES[::-1]), wanted[::-1])
    close_to(asyncio.run(scorer.ascore(QUERY, PASSAGES)), wanted)
    ended_well(in_child(lambda: close_to(scorer.score(QUERY, PASSAGES), wanted)))
ended_well(in_child(child))
close_to(scorer.score(QUERY, PASSAGES), wanted)
""",
    "a forked child loads another scorer": """
wanted = CrossEncoderScorer(FOLDER, device="cpu").score(QUERY, PASSAGES)
def child():
    other = CrossEncoderScorer(FOLDER, device="cpu", max_length=99)
    close_to(other.score(QUERY, PASSAGES), wanted)
ended_well(in_child(child))
""",
    "a thread forks while others score": """
scorer = CrossEncoderScorer(FOLDER, device=["cpu", "cpu"])
other = CrossEncoderScorer(FOLDER, device="cpu")
wanted = scorer.score(QUERY, PASSAGES)
stop = threading.Event()
def busy(one):
    while not stop.is_set():
        close_to(one.score(QUERY, PASSAGES), wanted)
clients = [threading.Thread(target=busy, args=(one,)) for one in (scorer, other, scorer)]
for client in clients: client.start()
def forks():
    for _ in range(16):
        ended_well(in_child(
            lambda: [close_to(s.score(QUERY, PASSAGES), wanted) for s in (scorer, other)]
        ))
forker = threading.Thread(target=forks)  # one: filelock refuses two forks at a time
forker.start()
forker.join()
stop.set()
for client in clients: client.join()
""",
    "workers of multiprocessing and of a DataLoader": """
scorer = CrossEncoderScorer(FOLDER, device="cpu")
wanted = scorer.score(QUERY, PASSAGES)
def score(passages):
    return scorer.score(QUERY, passages)
with multiprocessing.get_context("fork").Pool(2) as pool:
    for scores in pool.map(score, [PASSAGES] * 4):
        close_to(scores, wanted)
    pool.close(); pool.join()
class Scored(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, index): return torch.tensor(score(PASSAGES))
loader = torch.utils.data.DataLoader(
    Scored(), batch_size=None, num_workers=2, multiprocessing_context="fork")
for scores in loader:
    close_to(scores.tolist(), wanted)
""",
    "spawned processes get a scorer of their own": """
import pickle
def work(scorer, connection):
    connection.send(scorer.score(QUERY, PASSAGES))
if __name__ == "__main__":
    scorer = CrossEncoderScorer(FOLDER, device="cpu", token="secret")
    data = pickle.dumps(scorer)
    assert len(data) < 2000 and b"secret" not in data
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=work, args=(scorer, there))
    process.start()
    close_to(here.recv(), scorer.score(QUERY, PASSAGES))
    process.join()
    assert process.exitcode == 0
""",
    "exit while busy": """
scorer = CrossEncoderScorer(FOLDER, device="cpu", max_queued_pairs=2000)
def bulk():
    try:
        scorer.score_pairs([(QUERY, f"{p} {n}") for n in range(500) for p in PASSAGES])
    except RerankError:
        pass
for _ in range(3):
    threading.Thread(target=bulk, daemon=True).start()
while not scorer.stats.batches:
    time.sleep(0.001)
""",
    # Its workers are the last to hold the model, and free it while the process ends.
    **{
        f"exit {pause_s} s after a scorer was let go": f"""
def use():
    return CrossEncoderScorer(FOLDER, device="cpu").score(QUERY, PASSAGES)
assert len(use()) == len(PASSAGES)
time.sleep({pause_s})
"""
        for pause_s in (0, 0.001, 0.01)
    },
    "exit without a close, after a scorer was dropped": """
import gc
scorer = CrossEncoderScorer(FOLDER, device="cpu")
wanted = scorer.score(QUERY, PASSAGES)
loop = asyncio.new_event_loop()
coroutine = scorer.ascore(QUERY, PASSAGES)
coroutine.close()
loop.run_until_complete(asyncio.wait_for(scorer.ascore(QUERY, PASSAGES), 60))
loop.close()
before = threading.active_count()
del scorer, coroutine
gc.collect()
end = time.monotonic() + 60
while threading.active_count() >= before and time.monotonic() < end:
    time.sleep(0.01)
assert threading.active_count() < before, threading.enumerate()
last = CrossEncoderScorer(FOLDER, device="cpu")
close_to(last.score(QUERY, PASSAGES), wanted)
""",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tinybert")
    write_card(CARDS[0], folder)
    return folder


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_end_silently(name: str, folder: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(START + PROGRAMS[name])
    # Python 3.12 warns of any fork of a process with threads.
    warnings = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    environment = {key: value for key, value in os.environ.items() if "TOKENIZERS" not in key}
    ended = subprocess.run(
        [sys.executable, *warnings, str(program), str(folder)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env={**environment, "HF_HUB_OFFLINE": "1"},
    )
    assert ended.stderr == ""
    assert ended.returncode == 0

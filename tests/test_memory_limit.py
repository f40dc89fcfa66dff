"""Memory that runs out for the whole process, and comes back: the same scorer goes on."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from rerank_plugins import CrossEncoderScorer
from rerank_plugins.errors import RerankError

scorer = CrossEncoderScorer("embedded", device="cpu", max_batch_tokens=20_000)
scorer.score("a", ["b"])
passages = ["sort a list of the river thames " * (1 + n % 40) for n in range(12)]
with open("/proc/self/status") as status:
    size = 1024 * int(next(line for line in status if line.startswith("VmSize")).split()[1])
unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[1]) * 1024, unlimited[1]))
for n in (2, 5, 12):
    try:
        assert len(scorer.score("sort a list", passages[:n])) == n
    except RerankError:
        pass
resource.setrlimit(resource.RLIMIT_AS, unlimited)
after = scorer.score("sort a list", passages)
fresh = CrossEncoderScorer("embedded", device="cpu").score("sort a list", passages)
assert max(abs(a - b) for a, b in zip(after, fresh)) < 1e-5
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
@pytest.mark.slow
@pytest.mark.parametrize("extra_kb", [0, 2048])
def test_a_scorer_works_again_when_memory_is_back(extra_kb: int) -> None:
    program = [sys.executable, "-c", PROGRAM, str(extra_kb)]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr

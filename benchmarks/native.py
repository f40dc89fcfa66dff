"""The compiled forward pass against PyTorch's: ``python -m benchmarks.native``.

Both are in one process, get the same text in turn, through the whole scorer, and must give equal
scores. Writes ``benchmarks/results/native_cpu.json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import cpu, peers
from benchmarks.environment import RESULTS, compiled_forward, environment
from benchmarks.progress import progress
from benchmarks.session import Session, Tell
from rerank_plugins.cross_encoder.checkpoint.hub import EMBEDDED_FOLDER
from rerank_plugins.workloads import BULK, CANDIDATES, ScoreCalls

DTYPES = ("float32", "bfloat16", "int8")


def contestants(folder: str) -> dict[str, ScoreCalls]:
    """Return ``"PyTorch DTYPE"`` and ``"compiled DTYPE"``; the latter is what a default takes."""
    found = {}
    for dtype in DTYPES:
        for name, wish in (("PyTorch", "0"), ("compiled", "auto")):
            with compiled_forward(wish):
                found[f"{name} {dtype}"] = peers.ours(folder, dtype=dtype)
    return found


def native_speed(repeats: int, work: Path, tell: Tell, *, smoke: bool = False) -> dict[str, Any]:
    tiny = str(EMBEDDED_FOLDER)
    minilm = cpu.random_minilm(work / "minilm", tiny)
    result: dict[str, Any] = {"environment": environment(), "repeats": repeats, "timings": []}
    for model, folder, workloads in (
        (cpu.TINY, tiny, (BULK, *CANDIDATES[:3])),
        (cpu.MINILM, minilm, (cpu.MINILM_BULK, *CANDIDATES[:2])),
    ):
        session = Session(model, folder, repeats=repeats, tell=tell, smoke=smoke)
        scorers = contestants(folder)
        for workload in workloads:
            session.run(scorers, workload)
        result["timings"] += session.timings
        result.setdefault("differences", {})[model] = session.differences
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS / "native_cpu.json")
    parser.add_argument("--smoke", action="store_true", help="a few pairs: figures mean nothing")
    arguments = parser.parse_args()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as work, progress() as tell:
        result = native_speed(arguments.repeats, Path(work), tell, smoke=arguments.smoke)
    result["run_s"] = time.perf_counter() - begin
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()

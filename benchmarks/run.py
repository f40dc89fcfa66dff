"""Measure the scorer against its peers: ``python -m benchmarks.run`` writes the raw results.

Every contestant is in this process, gets the same text in turn, and must give equal scores before
it is timed. Results go to ``benchmarks/results/``; `benchmarks.report` makes the tables. On a CPU
all of it takes about ten minutes; ``--device cuda`` runs the parts for a GPU. ``--only`` runs some
parts. Without ``speed``, which the file's environment is of, they go into the results file that is
there, and it notes theirs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers.utils import logging

from benchmarks import breakdown, cpu, cuda, frameworks, memory, onnx_peers
from benchmarks.environment import RESULTS, environment
from benchmarks.peers import MAX_LENGTH
from benchmarks.progress import progress
from benchmarks.session import Tell, fitted_text, sized
from rerank_plugins.cross_encoder.checkpoint.hub import EMBEDDED_FOLDER
from rerank_plugins.workloads import BULK, CANDIDATES, Texts

FOLDER = str(EMBEDDED_FOLDER)
CPU_PARTS = ("first_call", "speed", "overhead", "breakdown", "memory")
CUDA_PARTS = ("first_call", "speed")
# Of a call of 100 candidates, to see a few per cent through the noise of a shared machine.
OVERHEAD_REPEATS = 150


def first_call_s(device: str) -> dict[str, float]:
    """Return the seconds of loading, of the first call, and of the same call again."""
    from rerank_plugins import CrossEncoderScorer

    call = Texts(3).calls(CANDIDATES[2])[0]
    begin = time.perf_counter()
    scorer = CrossEncoderScorer(FOLDER, device=device)
    loaded = time.perf_counter()
    scorer.score(*call)
    first = time.perf_counter()
    scorer.score(*call)
    return {
        "load": loaded - begin,
        "first_100_candidates": first - loaded,
        "second_100_candidates": time.perf_counter() - first,
    }


def cpu_parts(
    result: dict[str, Any], work: Path, repeats: int, tell: Tell, *, smoke: bool
) -> dict[str, Callable[[], None]]:
    """Return the parts of a run on a CPU, each of which adds to ``result``."""

    def speed() -> None:
        result.update(cpu.speed(FOLDER, work, repeats, tell, smoke=smoke))

    def overhead() -> None:
        times = 2 if smoke else OVERHEAD_REPEATS
        result["adapters_overhead"] = frameworks.adapters_overhead(FOLDER, repeats=times, tell=tell)

    def steps() -> None:
        tokens_per_word, lengths = fitted_text(FOLDER)
        result["breakdown"] = {
            dtype: breakdown.breakdown(
                FOLDER,
                dtype,
                tokens_per_word=tokens_per_word,
                tokens=lengths["mean"],
                repeats=1 if smoke else repeats,
                times=1 if smoke else 15,
                tell=tell,
                workload=sized(BULK, smoke=smoke),
            )
            for dtype in ("float32", "bfloat16")
        }

    def resident() -> None:
        counts = (20,) if smoke else memory.PAIRS
        sizes = result.get("best_batch_size", {}).get(cpu.TINY, {})
        result["memory"] = memory.measured(FOLDER, work, sizes, tell, counts=counts)

    return {"speed": speed, "overhead": overhead, "breakdown": steps, "memory": resident}


def begun(output: Path, fresh: dict[str, Any], only: Sequence[str] | None) -> dict[str, Any]:
    """Return what the parts ``only`` are added to: what ``output`` holds, or ``fresh``."""
    if only is None or "speed" in only or not output.exists():
        return fresh
    result: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=CPU_PARTS, metavar="PART", help=str(CPU_PARTS))
    parser.add_argument("--output", type=Path, help="default: results/speed_cpu.json, _cuda.json")
    parser.add_argument("--smoke", action="store_true", help="a few pairs: figures mean nothing")
    arguments = parser.parse_args()
    device, smoke, repeats = arguments.device, arguments.smoke, arguments.repeats
    kind = device.partition(":")[0]
    if smoke and arguments.output is None:
        parser.error("--smoke needs an --output of its own")
    output = arguments.output or RESULTS / f"speed_{kind}.json"
    warnings.simplefilter("ignore")
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    result: dict[str, Any] = {
        "environment": environment(),
        "device": device,
        "max_length": MAX_LENGTH,
        "repeats": repeats,
    }
    here = result["environment"]
    result = begun(output, result, arguments.only)
    begin = time.perf_counter() - result.get("run_s", 0.0)
    with tempfile.TemporaryDirectory() as work, progress() as tell:
        if kind == "cpu":
            parts = cpu_parts(result, Path(work), repeats, tell, smoke=smoke)
        else:
            parts = {
                "speed": lambda: result.update(
                    cuda.speed(FOLDER, device, repeats, tell, smoke=smoke)
                )
            }
        for name in CPU_PARTS if kind == "cpu" else CUDA_PARTS:
            if arguments.only is not None and name not in arguments.only:
                continue
            tell(name)
            if name == "first_call":
                result["first_call_s"] = first_call_s(device)
            else:
                parts[name]()
            if result["environment"] is not here:
                result.setdefault("later_parts", {})[name] = here
            # What is measured is kept, whatever happens to the parts after it.
            _write(output, result, begin)
        if kind == "cpu" and (reason := onnx_peers.why_no_optimum()) is not None:
            result["not_measured"] = {onnx_peers.OPTIMUM: reason}
    _write(output, result, begin)
    print(f"wrote {output}")


def _write(output: Path, result: dict[str, Any], begin: float) -> None:
    result["run_s"] = time.perf_counter() - begin
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

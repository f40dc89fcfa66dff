"""Peak resident memory, each time in a process of its own.

``python -m benchmarks.memory contestant NAME FOLDER WORK BATCH_SIZE`` and
``python -m benchmarks.memory pairs N FOLDER`` print one result as JSON; `benchmarks.run` starts
them. The peak is the kernel's own high-water mark, set back before what is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks import onnx_peers, peers
from benchmarks.session import Tell
from rerank_plugins.workloads import BULK, ScoreCalls, Texts, Workload

ROOT = Path(__file__).parent.parent
PAIRS = (1_000, 10_000, 100_000)
# The largest takes half a minute.
REPEATS = {1_000: 3, 10_000: 3, 100_000: 1}
CONTESTANTS = (
    "rerank_plugins float32",
    "rerank_plugins bfloat16",
    "rerank_plugins int8",
    "sentence-transformers float32",
    "sentence-transformers bfloat16",
    "transformers float32",
    "ONNX Runtime float32",
    "ONNX Runtime, one batch (as FlashRank) float32",
)


def contestant(name: str, folder: str, work: Path, batch_size: int) -> ScoreCalls:
    kind, _, dtype = name.rpartition(" ")
    if kind == "rerank_plugins":
        return peers.ours(folder, dtype=dtype)
    if kind == "sentence-transformers":
        return peers.sentence_transformers(folder, dtype=dtype, batch_size=batch_size)
    if kind == "transformers":
        return peers.plain_transformers(folder, batch_size=batch_size)
    one_batch = "one batch" in kind
    return onnx_peers.onnx_runtime(folder, work, batch_size=None if one_batch else batch_size)


def measured(
    folder: str,
    work: Path,
    batch_sizes: dict[str, int],
    tell: Tell,
    *,
    counts: tuple[int, ...] = PAIRS,
) -> dict[str, dict[str, Any]]:
    """Measure every contestant and every number of pairs, each in a fresh process."""
    if not Path("/proc/self/clear_refs").exists():
        return {"contestants": {}, "pairs": {}}
    onnx_peers.exported(folder, work)
    contestants, pairs = {}, {}
    for name in CONTESTANTS:
        tell(f"memory of {name}")
        size = batch_sizes.get(name.rsplit(" ", 1)[-1], 32) if "sentence" in name else 32
        contestants[name] = _child("contestant", name, folder, str(work), str(size))
    for count in counts:
        tell(f"memory of {count:,} pairs")
        pairs[str(count)] = _child("pairs", str(count), folder)
    return {"contestants": contestants, "pairs": pairs}


def _child(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.memory", *arguments]
    environment = {**os.environ, "TQDM_DISABLE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def of_contestant(name: str, folder: str, work: Path, batch_size: int) -> dict[str, Any]:
    """Return MiB above the imports that loading and scoring the bulk workload took at most."""
    # The same imports for all, so that what differs is the work. Some load parts of themselves at
    # first use: name those parts.
    import onnxruntime  # noqa: F401
    import sentence_transformers  # noqa: F401
    from transformers import (  # noqa: F401
        AutoModelForSequenceClassification,
        AutoTokenizer,
        BertForSequenceClassification,
    )

    import rerank_plugins.cross_encoder.forward.cpu
    import rerank_plugins.cross_encoder.forward.int8
    import rerank_plugins.cross_encoder.scorer  # noqa: F401

    calls = Texts(5).calls(BULK)
    before = reset_peak_mib()
    score = contestant(name, folder, work, batch_size)
    loaded = peak_mib()
    scores = score(calls)
    return {
        "batch_size": batch_size,
        "n_pairs": sum(map(len, scores)),
        "before_mib": before,
        "load_mib": loaded - before,
        "load_and_score_mib": peak_mib() - before,
    }


def of_pairs(n_pairs: int, folder: str) -> dict[str, Any]:
    """Return MiB above the loaded scorer and the texts that one call of ``n_pairs`` took at most.

    Later repeats have new text, and are measured from the same mark.
    """
    from rerank_plugins import CrossEncoderScorer

    scorer = CrossEncoderScorer(folder, device="cpu", max_length=peers.MAX_LENGTH)
    scorer.warmup()
    texts = Texts(6)
    workload = Workload(name="growth", n_queries=1, n_candidates=n_pairs)
    calls = [texts.calls(workload)[0] for _ in range(REPEATS.get(n_pairs, 1))]
    before = reset_peak_mib()
    seconds, rises = [], []
    for query, passages in calls:
        begin = time.perf_counter()
        scorer.score(query, passages)
        seconds.append(time.perf_counter() - begin)
        rises.append(peak_mib() - before)
    return {"n_pairs": n_pairs, "before_mib": before, "rise_mib": rises, "seconds": seconds}


def reset_peak_mib() -> float:
    """Set the high-water mark of resident memory back to what is resident now; return it."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


def peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    warnings.simplefilter("ignore")
    kind, what, folder, *rest = sys.argv[1:]
    if kind == "contestant":
        result = of_contestant(what, folder, Path(rest[0]), int(rest[1]))
    else:
        result = of_pairs(int(what), folder)
    print(json.dumps(result))


if __name__ == "__main__":
    main()

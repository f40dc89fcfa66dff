"""Measure one scorer under many callers: ``python -m benchmarks.load`` writes the raw results.

Clients are threads that call as fast as they are answered, 20 candidates a call, in this one
process. Contestants get the same new text in turn. With ``--soak-seconds`` the result also has
memory and latency over that time.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.environment import RESULTS, environment
from benchmarks.load.event_loop import event_loop, mixed
from benchmarks.load.soak import soak
from benchmarks.load.throughput import fairness, throughput
from rerank_plugins import CrossEncoderScorer
from rerank_plugins.cross_encoder.checkpoint.hub import EMBEDDED_FOLDER
from rerank_plugins.models import EMBEDDED_MODEL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=EMBEDDED_MODEL, help="a local folder, or 'embedded'")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--soak-seconds", type=float, default=0.0)
    parser.add_argument("--only", choices=("throughput", "fairness", "event_loop", "mixed", "soak"))
    parser.add_argument("--output", type=Path, default=RESULTS / "load_cpu.json")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    scorer = CrossEncoderScorer(arguments.model, device="cpu")
    folder = str(EMBEDDED_FOLDER) if arguments.model == EMBEDDED_MODEL else arguments.model
    scorer.warmup()
    # The peers come last: sixteen more models in the process would be in the other figures too.
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "event_loop": lambda: event_loop(scorer, 4),
        "fairness": lambda: fairness(scorer),
        "mixed": lambda: mixed(scorer),
        "soak": lambda: soak(scorer, arguments.soak_seconds),
        "throughput": lambda: throughput(scorer, arguments.repeats, folder),
    }
    if not arguments.soak_seconds:
        del parts["soak"]
    result: dict[str, Any] = {
        "environment": environment(),
        "model": arguments.model,
        "dtype": scorer.dtype,
        "repeats": arguments.repeats,
    }
    for name, part in parts.items():
        if arguments.only in (None, name):
            console.print(f"{name} ...")
            result[name] = part()
            arguments.output.parent.mkdir(exist_ok=True)
            arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    console.print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()

"""Measure the HTTP server: ``python -m benchmarks.serving`` writes the raw results.

Server and clients share this machine. Clients send bodies that were made beforehand and read the
whole answer; the scorer in this process gets as much new text, in turn, from as many threads.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.environment import RESULTS, environment
from benchmarks.serving.parts import disconnects, overload, soak, throughput
from benchmarks.serving.server import environment_of_threads
from rerank_plugins.models import EMBEDDED_MODEL

PARTS = ("throughput", "overload", "disconnects", "soak")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=EMBEDDED_MODEL, help="a local folder, or 'embedded'")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the requests a round")
    parser.add_argument(
        "--cell", nargs=2, type=int, action="append", metavar=("DOCUMENTS", "CLIENTS")
    )
    parser.add_argument("--overload-seconds", type=float, default=20.0)
    parser.add_argument("--soak-seconds", type=float, default=600.0)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--condition", default="", help="what else this machine is doing")
    parser.add_argument("--output", type=Path, default=RESULTS / "serving_cpu.json")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    model = arguments.model
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "throughput": lambda: throughput(model, arguments.repeats, arguments.scale, arguments.cell),
        "overload": lambda: overload(model, arguments.overload_seconds),
        "disconnects": lambda: disconnects(model),
        "soak": lambda: soak(model, arguments.soak_seconds),
    }
    output: Path = arguments.output
    result: dict[str, Any] = json.loads(output.read_text()) if output.exists() else {}
    for name in arguments.only:
        console.print(f"{name} ...")
        result[name] = {
            "environment": environment() | {"limits": environment_of_threads()},
            "condition": arguments.condition,
            "model": model,
            **parts[name](),
        }
        output.parent.mkdir(exist_ok=True)
        output.write_text(json.dumps(result, indent=1) + "\n")
    console.print(f"wrote {output}")


if __name__ == "__main__":
    main()

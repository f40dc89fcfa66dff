"""Tables and a plot from the raw results: ``python -m benchmarks.report [--check]``.

The blocks between ``<!-- table: NAME -->`` and ``<!-- /table -->`` of the READMEs and the model
cards, and the embedded models' quality in ``models.json``, are written from the raw files in
``benchmarks/results/`` and ``training/results/``; ``--check`` writes nothing and fails where they
disagree.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.environment import RESULTS
from benchmarks.tables.breakdown import breakdown_table
from benchmarks.tables.cuda import cuda_table
from benchmarks.tables.growth import frameworks_table, growth_table, memory_table
from benchmarks.tables.host import host_table
from benchmarks.tables.load import load_table
from benchmarks.tables.native import native_table
from benchmarks.tables.plot import plot
from benchmarks.tables.quality import MODELS, demo_table, models_with_quality, quality_table
from benchmarks.tables.ray import ray_table
from benchmarks.tables.results import Speed
from benchmarks.tables.serving import serving_table
from benchmarks.tables.speed import headline_table, onnx_table, peers_table, speed_table
from benchmarks.tables.tokens import tokens_table

ROOT = Path(__file__).parent.parent
FILES = (
    "README.md",
    "benchmarks/README.md",
    "rerank_plugins/embedded/README.md",
    "rerank_plugins/embedded_l6/README.md",
)


def tables(results: Path = RESULTS) -> dict[str, Callable[[], str]]:
    speed = Speed(results / "speed_cpu.json")
    return {
        "quality": quality_table,
        "headline": lambda: headline_table(speed),
        "demo": demo_table,
        "speed": lambda: speed_table(speed),
        "peers": lambda: peers_table(speed),
        "onnx": lambda: onnx_table(Speed(results / "speed_cpu_onnx.json")),
        "breakdown": lambda: breakdown_table(speed),
        "growth": lambda: growth_table(speed),
        "memory": lambda: memory_table(speed),
        "frameworks": lambda: frameworks_table(speed),
        "load": lambda: load_table(results / "load_cpu.json"),
        "serving": lambda: serving_table(results / "serving_cpu.json"),
        "tokens": lambda: tokens_table(results / "tokens_scifact.json"),
        "native": lambda: native_table(results / "native_cpu.json"),
        "cuda": lambda: cuda_table(results / "speed_cuda.json"),
        "host": lambda: host_table(results / "host.json"),
        "ray": lambda: ray_table(results / "ray.json"),
    }


def filled(text: str, makers: dict[str, Callable[[], str]]) -> str:
    """Return ``text`` with every known table block made afresh."""

    def fresh(match: re.Match[str]) -> str:
        if match[1] not in makers:
            return match[0]
        return f"<!-- table: {match[1]} -->\n{makers[match[1]]()}\n<!-- /table -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- /table -->", fresh, text, flags=re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    check = parser.parse_args().check
    makers = tables()
    stale = []
    for name in FILES:
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        if filled(text, makers) != text:
            stale.append(name)
            if not check:
                path.write_text(filled(text, makers), encoding="utf-8")
    models = MODELS.read_text(encoding="utf-8")
    if models_with_quality(models) != models:
        stale.append(str(MODELS.relative_to(ROOT)))
        if not check:
            MODELS.write_text(models_with_quality(models), encoding="utf-8")
    if not check:
        plot(Speed(RESULTS / "speed_cpu.json"), RESULTS / "speed_cpu.svg")
        return 0
    for name in stale:
        sys.stderr.write(f"{name} is not what the results say: run python -m benchmarks.report\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())

"""Text encoders alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.tables.results import markdown


def tokens_table(path: Path) -> str:
    """Return what `benchmarks.tokens` measured: speed, and how many texts get other ids."""
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    rows = []
    for name, found in raw["contenders"].items():
        ratio = found["times_baseline"]
        wrong = [found["differing"], found["differing_hard"]]
        rows.append(
            (
                name,
                f"{found['passages_per_s']['median']:,.0f}",
                f"{ratio['median']:.2f} ({ratio['minimum']:.2f}-{ratio['maximum']:.2f})",
                *("" if count is None else f"{count:,}" for count in wrong),
            )
        )
    workload, environment = raw["workload"], raw["environment"]
    header = (
        f"{workload['passages']:,} passages of {workload['source']}",
        "passages/s",
        f"times {raw['baseline']}",
        "other ids",
        f"other ids, {workload['hard_texts']:,} hard texts",
    )
    return (
        f"{markdown(header, rows)}\n\n"
        f"{environment['cpu']}, one thread where no other is named, {raw['repeats']} repeats, "
        f"load average {environment['load_average']:.1f} at the start; "
        f"[{path.name}](results/{path.name})."
    )

"""What the host alone takes for a call on CUDA."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.tables.results import Row, markdown

NAMES = {
    "bulk": "2,000 new pairs",
    "bulk-seen": "2,000 pairs of passages seen before",
    "large": "20,000 new pairs",
    "large-seen": "20,000 pairs of passages seen before",
    "candidates-1": "1 candidate",
    "candidates-10": "10 candidates",
    "candidates-100": "100 candidates",
    "candidates-1000": "1,000 candidates",
}


def host_table(path: Path) -> str:
    """Return what `benchmarks.host` measured."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    rows: list[Row] = [
        (
            NAMES[timing["workload"]],
            f"{timing['docs_per_s']:,.0f}",
            f"{timing['p50_ms']:.2f}" if timing["workload"].startswith("candidates") else "",
        )
        for timing in raw["timings"]
    ]
    environment = raw["environment"]
    note = (
        f"{environment['cpu']}, medians of {raw['repeats']} repeats, batches of up to "
        f"{raw['max_batch_tokens']:,} tokens; [{path.name}](results/{path.name}), commit "
        f"{environment['commit']}, {environment['date']}."
    )
    return markdown(("the host alone", "docs/s", "p50 ms"), rows) + "\n\n" + note

"""A GPU: ours against sentence-transformers."""

from __future__ import annotations

from pathlib import Path

from benchmarks.tables.results import PEER, TINY, Row, Speed, markdown

WORKLOADS = (
    *("bulk", "bulk-seen", "large", "large-seen", "long"),
    *(f"candidates-{count}" for count in (1, 10, 100, 1000)),
)


def cuda_table(path: Path) -> str:
    """Return every workload and contestant of `benchmarks.run --device cuda`."""
    if not path.exists():
        return "Not measured: `python -m benchmarks.run --device cuda` needs a CUDA device."
    speed = Speed(path)
    peer = "sentence-transformers float16"
    rows: list[Row] = []
    for workload in WORKLOADS:
        for name in speed.contestants(TINY, workload):
            timing = speed.timing(TINY, workload, name)
            known = speed.has(TINY, workload, peer)
            rows.append(
                (
                    workload,
                    name,
                    f"{timing['docs_per_s']:,.0f}",
                    f"{timing['p50_ms']:.2f}",
                    f"{timing['p99_ms']:.2f}",
                    speed.ratio(TINY, workload, name, peer if known else PEER),
                    f"{speed.raw['largest_score_difference'][TINY][name]:.1e}",
                )
            )
    header = (
        "workload",
        "contestant",
        "docs/s",
        "p50 ms",
        "p99 ms",
        f"times {peer}",
        "largest difference",
    )
    shares = "; ".join(
        f"{name} {speed.floor_share(name, workload='large'):.3f}"
        for name in speed.contestants(TINY, "large")
    )
    environment, sizes = speed.raw["environment"], speed.raw["best_batch_size"][TINY]
    note = (
        f"{environment['cuda']}, torch {environment['versions']['torch']}; batch sizes "
        f"{', '.join(f'{size} ({dtype})' for dtype, size in sizes.items())}, the best of a sweep; "
        f"commit {environment['commit']}, {environment['date']}. Of the floor, on `large`: "
        f"{shares}."
    )
    return markdown(header, rows) + "\n\n" + note

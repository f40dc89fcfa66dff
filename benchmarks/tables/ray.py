"""Ray against one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.tables.results import Row, markdown


def ray_table(path: Path) -> str:
    """Return what `benchmarks.ray` measured; a job of few rows is what a job costs before any."""
    if not path.exists():
        return "Not measured: `python -m benchmarks.ray` needs the extra `ray`."
    raw = json.loads(path.read_text(encoding="utf-8"))
    jobs: list[dict[str, Any]] = raw["jobs"]
    n_few = min(job["n_rows"] for job in jobs)
    few = {(job["job"], job["workers"]): job for job in jobs if job["n_rows"] == n_few}
    rows: list[Row] = []
    for job in jobs:
        if job["n_rows"] == n_few:
            continue
        base = few[job["job"], job["workers"]]
        n_more = job["n_rows"] - n_few
        blocks = -(-job["n_rows"] // job["rows_per_block"])
        rows.append(
            (
                f"{job['job']}, {job['workers']} worker{'s' * (job['workers'] > 1)}",
                f"{job['rows_per_block']:,}",
                f"{job['n_rows'] / job['wall_s']:,.0f}",
                f"{base['cpu_s']:.1f}",
                f"{(job['cpu_s'] - base['cpu_s']) / n_more * 1e6:,.0f}",
                f"{(job['driver_cpu_s'] - base['driver_cpu_s']) / blocks * 1e3:,.0f}",
            )
        )
    header = (
        "job",
        "rows a block",
        "rows/s, start included",
        "CPU s before any row",
        "CPU us a row",
        "driver's CPU ms a block",
    )
    environment = raw["environment"]
    n_rows = max(job["n_rows"] for job in jobs)
    note = (
        f"{n_rows:,} pairs, embedded, a thread a worker; {environment['cpu']}, "
        f"Ray {raw['ray']}; load average "
        f"{' to '.join(f'{load:.1f}' for load in raw['load_average'])}, so that CPU seconds say "
        f"more than rows/s; one run each. Raw: [{path.name}](results/{path.name}), commit "
        f"{environment['commit']}, {environment['date']}."
    )
    return markdown(header, rows) + "\n\n" + note

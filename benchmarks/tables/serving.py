"""The server over HTTP."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables.results import markdown, spread


def serving_table(path: Path) -> str:
    """Return what `benchmarks.serving` measured, of which any part may be missing."""
    if not path.exists():
        return "Not yet measured: `python -m benchmarks.serving`."
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    makers = {
        "throughput": _throughput,
        "overload": _overload,
        "disconnects": _disconnects,
        "soak": _soak,
    }
    return "\n\n".join(
        f"{make(raw[name])}\n\n{_where(name, raw[name])}"
        for name, make in makers.items()
        if name in raw
    )


def _where(name: str, found: dict[str, Any]) -> str:
    environment = found["environment"]
    beside = f"; {found['condition']}" if found["condition"] else ""
    return (
        f"({name.capitalize()}: {environment['cpu']}, {environment['threads']} threads, commit "
        f"{environment['commit']}, {environment['date']}{beside}.)"
    )


def _throughput(found: dict[str, Any]) -> str:
    def median(runs: Sequence[dict[str, Any]], key: str) -> str:
        return f"{statistics.median(run[key] for run in runs):,.0f}"

    rows = [
        (
            f"{cell['n_documents']:,} x {cell['n_clients']}",
            median(cell["runs"]["in process"], "docs_per_s"),
            median(cell["runs"]["HTTP"], "docs_per_s"),
            spread(cell["ratios"]),
            median(cell["runs"]["HTTP"], "p50_ms"),
            median(cell["runs"]["HTTP"], "p99_ms"),
        )
        for cell in found["cells"]
    ]
    header = (
        "documents x clients",
        "docs/s in process",
        "docs/s over HTTP",
        "share",
        "p50 ms",
        "p99 ms",
    )
    added = ", ".join(
        f"{each['added_p50_ms']:.1f} ms at {each['n_documents']} documents"
        for each in found["latency"]
    )
    return (
        f"{markdown(header, rows)}\n\nOne request at a time takes longer than `scorer.score` by "
        f"(p50): {added}. Scores differ by at most {found['largest_difference']:.1e}."
    )


def _overload(found: dict[str, Any]) -> str:
    health, statuses = found["health"], found["statuses"]
    told = ", ".join(f"{n:,} times {status}" for status, n in sorted(statuses.items()))
    return (
        f"Overload: {found['n_clients']} clients with {found['n_documents']:,} documents each, a "
        f"queue of {found['max_queued_pairs']} pairs, {found['seconds']:.0f} s: {told}, "
        f"{found['refused_without_retry_after']} refusals without `Retry-After`; accepted requests "
        f"take {found['accepted']['p99_ms']:,.0f} ms (p99), `/health` {health['max_ms']:.0f} ms at "
        f"most ({health['n']} times asked). Resident memory {found['rss_mib_before']:.0f} MiB "
        f"before, {health['rss_mib_max']:.0f} MiB at most."
    )


def _disconnects(found: dict[str, Any]) -> str:
    return (
        f"{found['n_clients']} clients leave 50 ms after asking for {found['n_documents']:,} "
        f"documents each: {found['disconnects']:.0f} are counted, the queue is empty after "
        f"{found['queue_empty_after_s']:.2f} s, {found['share_of_tokens_computed']:.1%} of their "
        f"tokens were computed, and `/health` takes {found['health']['max_ms']:.0f} ms at most."
    )


def _soak(found: dict[str, Any]) -> str:
    sampled = ", ".join(f"{sample['rss_mib']:.0f}" for sample in found["samples"])
    told = ", ".join(f"{n:,} times {status}" for status, n in sorted(found["statuses"].items()))
    return (
        f"{found['seconds'] / 60:.0f} minutes of {found['n_clients']} clients with 1 to 100 "
        f"documents, wrong requests and early leaves among them: {told}; resident memory at equal "
        f"steps, MiB: {sampled}; `/health` takes {found['health']['max_ms']:.0f} ms at most."
    )

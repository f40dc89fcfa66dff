"""How cost and memory grow, and what the frameworks add."""

from __future__ import annotations

from typing import Any

from benchmarks.tables.results import OURS, TINY, Row, Speed, markdown

NOT_YET = "Not yet measured: `python -m benchmarks.run`."


def growth_table(speed: Speed) -> str:
    """Return how cost grows with the number of pairs and with their length."""
    rows: list[Row] = []
    for count in (10, 100, 1_000, 10_000):
        docs_per_s = speed.timing(TINY, f"growth-{count}", OURS)["docs_per_s"]
        rows.append((f"{count:,} pairs", f"{docs_per_s:,.0f}", "", *_rise(speed, count)))
    largest = _pairs(speed).get("100000")
    if largest is not None:
        seconds = sum(largest["seconds"]) / len(largest["seconds"])
        rows.append(("100,000 pairs", f"{100_000 / seconds:,.0f}", "", *_rise(speed, 100_000)))
    for tokens in (16, 32, 64, 128, 256, 512):
        workload = f"length-{tokens}"
        docs_per_s = speed.timing(TINY, workload, OURS)["docs_per_s"]
        rows.append((f"{tokens} tokens", f"{docs_per_s:,.0f}", speed.ratio(TINY, workload, OURS)))
    header: Row = ("float32", "docs/s", "times the peer")
    if _pairs(speed):
        header = (*header, "peak memory, MiB")
        rows = [(*row, *[""] * (4 - len(row))) for row in rows]
    first = speed.raw["first_call_s"]
    notes = [
        f"Loading takes {first['load']:.1f} s, the first call of 100 candidates "
        f"{1000 * first['first_100_candidates']:.0f} ms, the same call again "
        f"{1000 * first['second_100_candidates']:.0f} ms (`warmup()` takes that upon itself)."
    ]
    if largest is not None:
        notes.append(
            "Memory is the most that a call took above the loaded and warmed-up scorer and the "
            "texts, in a process of its own; it counts the memo of passages, which is bounded. "
            f"100,000 pairs were scored {_times(len(largest['seconds']))}."
        )
    return speed.noted("\n\n".join((markdown(header, rows), *notes)), "first_call", "memory")


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _pairs(speed: Speed) -> dict[str, Any]:
    pairs: dict[str, Any] = speed.raw.get("memory", {}).get("pairs", {})
    return pairs


def _rise(speed: Speed, count: int) -> list[str]:
    pairs = _pairs(speed)
    if not pairs:
        return []
    return [f"{max(pairs[str(count)]['rise_mib']):,.0f}" if str(count) in pairs else ""]


def memory_table(speed: Speed) -> str:
    """Return the peak memory of each contestant, in a process of its own."""
    contestants = speed.raw.get("memory", {}).get("contestants", {})
    if not contestants:
        return NOT_YET
    rows = [
        (name, f"{each['load_mib']:,.0f}", f"{each['load_and_score_mib']:,.0f}")
        for name, each in contestants.items()
    ]
    header = ("2,000 pairs: MiB above the imports, at most", "loading", "loading and scoring")
    return speed.noted(markdown(header, rows), "memory")


def frameworks_table(speed: Speed) -> str:
    """Return documents in to ranked documents out, 100 candidates a query."""
    workload = "documents-100"
    table = markdown(
        ("100 candidates, end to end", "p50 ms", "p99 ms"),
        [
            (name, f"{timing['p50_ms']:.1f}", f"{timing['p99_ms']:.1f}")
            for name in speed.contestants(TINY, workload)
            for timing in [speed.timing(TINY, workload, name)]
        ],
    )
    overhead = speed.raw.get("adapters_overhead")
    if overhead is None:
        return table
    rows = [
        (
            name,
            f"**{each['median']:.1%}**",
            f"{each['lower_quartile']:.1%} to {each['upper_quartile']:.1%}",
        )
        for name, each in overhead.items()
    ]
    repeats = len(next(iter(overhead.values()))["scorer_s"])
    header = ("what the adapter adds to the scorer", "median", "quartiles")
    note = (
        f"{repeats} repeats each: adapter and scorer in turn on the same 100 passages, without "
        "callbacks; the share of the scorer's time, repeat by repeat."
    )
    return speed.noted("\n\n".join((table, markdown(header, rows), note)), "overhead")

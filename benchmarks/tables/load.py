"""Many callers at once."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.tables.results import markdown, spread


def load_table(path: Path) -> str:
    """Return what `benchmarks.load` measured, of which any part may be missing."""
    if not path.exists():
        return "Not yet measured: `python -m benchmarks.load`."
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    makers = {
        "throughput": _throughput,
        "fairness": _fairness,
        "event_loop": _event_loop,
        "mixed": _mixed,
        "soak": _soak,
    }
    parts = [make(raw[name]) for name, make in makers.items() if name in raw]
    environment = raw["environment"]
    parts.append(
        f"{environment['cpu']}, {environment['threads']} threads, {raw['dtype']}, "
        f"{raw['repeats']} repeats; [{path.name}](results/{path.name}), commit "
        f"{environment['commit']}, {environment['date']}."
    )
    return "\n\n".join(parts)


def _throughput(found: dict[str, Any]) -> str:
    rows = []
    for name, runs in found["runs"].items():
        ratios = found["ratios"].get(name)
        rows.append(
            (
                name,
                f"{statistics.median(run['docs_per_s'] for run in runs):,.0f}",
                *(
                    f"{statistics.median(run[key] for run in runs):,.0f}" if key in runs[0] else ""
                    for key in ("p50_ms", "p99_ms")
                ),
                spread(ratios) if ratios else "1",
            )
        )
    header = (
        f"{found['n_candidates']} candidates a call",
        "docs/s",
        "p50 ms",
        "p99 ms",
        "clients on one scorer are times as fast",
    )
    return markdown(header, rows)


def _fairness(found: dict[str, Any]) -> str:
    idle, busy = found["idle"], found["during_bulk"]
    return (
        f"While one call scores {found['bulk_pairs']:,} pairs, another caller's query of 20 "
        f"candidates takes {busy['p50_ms']:.0f} ms (p50) and {busy['p99_ms']:.0f} ms (p99); alone "
        f"it takes {idle['p50_ms']:.0f} ms and {idle['p99_ms']:.0f} ms. The p99 beside the bulk "
        f"call is {found['p99_over_idle_p50']:.1f} times the p50 alone ({busy['n_calls']} calls)."
    )


def _event_loop(found: dict[str, Any]) -> str:
    def longest(frozen: bool, key: str) -> float:
        return max(float(run[key]) for run in found["runs"] if run["gc_frozen"] is frozen)

    left = max(run["pairs_left"] for run in found["runs"])
    return (
        f"{found['n_tasks']:,} `ascore` calls awaited at once, in some runs every second one "
        f"cancelled: the event loop stands still for {longest(False, 'stall_ms'):.0f} ms at most "
        f"({longest(False, 'busy_ms'):.0f} ms of it busy itself), and after `gc.freeze()` for "
        f"{longest(True, 'stall_ms'):.0f} ms ({longest(True, 'busy_ms'):.0f} ms). Pairs left in "
        f"the queue afterwards: {left}."
    )


def _mixed(found: dict[str, Any]) -> str:
    return (
        f"{found['n_calls']:,} calls from threads with different `max_length`: {found['wrong']} "
        f"differ by more than {found['tolerance']:g} from the same call alone (largest difference "
        f"{found['largest_difference']:.1e})."
    )


def _soak(found: dict[str, Any]) -> str:
    growth = found["growth_after_first_minute"]
    grew = "too short to say" if growth is None else f"{growth:.1%}"
    return (
        f"Over {found['seconds'] / 60:.0f} minutes of new text from four clients, resident memory "
        f"grew after the first minute by: {grew}."
    )

"""Tables and a plot from the raw results: ``python -m benchmarks.report [--check]``.

The README's blocks between ``<!-- table: NAME -->`` and ``<!-- /table -->`` are written from
``benchmarks/results/``; ``--check`` writes nothing and fails where they disagree.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
PEER = "sentence-transformers float32"
OURS = "rerank_plugins float32"
FILES = ("README.md", "benchmarks/README.md")

Row = Sequence[object]


def markdown(header: Row, rows: Sequence[Row]) -> str:
    """Return a Markdown table, every column after the first right-aligned."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


class Speed:
    """The raw results of `benchmarks.run`, looked up by model, workload and contestant."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self._timings = {
            (timing["model"], timing["workload"], timing["contestant"]): timing
            for timing in self.raw["timings"]
        }

    def contestants(self, model: str, workload: str) -> list[str]:
        return [key[2] for key in self._timings if key[:2] == (model, workload)]

    def timing(self, model: str, workload: str, contestant: str) -> dict[str, Any]:
        timing: dict[str, Any] = self._timings[model, workload, contestant]
        return timing

    def ratios(self, model: str, workload: str, contestant: str, peer: str) -> list[float]:
        """Return how many times faster, repeat by repeat, ascending."""
        own: list[float] = self.timing(model, workload, contestant)["seconds"]
        other: list[float] = self.timing(model, workload, peer)["seconds"]
        return sorted(theirs / mine for mine, theirs in zip(own, other, strict=True))

    def ratio(self, model: str, workload: str, contestant: str, peer: str = PEER) -> str:
        """Return the median ratio with its range, as ``3.1 (2.9-3.3)``."""
        values = self.ratios(model, workload, contestant, peer)
        return f"{statistics.median(values):.2f} ({values[0]:.2f}-{values[-1]:.2f})"

    def floor_share(self, contestant: str, model: str = "TinyBERT-L2 shape") -> float:
        """Return achieved over floor: the time that the arithmetic must take, by the time taken."""
        dtype = "torch.float32" if contestant.endswith("float32") else "torch.bfloat16"
        flop, rate = self.raw["floor_flop_per_pair"][model], self.raw["matmul_flop_per_s"][dtype]
        docs_per_s: float = self.timing(model, "bulk", contestant)["docs_per_s"]
        return docs_per_s * float(flop) / float(rate)

    def caption(self) -> str:
        """Return what the figures were measured on."""
        environment = self.raw["environment"]
        versions = ", ".join(f"{name} {v}" for name, v in environment["versions"].items())
        sizes = self.raw["best_batch_size"]["TinyBERT-L2 shape"]
        lengths = self.raw["token_lengths"]["TinyBERT-L2 shape"]
        return (
            f"{environment['cpu']}, {environment['threads']} threads, {versions}; text in to "
            f"scores out, pairs of {lengths['min']} to {lengths['max']} tokens (median "
            f"{lengths['median']}), max_length {self.raw['max_length']}; medians (and range) of "
            f"{self.raw['repeats']} interleaved repeats on new text each; sentence-transformers at "
            f"its best batch size ({sizes['float32']}). Raw: "
            f"[{self.path.name}](benchmarks/results/{self.path.name}), commit "
            f"{environment['commit']}, {environment['date']}."
        )


def speed_table(speed: Speed) -> str:
    """Return the README's table: what matters to somebody who chooses."""
    tiny, small = "TinyBERT-L2 shape", "MiniLM-L6 shape"
    rows: list[Row] = []
    for name, model, workload, contestant in (
        ("2,000 new passages, float32", tiny, "bulk", OURS),
        ("2,000 new passages, bfloat16", tiny, "bulk", "rerank_plugins bfloat16"),
        ("2,000 new passages, int8", tiny, "bulk", "rerank_plugins int8"),
        ("2,000 passages seen before, float32", tiny, "bulk-seen", OURS),
        ("MiniLM-L6 shape, float32", small, "bulk", OURS),
        ("MiniLM-L6 shape, bfloat16", small, "bulk", "rerank_plugins bfloat16"),
        ("MiniLM-L6 shape, int8", small, "bulk", "rerank_plugins int8"),
    ):
        timing = speed.timing(model, workload, contestant)
        peer = speed.timing(model, workload, PEER)
        rows.append(
            (
                name,
                f"{timing['docs_per_s']:,.0f}",
                f"{peer['docs_per_s']:,.0f}",
                f"**{speed.ratio(model, workload, contestant)}**",
            )
        )
    head = markdown(("", "docs/s", "sentence-transformers", "times faster"), rows)
    latency = [
        (
            f"{count:,}",
            *(
                f"{speed.timing(tiny, f'candidates-{count}', name)[key]:.1f}"
                for name in (OURS, PEER)
                for key in ("p50_ms", "p99_ms")
            ),
            f"**{speed.ratio(tiny, f'candidates-{count}', OURS)}**",
        )
        for count in (1, 10, 100, 1000)
    ]
    header = ("candidates a query", "p50 ms", "p99 ms", "peer p50", "peer p99", "times faster")
    plot = "![docs/s by candidates](benchmarks/results/speed_cpu.svg)"
    return "\n\n".join((head, markdown(header, latency), plot, speed.caption()))


def peers_table(speed: Speed) -> str:
    """Return every contestant of the bulk workload, with its share of the floor."""
    tiny = "TinyBERT-L2 shape"
    rows = []
    for name in speed.contestants(tiny, "bulk"):
        share = f"{speed.floor_share(name):.2f}" if name.endswith(("float32", "16")) else ""
        rows.append(
            (
                name,
                f"{speed.timing(tiny, 'bulk', name)['docs_per_s']:,.0f}",
                speed.ratio(tiny, "bulk", name),
                share,
                f"{speed.raw['largest_score_difference'][tiny][name]:.1e}",
            )
        )
    return markdown(
        ("2,000 new pairs", "docs/s", "times the peer", "of the floor", "largest difference"), rows
    )


def growth_table(speed: Speed) -> str:
    """Return how cost grows with the number of pairs and with their length."""
    tiny = "TinyBERT-L2 shape"
    rows: list[Row] = [
        (f"{n:,} pairs", f"{speed.timing(tiny, f'growth-{n}', OURS)['docs_per_s']:,.0f}", "")
        for n in (10, 100, 1_000, 10_000)
    ]
    rows += [
        (
            f"{tokens} tokens",
            f"{speed.timing(tiny, f'length-{tokens}', OURS)['docs_per_s']:,.0f}",
            speed.ratio(tiny, f"length-{tokens}", OURS),
        )
        for tokens in (16, 32, 64, 128, 256, 512)
    ]
    first = speed.raw["first_call_s"]
    note = (
        f"Loading takes {first['load']:.1f} s, the first call of 100 candidates "
        f"{1000 * first['first_100_candidates']:.0f} ms, the same call again "
        f"{1000 * first['second_100_candidates']:.0f} ms (`warmup()` takes that upon itself)."
    )
    return markdown(("float32", "docs/s", "times the peer"), rows) + "\n\n" + note


def frameworks_table(speed: Speed) -> str:
    """Return documents in to ranked documents out, 100 candidates a query."""
    tiny, workload = "TinyBERT-L2 shape", "documents-100"
    return markdown(
        ("100 candidates, end to end", "p50 ms", "p99 ms"),
        [
            (name, f"{timing['p50_ms']:.1f}", f"{timing['p99_ms']:.1f}")
            for name in speed.contestants(tiny, workload)
            for timing in [speed.timing(tiny, workload, name)]
        ],
    )


def plot(speed: Speed, path: Path) -> None:
    """Draw docs/s against candidates a query, ours and the peer's, as SVG and PNG."""
    from matplotlib.figure import Figure

    counts = (1, 10, 100, 1000)
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    throughput, latency = figure.subplots(1, 2)
    for name, marker in ((OURS, "o"), (PEER, "s")):
        timings = [
            speed.timing("TinyBERT-L2 shape", f"candidates-{count}", name) for count in counts
        ]
        throughput.plot(counts, [t["docs_per_s"] for t in timings], marker=marker, label=name)
        latency.plot(counts, [t["p50_ms"] for t in timings], marker=marker, label=f"{name}, p50")
    throughput.set(xlabel="candidates a query", ylabel="docs/s", xscale="log", ylim=(0, None))
    latency.set(
        xlabel="candidates a query", ylabel="latency of a query (ms)", xscale="log", yscale="log"
    )
    for axes in (throughput, latency):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path.with_suffix(".png"), dpi=150)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def quality_table() -> str:
    """Return what the embedded model makes of two first stages, each with its pool and depth."""
    demo = json.loads((RESULTS / "demo.json").read_text(encoding="utf-8"))["quality"]
    rows: list[Row] = []
    for path in sorted((ROOT / "training" / "results").glob("judged_*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        figures = {
            system["name"]: (system["figures"]["nDCG@10"], system["figures"]["RR@10"])
            for system in result["systems"]
        }
        rows.append(
            (
                f"{result['collection']}: {result['queries']} queries, BM25's best "
                f"{result['depth']}",
                *(f"{ndcg:.3f} / {rr:.3f}" for ndcg, rr in figures.values()),
            )
        )
    rows.append(
        (
            f"the demo: {demo['n_queries']} questions, FAISS' best {demo['depth']}",
            *(
                f"{demo['values'][stage]['nDCG@10']:.3f} / {demo['values'][stage]['RR@10']:.3f}"
                for stage in ("first_stage", "reranked")
            ),
            "",
        )
    )
    header = ("`embedded`, nDCG@10 / RR@10", "first stage", "reranked", "with first-stage scores")
    return markdown(header, rows)


def tables() -> dict[str, Callable[[], str]]:
    speed = Speed(RESULTS / "speed_cpu.json")
    return {
        "quality": quality_table,
        "speed": lambda: speed_table(speed),
        "peers": lambda: peers_table(speed),
        "growth": lambda: growth_table(speed),
        "frameworks": lambda: frameworks_table(speed),
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
    if not check:
        plot(Speed(RESULTS / "speed_cpu.json"), RESULTS / "speed_cpu.svg")
        return 0
    for name in stale:
        sys.stderr.write(f"{name} is not what the results say: run python -m benchmarks.report\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())

"""docs/s and latency against the number of candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.tables.results import OURS, PEER, TINY, Speed

COUNTS = (1, 10, 100, 1000)
# Colours that keep apart in grey and for colour-blind readers; ours warm, the peers cold.
STYLES = {
    "rerank_plugins bfloat16": ("#b2182b", "^", "rerank_plugins, bfloat16"),
    "rerank_plugins int8": ("#e08214", "D", "rerank_plugins, int8"),
    OURS: ("#ef6548", "o", "rerank_plugins, float32"),
    "sentence-transformers bfloat16": ("#08519c", "v", "sentence-transformers, bfloat16"),
    PEER: ("#4292c6", "s", "sentence-transformers, float32"),
    "ONNX Runtime float32": ("#41ab5d", "P", "ONNX Runtime, float32"),
    "sentence-transformers ONNX float32": ("#005a32", "*", "sentence-transformers, ONNX"),
    "transformers float32": ("#737373", "X", "transformers, float32"),
}


def plot(speed: Speed, path: Path) -> None:
    """Draw every contestant's docs/s, and p50 and p99 of ours and the peer, as SVG and PNG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    throughput, latency = figure.subplots(1, 2)
    for name, (colour, marker, label) in STYLES.items():
        if all(speed.has(TINY, f"candidates-{count}", name) for count in COUNTS):
            values = _values(speed, name, "docs_per_s")
            throughput.plot(COUNTS, values, color=colour, marker=marker, label=label)
    for name in (PEER, OURS):
        colour, marker, label = STYLES[name]
        p50, p99 = _values(speed, name, "p50_ms"), _values(speed, name, "p99_ms")
        latency.plot(
            COUNTS, p99, color=colour, marker=marker, ls="--", mfc="w", label=f"{label}, p99"
        )
        latency.plot(COUNTS, p50, color=colour, marker=marker, label=f"{label}, p50")
    throughput.set(ylabel="passages scored a second (docs/s)", yscale="log")
    latency.set(ylabel="latency of one query (ms)", yscale="log")
    for axes in (throughput, latency):
        axes.set(xlabel="candidates a query", xscale="log", xticks=COUNTS)
        axes.set_xticklabels([f"{count:,}" for count in COUNTS])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        # Below the axes, where no line can pass.
        axes.legend(
            frameon=False, fontsize=7.5, ncols=2, loc="upper center", bbox_to_anchor=(0.47, -0.16)
        )
    environment, lengths = speed.raw["environment"], speed.raw["token_lengths"][TINY]
    figure.suptitle(
        f"{TINY}, pairs of {lengths['min']} to {lengths['max']} tokens; {environment['cpu']}, "
        f"{environment['threads']} threads; {environment['date']}",
        fontsize=9,
    )
    throughput.set_title("Throughput: higher is better", fontsize=10)
    latency.set_title("Latency: lower is better", fontsize=10)
    # The ids in an SVG are random otherwise, and the file another one each time.
    with mpl.rc_context({"svg.hashsalt": "speed"}):
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=150)


def _values(speed: Speed, name: str, key: str) -> list[Any]:
    return [speed.timing(TINY, f"candidates-{count}", name)[key] for count in COUNTS]

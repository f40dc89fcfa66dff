"""What matters to somebody who chooses, and every contestant."""

from __future__ import annotations

from benchmarks.onnx_peers import OPTIMUM
from benchmarks.tables.results import MINILM, OURS, PEER, TINY, Row, Speed, markdown


def headline_table(speed: Speed) -> str:
    """Return the README's table: what matters to somebody who chooses."""
    rows: list[Row] = []
    for name, workload, dtype in (
        ("2,000 passages, docs/s", "bulk", "float32"),
        ("the same in bfloat16, docs/s", "bulk", "bfloat16"),
        *(
            (f"{count:,} candidate{'s' * (count > 1)}, ms", f"candidates-{count}", "float32")
            for count in (1, 10, 100, 1000)
        ),
    ):
        key, digits = ("docs_per_s", 0) if workload == "bulk" else ("p50_ms", 1)
        ours, peer = f"rerank_plugins {dtype}", f"sentence-transformers {dtype}"
        contestants = (ours, peer, f"ONNX Runtime {dtype}")
        cells = [
            f"{speed.timing(TINY, workload, contestant)[key]:,.{digits}f}"
            if speed.has(TINY, workload, contestant)
            else ""
            for contestant in contestants
        ]
        rows.append((name, *cells, f"**{speed.ratio(TINY, workload, ours, peer)}**"))
    header = ("", "rerank_plugins", "sentence-transformers", "ONNX Runtime", "times faster")
    environment = speed.raw["environment"]
    versions = environment["versions"]
    machine = (
        f"TinyBERT-L2 shape, {environment['cpu'].replace('(R)', '')}, {environment['threads']} "
        f"threads, text in to scores out, medians of {speed.raw['repeats']} interleaved repeats; "
        f"sentence-transformers {versions['sentence-transformers']} at its best batch size in the "
        "same dtype; times faster than that, with the range. Raw: "
        f"[{speed.path.name}](benchmarks/results/{speed.path.name}), {environment['date']}."
    )
    plot = "![docs/s by candidates](benchmarks/results/speed_cpu.svg)"
    return "\n\n".join((markdown(header, rows), plot, machine))


def speed_table(speed: Speed) -> str:
    """Return bulk scoring by dtype and shape, and latency by candidates."""
    rows: list[Row] = []
    for name, model, workload, contestant in (
        ("2,000 new passages, float32", TINY, "bulk", OURS),
        ("2,000 new passages, bfloat16", TINY, "bulk", "rerank_plugins bfloat16"),
        ("2,000 new passages, int8", TINY, "bulk", "rerank_plugins int8"),
        ("2,000 passages seen before, float32", TINY, "bulk-seen", OURS),
        ("MiniLM-L6 shape, float32", MINILM, "bulk", OURS),
        ("MiniLM-L6 shape, bfloat16", MINILM, "bulk", "rerank_plugins bfloat16"),
        ("MiniLM-L6 shape, int8", MINILM, "bulk", "rerank_plugins int8"),
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
                f"{speed.timing(TINY, f'candidates-{count}', name)[key]:.1f}"
                for name in (OURS, PEER)
                for key in ("p50_ms", "p99_ms")
            ),
            f"**{speed.ratio(TINY, f'candidates-{count}', OURS)}**",
        )
        for count in (1, 10, 100, 1000)
    ]
    header = ("candidates a query", "p50 ms", "p99 ms", "peer p50", "peer p99", "times faster")
    return "\n\n".join((head, markdown(header, latency), speed.caption()))


def onnx_table(speed: Speed) -> str:
    """Return ours against sentence-transformers with its ONNX backend."""
    workloads = {"2,000 new pairs": "bulk"}
    workloads |= {f"candidates: {count:,}": f"candidates-{count}" for count in (1, 10, 100, 1000)}
    rows: list[Row] = []
    for name, workload in workloads.items():
        docs_per_s = [
            f"{speed.timing(TINY, workload, contestant)['docs_per_s']:,.0f}"
            for contestant in (OURS, OPTIMUM, PEER)
        ]
        ratios = [f"**{speed.ratio(TINY, workload, OURS, peer)}**" for peer in (OPTIMUM, PEER)]
        rows.append((name, *docs_per_s, *ratios))
    header = ("docs/s, float32", "ours", "its ONNX", "its PyTorch", "times its ONNX", "times it")
    versions = ", ".join(f"{k} {v}" for k, v in speed.raw["environment"]["versions"].items())
    sizes = speed.raw["best_batch_size"][TINY]
    return (
        f"{markdown(header, rows)}\n\n{versions}; batch sizes {sizes['ONNX float32']} (ONNX) and "
        f"{sizes['float32']}, each the best of its sweep; {speed.raw['repeats']} interleaved "
        f"repeats. Raw: [{speed.path.name}](results/{speed.path.name})."
    )


def peers_table(speed: Speed) -> str:
    """Return every contestant of the bulk workload, with its share of the floor."""
    rows = []
    for name in speed.contestants(TINY, "bulk"):
        share = f"{speed.floor_share(name):.2f}" if name.endswith(("float32", "16")) else ""
        rows.append(
            (
                name,
                f"{speed.timing(TINY, 'bulk', name)['docs_per_s']:,.0f}",
                speed.ratio(TINY, "bulk", name),
                share,
                f"{speed.raw['largest_score_difference'][TINY][name]:.1e}",
            )
        )
    header = ("2,000 new pairs", "docs/s", "times the peer", "of the floor", "largest difference")
    missing = [
        f"Not measured: {name}, because {reason}."
        for name, reason in speed.raw.get("not_measured", {}).items()
    ]
    return "\n\n".join([markdown(header, rows), *missing])

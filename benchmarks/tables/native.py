"""The compiled forward pass against PyTorch's."""

from __future__ import annotations

from pathlib import Path

from benchmarks.tables.results import MINILM, TINY, Row, Speed, markdown

WORKLOADS = {
    "bulk": "bulk",
    "candidates-1": "1 candidate",
    "candidates-10": "10 candidates",
    "candidates-100": "100 candidates",
}


def native_table(path: Path) -> str:
    """Return what `benchmarks.native` measured."""
    if not path.exists():
        return "Not measured yet: `python -m benchmarks.native`."
    speed, rows = Speed(path), list[Row]()
    for model in (TINY, MINILM):
        for workload, name in WORKLOADS.items():
            for dtype in ("float32", "bfloat16", "int8"):
                if speed.has(model, workload, f"compiled {dtype}"):
                    rows.append(_row(speed, model, workload, dtype, name))
    environment = speed.raw["environment"]
    note = (
        f"{environment['cpu']}, {environment['threads']} threads, text in to scores out, medians "
        f"of {speed.raw['repeats']} interleaved repeats; differences are to PyTorch in float32. "
        f"Raw: [{path.name}](results/{path.name}), {environment['date']}."
    )
    header = ("", "", "PyTorch, docs/s", "compiled, docs/s", "times", "largest difference")
    return markdown(header, rows) + "\n\n" + note


def _row(speed: Speed, model: str, workload: str, dtype: str, name: str) -> Row:
    compiled, torch = f"compiled {dtype}", f"PyTorch {dtype}"
    return (
        f"{model}, {name}",
        dtype,
        *(
            f"{speed.timing(model, workload, each)['docs_per_s']:,.0f}"
            for each in (torch, compiled)
        ),
        f"**{speed.ratio(model, workload, compiled, torch)}**",
        f"{speed.raw['differences'][model][compiled]:.1e}",
    )

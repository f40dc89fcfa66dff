"""What the embedded models are worth, beside their speed: tables, and their rows of models.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.environment import RESULTS
from benchmarks.tables.results import Row, markdown
from rerank_plugins.models import EMBEDDED_MODELS

ROOT = Path(__file__).parent.parent.parent
MODELS = ROOT / "rerank_plugins" / "models.json"
FIRST = "first stage"
FUSED = " + first stage"
SYSTEMS = (FIRST, *(name + end for name in EMBEDDED_MODELS for end in ("", FUSED)))
DEMO = "demo.json"

Figures = dict[str, dict[str, float]]


def judged_collections() -> dict[str, tuple[str, Figures]]:
    """Return ``{collection: (description, {system: figures})}`` of the training's results."""
    found: dict[str, tuple[str, Figures]] = {}
    for path in sorted((ROOT / "training" / "results").glob("judged_*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        described = f"{result['queries']} queries, BM25's best {result['depth']}"
        figures = {system["name"]: system["figures"] for system in result["systems"]}
        known = found.get(result["collection"], (described, {}))
        found[result["collection"]] = (known[0], {**known[1], **figures})
    return found


def quality_table() -> str:
    """Return what both models make of each first stage, alone and with its scores."""
    demo = _demo()
    figures = {system["name"]: system["figures"] for system in demo["systems"]}
    collections = judged_collections()
    described = f"{demo['n_queries']} questions, FAISS over {demo['embedding']}'s best"
    collections["Python's documentation"] = (f"{described} {demo['top_k']}", figures)
    rows: list[Row] = [
        (f"{name}: {said}", *(_cell(found.get(system)) for system in SYSTEMS))
        for name, (said, found) in collections.items()
    ]
    header = ("nDCG@10 / RR@10", *(_name(name) for name in SYSTEMS))
    return f"{markdown(header, rows)}\n\n{_remark(demo)}"


def demo_table() -> str:
    """Return the demo's own table, with times and p-values."""
    demo = _demo()
    rows: list[Row] = [
        (
            _name(system["name"]),
            f"{system['figures']['nDCG@10']:.3f}",
            f"{system['figures']['RR@10']:.3f}",
            f"{system['ms']:.0f}",
            "" if system["p_value"] is None else f"{system['p_value']:.4f}",
        )
        for system in demo["systems"]
    ]
    header = (f"FAISS' best {demo['top_k']}", "nDCG@10", "RR@10", "ms a question", "p")
    return f"{markdown(header, rows)}\n\n{_remark(demo)}"


def models_with_quality(text: str) -> str:
    """Return models.json's text with the embedded models' figures as the results have them."""
    demo = _demo()
    rows = json.loads(text)
    for row in rows:
        if row["model"] not in EMBEDDED_MODELS:
            continue
        card = f"rerank_plugins/{row['model'].replace('-', '_')}/README.md"
        row["quality"] = [
            _quality(f"{name}, {said.partition(', ')[2]}", figures[row["model"]], card)
            for name, (said, figures) in judged_collections().items()
            if row["model"] in figures
        ]
        for system in demo["systems"]:
            if system["name"] in (row["model"], row["model"] + FUSED):
                data = f"Python's documentation, {demo['embedding']}'s best {demo['top_k']}"
                if system["name"].endswith(FUSED):
                    data += ", with its scores"
                row["quality"].append(_quality(data, system["figures"], card))
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def _demo() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / DEMO).read_text(encoding="utf-8"))
    return found


def _quality(data: str, figures: dict[str, float], source: str) -> dict[str, Any]:
    value = round(100 * figures["nDCG@10"], 2)
    return {"measure": "nDCG@10", "data": data, "value": value, "source": source}


def _remark(demo: dict[str, Any]) -> str:
    """Say in words which systems stand above the first stage, and which below."""
    first, *others = demo["systems"]
    before = first["figures"]["nDCG@10"]
    said = []
    for system in others:
        value = system["figures"]["nDCG@10"]
        side = "better than" if value > before else "worse than" if value < before else "equal to"
        chance = "" if system["p_value"] < 0.05 else ", so it may be chance"
        said.append(f"{_name(system['name'])} is {side} it (p = {system['p_value']:.2g}{chance})")
    below = [s["name"] for s in others if s["figures"]["nDCG@10"] < before]
    alone = [_name(name) for name in below if not name.endswith(FUSED)]
    useless = [_name(name) for name in below if name.endswith(FUSED)]
    advice = ""
    if alone:
        advice += f" Behind such a first stage, {' and '.join(alone)} should not rank alone."
    if useless:
        advice += f" Nor does it help there to take {' or '.join(useless)}."
    return (
        f"On Python's documentation the first stage is a strong bi-encoder: {'; '.join(said)}."
        f"{advice} p: paired randomisation test of nDCG@10 against the first stage, Holm's "
        f"correction. Raw: `benchmarks/results/{DEMO}`, {demo['environment']['processor']}."
    )


def _name(system: str) -> str:
    if system == FIRST:
        return FIRST
    model, fused, _ = system.partition(FUSED)
    return f"`{model}`{fused}"


def _cell(figures: dict[str, float] | None) -> str:
    if figures is None:
        return "not measured"
    return f"{figures['nDCG@10']:.3f} / {figures['RR@10']:.3f}"

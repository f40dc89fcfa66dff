"""What the embedded model is worth, beside its speed."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.environment import RESULTS
from benchmarks.tables.results import Row, markdown

ROOT = Path(__file__).parent.parent.parent
SYSTEMS = ("first stage", "embedded", "embedded + first stage")


def quality_table() -> str:
    """Return what the embedded model makes of two first stages, each with its pool and depth."""
    demo = json.loads((RESULTS / "demo.json").read_text(encoding="utf-8"))["quality"]
    rows: list[Row] = []
    for path in sorted((ROOT / "training" / "results").glob("judged_*[!6].json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        figures = {
            system["name"]: (system["figures"]["nDCG@10"], system["figures"]["RR@10"])
            for system in result["systems"]
        }
        rows.append(
            (
                f"{result['collection']}: {result['queries']} queries, BM25's best "
                f"{result['depth']}",
                *("{:.3f} / {:.3f}".format(*figures[name]) for name in SYSTEMS),
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

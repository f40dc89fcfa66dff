"""``python -m training.figures``: measure the embedded model, and fill in the tables.

``--collection FOLDER`` (corpus.jsonl, queries.jsonl, qrels.txt, bm25.top100.run) measures the model
on judged queries and writes ``training/results/<folder>.json``. The tables of the model card and
of the README beside this are then made from those files; nothing in them is typed.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerank_plugins import EMBEDDED_MODEL, CrossEncoderScorer
from rerank_plugins.evaluation import evaluate, read_collection

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PACKAGE = HERE.parent / "rerank_plugins"
CARDS = [PACKAGE / folder / "README.md" for folder in ("embedded", "embedded_l6")]
DEPTH = 100
MEASURES = ("nDCG@10", "RR@10")
SMALLER_DTYPES = ("bfloat16", "int8")


def measure(collection: Path, *, model: str) -> dict[str, Any]:
    """Return the evaluation's report on a collection folder, with the collection's name."""
    judged = read_collection(
        corpus=collection / "corpus.jsonl",
        queries=collection / "queries.jsonl",
        qrels=collection / "qrels.txt",
        run=collection / "bm25.top100.run",
        depth=DEPTH,
    )
    with (
        CrossEncoderScorer(model, device="cpu") as scorer,
        tempfile.TemporaryDirectory() as output,
    ):
        report = evaluate([scorer], judged, output=output, measures=MEASURES, interpolate=True)
    result = {"collection": collection.name, **report.as_dict()}
    for dtype in SMALLER_DTYPES:
        with (
            CrossEncoderScorer(model, device="cpu", dtype=dtype) as scorer,
            tempfile.TemporaryDirectory() as output,
        ):
            report = evaluate([scorer], judged, output=output, measures=MEASURES)
        system = report.as_dict()["systems"][-1]
        result["systems"].append({**system, "name": f"{system['name']}, {dtype}"})
    for system in result["systems"]:
        del system["run_path"]
    return result


def judged_table(results: Sequence[dict[str, Any]]) -> str:
    """Return the table of figures, one row a collection and system."""
    rows = [
        "| collection | queries | depth | system | nDCG@10 | RR@10 |",
        "|---|---|---|---|---|---|",
    ]
    for result in sorted(results, key=lambda result: str(result["collection"])):
        for system in result["systems"]:
            name = "BM25 order" if system["name"] == "first stage" else system["name"]
            name = name.replace("first stage", "BM25")
            figures = " | ".join(f"{system['figures'][measure]:.4f}" for measure in MEASURES)
            row = (
                f"| {result['collection']} | {result['queries']} | {result['depth']} "
                f"| {name} | {figures} |"
            )
            # Both models rerank the same first stage, whose row stands once.
            if row not in rows:
                rows.append(row)
    return "\n".join(rows)


def runs_table(runs: Sequence[dict[str, Any]]) -> str:
    """Return the table of training runs, and of the teachers on the same validation lists."""
    rows = [
        "| run | passages | lists seen | minutes | RR@10 people | RR@10 made | RR@10 |",
        "|---|---|---|---|---|---|---|",
    ]
    runs = sorted(runs, key=lambda run: int(run["passages"]))
    for run in runs:
        figures = run["final"]
        values = " | ".join(
            f"{figures[name]:.4f}" if name in figures else ""
            for name in ("RR@10 person", "RR@10 made", "RR@10")
        )
        numbers = f"{run['passages']:,} | {run['lists']:,} | {run['minutes']:.0f}"
        rows.append(f"| {run['what']} | {numbers} | {values} |")
    # The teachers are the same for every run on the same passages.
    teachers = {run["passages"]: run["teachers"]["RR@10"] for run in runs if "teachers" in run}
    for passages, values_of in teachers.items():
        for teacher, value in values_of.items():
            rows.append(f"| teacher: {teacher} | {passages:,} | | | | | {value:.4f} |")
    return "\n".join(rows)


def unseen_table(result: dict[str, Any]) -> str:
    """Return the table of how well models agree with the teachers on text of other packages."""
    names = list(next(iter(result["models"].values())))
    rows = [
        f"| {result['lists']:,} lists, BM25's best {result['depth']} | {' | '.join(names)} |",
        "|---" * (1 + len(names)) + "|",
    ]
    rows += [
        f"| {model} | {' | '.join(f'{figures[name]:.4f}' for name in names)} |"
        for model, figures in result["models"].items()
    ]
    return "\n".join(rows)


def second_run_table(second: dict[str, Any]) -> str:
    """Return the six-layer model beside the run that was not shipped, nDCG@10."""
    first = json.loads((RESULTS / "l6_run.json").read_text("utf-8"))["log"][-1]
    judged = json.loads((RESULTS / "judged_anthropic_docs_l6.json").read_text("utf-8"))
    unseen = (run["minilm"] for run in (first, second["log"][-1]))
    demo = json.loads((HERE.parent / "benchmarks/results/demo.json").read_text("utf-8"))
    rows = [
        "| | first stage | first run, ships | second run |",
        "|---|---|---|---|",
        "| own passage among MiniLM's nearest 30, sources that no run read "
        f"| {first['minilm cosine']:.3f} | "
        + " | ".join(f"{value:.3f}" for value in unseen)
        + " |",
    ]
    for name, stage, shipped in (
        ("anthropic_docs", "BM25's best 100", judged),
        ("demo", "FAISS' best 50", demo),
    ):
        figures = {each["name"]: each["figures"]["nDCG@10"] for each in shipped["systems"]}
        for way, suffix in (("alone", ""), ("with first stage", " + first stage")):
            other = second["judged"][name][way]["nDCG@10"]
            rows.append(
                f"| {name}, {stage}, {way} | {figures['first stage']:.3f} "
                f"| {figures['embedded-l6' + suffix]:.3f} | {other:.3f} |"
            )
    return "\n".join(rows)


def filled(page: str, name: str, table: str) -> str:
    r"""Return ``page`` with what stands between the marks of table ``name`` replaced.

    >>> filled("<!-- table: x -->old<!-- /table -->", "x", "| new |")
    '<!-- table: x -->\n| new |\n<!-- /table -->'
    """
    mark = re.escape(f"<!-- table: {name} -->")
    marked = re.compile(rf"({mark}).*?(<!-- /table -->)", re.DOTALL)
    if not marked.search(page):
        raise ValueError(f"the page has no <!-- table: {name} --> ... <!-- /table -->")
    return marked.sub(lambda found: f"{found.group(1)}\n{table}\n{found.group(2)}", page)


def tables() -> dict[Path, str]:
    """Return each page that carries tables, as it should read."""
    loaded = [json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    judged = judged_table([result for result in loaded if "systems" in result])
    runs = runs_table([result for result in loaded if "final" in result])
    unseen = unseen_table(next(result for result in loaded if "unseen" in result))
    readme = HERE / "README.md"
    page = readme.read_text("utf-8")
    second = second_run_table(json.loads((RESULTS / "l6_second_run.json").read_text("utf-8")))
    made = {"judged": judged, "runs": runs, "unseen": unseen, "second run": second}
    for name, table in made.items():
        page = filled(page, name, table)
    cards = {card: filled(card.read_text("utf-8"), "judged", judged) for card in CARDS}
    return {**cards, readme: page}


def main() -> None:
    """Measure what was asked for, then write the tables."""
    parser = argparse.ArgumentParser(prog="python -m training.figures", description=__doc__)
    parser.add_argument("--collection", nargs="*", type=Path, default=[], metavar="FOLDER")
    parser.add_argument(
        "--model", default=EMBEDDED_MODEL, help="embedded-l6, or a folder (embedded)"
    )
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    for collection in options.collection:
        result = json.dumps(measure(collection, model=options.model), indent=1)
        suffix = "" if options.model == EMBEDDED_MODEL else f"_{Path(options.model).name}"
        (RESULTS / f"judged_{collection.name}{suffix}.json").write_text(result + "\n", "utf-8")
    for path, page in tables().items():
        path.write_text(page, "utf-8")


if __name__ == "__main__":
    main()

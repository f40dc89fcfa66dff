"""A small test collection on disk, and scorers whose scores can be worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rerank_plugins.evaluation import Collection, read_collection
from rerank_plugins.ranking import ScoreUnit

QUERIES = {"q1": "red fox", "q2": "blue whale", "q3": "green tea", "q4": "unjudged"}
DOCUMENTS = {
    "d1": ("Fox", "a red animal"),
    "d2": ("", "the whale is blue"),
    "d3": ("Tea", "green leaves and water"),
    "d4": ("", "nothing of the kind"),
    "d5": ("Whale", "grey"),
}
QRELS = {"q1": {"d1": 1}, "q2": {"d2": 2, "d5": 1}, "q3": {"d3": 1}}
RUN = """\
q1 Q0 d4 1 9.0 bm25
q1 Q0 d1 2 8.0 bm25
q1 Q0 d2 3 7.0 bm25
q2 Q0 d5 1 3.5 bm25
q2 Q0 d4 2 3.0 bm25
q2 Q0 d2 3 2.5 bm25
q4 Q0 d1 1 1.0 bm25
q3 Q0 d1 1 4.0 bm25
q3 Q0 d3 2 3.0 bm25
"""


@dataclass
class Overlap:
    """Scores the number of the query's words that the passage has; counts what it was asked."""

    model: str = "overlap"
    score_unit: ScoreUnit = "logit"
    asked: list[str] = field(default_factory=list)
    stop_before: str | None = None

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        if query == self.stop_before:
            raise KeyboardInterrupt
        self.asked.append(query)
        words = set(query.lower().split())
        return [float(len(words & set(passage.lower().split()))) for passage in passages]

    async def ascore(self, query: str, passages: Sequence[str]) -> list[float]:
        return self.score(query, passages)


def write_files(
    folder: Path,
    *,
    queries: Mapping[str, str] = QUERIES,
    documents: Mapping[str, tuple[str, str]] = DOCUMENTS,
    qrels: Mapping[str, Mapping[str, int]] = QRELS,
    run: str = RUN,
) -> dict[str, Any]:
    """Write the four files and return their paths by the keywords of `read_collection`."""
    paths = {name: folder / name for name in ("corpus", "queries", "qrels", "run")}
    paths["corpus"].write_text(
        "".join(
            json.dumps({"_id": doc_id, "title": title, "text": text}) + "\n"
            for doc_id, (title, text) in documents.items()
        )
    )
    paths["queries"].write_text(
        "".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in queries.items())
    )
    paths["qrels"].write_text(
        "".join(
            f"{query_id} 0 {doc_id} {grade}\n"
            for query_id, judged in qrels.items()
            for doc_id, grade in judged.items()
        )
    )
    paths["run"].write_text(run)
    return paths


def small_collection(folder: Path, depth: int = 100) -> Collection:
    return read_collection(**write_files(folder), depth=depth)


def many_queries(folder: Path, *, n_queries: int, n_candidates: int) -> Collection:
    """Return a collection of any size; the relevant passage alone has the query's word."""
    documents = {f"d{i}": ("", f"passage word{i} about things") for i in range(n_candidates)}
    queries = {f"q{i:05}": f"word{(i * 7) % n_candidates}" for i in range(n_queries)}
    qrels = {name: {f"d{(i * 7) % n_candidates}": 1} for i, name in enumerate(queries)}
    run = "".join(
        f"{name} Q0 d{i} {i + 1} {n_candidates - i} x\n"
        for name in queries
        for i in range(n_candidates)
    )
    return read_collection(
        **write_files(folder, queries=queries, documents=documents, qrels=qrels, run=run)
    )

"""The embedded models rank as well as published: no change of the forward pass loses quality.

The demo's judged questions and the 50 passages that its first stage finds for each, against the
figures in ``benchmarks/results/demo.json``. New weights come with new figures: ``make figures``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ir_measures
import pytest
from ir_measures import RR, nDCG

from rerank_plugins import CrossEncoderScorer, interpolate
from rerank_plugins.cross_encoder.forward.int8 import processor_has
from rerank_plugins.demo.collection import DemoCollection, read_demo
from rerank_plugins.demo.first_stage import first_stage
from rerank_plugins.evaluation import rerank_run
from rerank_plugins.evaluation.trec import Run

PUBLISHED = Path(__file__).parents[1] / "benchmarks" / "results" / "demo.json"
FAST = "bfloat16" if processor_has("avx512_bf16") else "float32"


@dataclass(frozen=True)
class Demo:
    collection: DemoCollection
    candidates: Run
    published: dict[str, Any]

    def figures(self, run: Run) -> dict[str, float]:
        """Return the means over all questions."""
        # By rank, so that equal scores stay in the order that they were given.
        ranks = {
            name: {doc_id: -float(place) for place, doc_id in enumerate(found)}
            for name, found in run.items()
        }
        found = ir_measures.calc_aggregate([nDCG @ 10, RR @ 10], self.collection.qrels, ranks)
        return {str(measure): value for measure, value in found.items()}

    def reranked(self, scorer: CrossEncoderScorer) -> Run:
        return rerank_run(
            scorer,
            self.candidates,
            queries=self.collection.queries,
            passages={passage.id: passage.text for passage in self.collection.passages},
            depth=self.published["top_k"],
        )

    def fused(self, reranked: Run) -> Run:
        """Return the rankings by both stages' scores."""
        together: Run = {}
        for name, found in self.candidates.items():
            scores = [reranked[name][doc_id] for doc_id in found]
            sums = dict(zip(found, interpolate(scores, list(found.values()), 0.5), strict=True))
            together[name] = dict(sorted(sums.items(), key=lambda row: -row[1]))
        return together


@pytest.fixture(scope="module")
def demo() -> Demo:
    collection, store = read_demo(), first_stage()
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    candidates = {
        query_id: {
            str(document.id): score
            for document, score in store.similarity_search_with_score(query, published["top_k"])
        }
        for query_id, query in collection.queries.items()
    }
    return Demo(collection, candidates, published)


def published(demo: Demo, name: str) -> dict[str, float]:
    (figures,) = [row["figures"] for row in demo.published["systems"] if row["name"] == name]
    return dict(figures)


def test_the_first_stage_is_the_published_one(demo: Demo) -> None:
    figures = demo.figures(demo.candidates)
    assert figures == pytest.approx(published(demo, "first stage"), abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("embedded", "float32"),
        ("embedded", "bfloat16"),
        ("embedded", "int8"),
        ("embedded-l6", FAST),
    ],
)
def test_quality_is_the_published_one(demo: Demo, name: str, dtype: str) -> None:
    with CrossEncoderScorer(name, device="cpu", dtype=dtype) as scorer:
        reranked = demo.reranked(scorer)
    assert demo.figures(reranked) == pytest.approx(published(demo, name), abs=0.015)
    together = demo.figures(demo.fused(reranked))
    assert together == pytest.approx(published(demo, f"{name} + first stage"), abs=0.015)
    # A model that ships is worth its time where its scores are added to a strong first stage's.
    before = published(demo, "first stage")["nDCG@10"]
    assert together["nDCG@10"] > before, f"{name}: {together['nDCG@10']:.4f} after {before:.4f}"

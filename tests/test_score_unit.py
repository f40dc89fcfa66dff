"""Scores as probabilities: the frameworks' own thresholds work, and the order is the logit's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from langchain_core.documents import Document
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.schema import NodeWithScore, TextNode

from rerank_plugins import close_shared_scorers, langchain, llama_index, rank, shared_scorer
from rerank_plugins.errors import InvalidArgumentError
from rerank_plugins.ranking import Scores

QUERY = "how do I sort a list?"
TEXTS = [
    "The river Thames flows through London.",
    "list.sort() sorts the items of the list in place.",
]


@pytest.fixture(autouse=True)
def _none_left() -> Iterator[None]:
    yield
    close_shared_scorers()


def test_a_probability_is_the_sigmoid_of_the_logit() -> None:
    logits = shared_scorer("embedded", device="cpu", score_unit="logit").score(QUERY, TEXTS)
    scorer = shared_scorer("embedded", device="cpu", score_unit="probability")
    assert scorer.score_unit == "probability"
    expected = 1 / (1 + np.exp(-np.array(logits)))
    assert scorer.score(QUERY, TEXTS) == pytest.approx(list(expected), abs=1e-12)


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="score_unit must be one of auto, logit"):
        shared_scorer("embedded", score_unit="percent")  # type: ignore[arg-type]


def test_llama_index_s_own_threshold_keeps_what_is_relevant() -> None:
    rerank = llama_index.CrossEncoderRerank(model="embedded", score_unit="probability", top_n=2)
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    kept = rerank.postprocess_nodes(nodes, query_str=QUERY)
    assert all(0.0 <= (node.score or 0.0) <= 1.0 for node in kept)
    cut = ((kept[0].score or 0.0) + (kept[1].score or 0.0)) / 2
    after = SimilarityPostprocessor(similarity_cutoff=cut).postprocess_nodes(kept)
    assert [node.text for node in after] == [TEXTS[1]]


def test_a_threshold_of_zero_keeps_every_document() -> None:
    rerank = langchain.CrossEncoderRerank(
        model="embedded", score_unit="probability", score_threshold=0.0
    )
    assert len(rerank.compress_documents([Document(text) for text in TEXTS], QUERY)) == 2


def test_activation_names_of_sentence_transformers_choose_the_unit() -> None:
    for activation in (torch.nn.Sigmoid(), "torch.nn.modules.activation.Sigmoid"):
        rerank = langchain.CrossEncoderRerank(
            model="embedded", model_kwargs={"activation_fn": activation}
        )
        assert rerank.score_unit == "probability"


class Saturated:
    """Gives scores that have all become 1.0, of logits that differ."""

    model, score_unit = "saturated", "probability"

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        return Scores([1.0] * len(passages), [40.0 + len(passage) for passage in passages])

    async def ascore(self, query: str, passages: Sequence[str]) -> list[float]:
        return self.score(query, passages)


def test_saturated_probabilities_keep_the_order_of_their_logits() -> None:
    assert [one.index for one in rank(Saturated(), "q", ["a", "ccc", "bb"])] == [1, 2, 0]

"""The real models of the table, downloaded: the scores that others have published for them."""

from __future__ import annotations

import pytest
import torch
from model_shapes import CARDS, ModelCard
from oracle import bert_cat_logits, published_scores, transformers_logits

from rerank_plugins import CrossEncoderScorer
from rerank_plugins.cross_encoder.checkpoint.hub import model_folder

QUERY = "How many people live in Berlin?"
HAD = (
    "Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square "
    "kilometers."
)
HAS = HAD.replace("had", "has")
MUSEUMS = "Berlin is well known for its museums."
NEW_YORK = "New York City is famous for the Metropolitan Museum of Art."

# From the model cards: of cross-encoder/* (HAD, MUSEUMS) and of Xenova/ms-marco-*, the same models
# as float32 ONNX files (HAS, NEW_YORK). The other cards show no scores.
PUBLISHED = {
    "cross-encoder/ms-marco-TinyBERT-L2-v2": {HAS: 7.235751, NEW_YORK: -11.562294},
    "cross-encoder/ms-marco-MiniLM-L2-v2": {HAD: 8.510401, MUSEUMS: -4.860082},
    "cross-encoder/ms-marco-MiniLM-L4-v2": {HAS: 9.238697, NEW_YORK: -11.619405},
    "cross-encoder/ms-marco-MiniLM-L6-v2": {HAD: 8.607138, MUSEUMS: -4.320078},
    "cross-encoder/ms-marco-MiniLM-L12-v2": {HAS: 9.450558, NEW_YORK: -11.160483},
    "cross-encoder/ms-marco-TinyBERT-L2": {HAD: 0.82869005, MUSEUMS: 0.00169255},
}

pytestmark = pytest.mark.network


@pytest.mark.parametrize("model", PUBLISHED)
def test_it_gives_the_scores_on_its_card(model: str) -> None:
    passages = list(PUBLISHED[model])
    with CrossEncoderScorer(model, device="cpu") as scorer:
        scores = scorer.score(QUERY, passages)
    assert scores == pytest.approx(list(PUBLISHED[model].values()), abs=1e-4)


@pytest.mark.parametrize("card", CARDS[:-1], ids=lambda card: card.model)
def test_it_gives_the_scores_that_transformers_computes(card: ModelCard) -> None:
    passages = [HAS, NEW_YORK]
    pairs = [(QUERY, passage) for passage in passages]
    folder = model_folder(card.model)
    if card.model_type == "BERT_Cat":
        tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
        logits = bert_cat_logits(folder, tensors, pairs)
    else:
        logits = transformers_logits(folder, pairs)
    answer, noise = published_scores(card, logits)
    assert answer > noise
    with CrossEncoderScorer(card.model, device="cpu") as scorer:
        assert scorer.score(QUERY, passages) == pytest.approx([answer, noise], abs=2e-5)

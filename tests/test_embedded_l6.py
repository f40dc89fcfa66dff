"""The six-layer model that ships with the package, and that its int8 rows are read right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_embedded import ANSWERS, PASSAGES, QUERY
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

import rerank_plugins
from rerank_plugins import CrossEncoderScorer, rank
from rerank_plugins.models import EMBEDDED_MODELS, known_model

FOLDER = Path(rerank_plugins.__file__).parent / "embedded_l6"


@pytest.fixture(scope="module")
def scorer() -> Iterator[CrossEncoderScorer]:
    with CrossEncoderScorer("embedded-l6", device="cpu", dtype="float32") as loaded:
        yield loaded


def test_scores_are_those_of_the_matrices_that_rows_and_scales_make(
    scorer: CrossEncoderScorer,
) -> None:
    stored = load_file(FOLDER / "model.safetensors")
    tensors = {name: tensor for name, tensor in stored.items() if not name.endswith(".row_scale")}
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8:
            scale = stored[f"{name}.row_scale"]
            tensors[name] = torch.einsum("rc,r->rc", tensor.float(), scale)
    model = BertForSequenceClassification(BertConfig.from_pretrained(FOLDER, num_labels=1)).train(
        False
    )
    model.load_state_dict(tensors, strict=False)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    expected = []
    for passage in PASSAGES:
        encoded = tokenizer([QUERY], [passage], truncation="longest_first", max_length=512, return_tensors="pt")  # fmt: skip  # noqa: E501
        with torch.no_grad():
            expected.append(model(**encoded).logits[0, 0].item())
    assert scorer.score(QUERY, PASSAGES) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("query", "answer", "others"), ANSWERS)
def test_an_answer_comes_before_what_only_shares_words(
    scorer: CrossEncoderScorer, query: str, answer: str, others: list[str]
) -> None:
    assert rank(scorer, query, [*others, answer])[0].index == len(others)


def test_the_folder_is_small_and_the_list_of_models_knows_it() -> None:
    assert (FOLDER / "model.safetensors").stat().st_size < 24_000_000
    for name in EMBEDDED_MODELS:
        model = known_model(name)
        assert model is not None
        assert model.max_length == 512
        assert model.quality

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_bert import ALL_SHAPES, calm, random_pairs, random_weights, reference_logits
from transformers import BertConfig, BertForSequenceClassification

from rerank_plugins.cross_encoder.forward.bert import (
    BertWeights,
    Embeddings,
    Head,
    Layer,
    LayerNorm,
    Linear,
)
from rerank_plugins.cross_encoder.forward.cpu import CpuForward
from rerank_plugins.cross_encoder.pairs import PackedPairs
from rerank_plugins.errors import InvalidArgumentError

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = [*ALL_SHAPES, {"outlier": 12.0}]
DTYPES = [torch.float32, torch.bfloat16]
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2}


@pytest.fixture(params=[True, False], ids=["onednn", "plain"])
def _onednn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to a matrix product: oneDNN's, and that of a build or processor without it."""
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", request.param)


@pytest.mark.usefixtures("_onednn")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logits_equal_one_pair_at_a_time(shape: dict[str, Any]) -> None:
    weights = random_weights(**shape)
    pairs = random_pairs([17, 64, 3, 9, 9, 1], n_types=shape.get("n_types", 2))
    logits = CpuForward(weights, dtype=torch.float32)(pairs)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, reference_logits(weights, pairs), atol=2e-5, rtol=0)


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 64), min_size=1, max_size=40), seed=st.integers(0, 99))
def test_any_lengths_equal_one_pair_at_a_time(lengths: list[int], seed: int) -> None:
    weights = random_weights(seed=seed)
    pairs = random_pairs(lengths, seed=seed)
    logits = CpuForward(weights, dtype=torch.float32)(pairs)
    torch.testing.assert_close(logits, reference_logits(weights, pairs), atol=2e-5, rtol=0)


@pytest.mark.parametrize("lengths", [[512], [512, 1], [512, 500, 1, 1], [1]], ids=str)
def test_long_and_short_pairs_equal_one_pair_at_a_time(lengths: list[int]) -> None:
    weights = random_weights(max_positions=512)
    pairs = random_pairs(lengths)
    logits = CpuForward(weights, dtype=torch.float32)(pairs)
    torch.testing.assert_close(logits, reference_logits(weights, pairs), atol=2e-5, rtol=0)


@pytest.mark.usefixtures("_onednn")
@pytest.mark.parametrize("outlier", [0.0, 12.0])
@pytest.mark.parametrize("hidden", [128, 384])
def test_bfloat16_logits_are_close_to_float32(hidden: int, outlier: float) -> None:
    weights = calm(random_weights(hidden=hidden, feed_forward=512, outlier=outlier))
    pairs = random_pairs([60, 33, 12])
    logits = CpuForward(weights, dtype=torch.bfloat16)(pairs)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, reference_logits(weights, pairs), atol=2e-2, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_logits_do_not_depend_on_batch_mates(dtype: torch.dtype) -> None:
    forward = CpuForward(calm(random_weights(hidden=64)), dtype=dtype)
    pairs = random_pairs([64, 64, 63, 40, 39, 20, 7, 7, 2])
    together = forward(pairs)
    alone = torch.cat([forward(pairs.select(np.array([row]))) for row in range(pairs.n_pairs)])
    atol = 1e-5 if dtype == torch.float32 else TOLERANCE[dtype]
    torch.testing.assert_close(together, alone, atol=atol, rtol=0)


def test_neighbours_in_a_batch_never_leak_even_when_huge() -> None:
    """The rows after a pair are its neighbour's, behind a mask; their size must not matter."""
    weights = random_weights()
    weights.embeddings.token[7] = 1e4
    quiet = random_pairs([20, 19], vocabulary=7)
    loud = PackedPairs(quiet.ids.copy(), quiet.type_ids, quiet.lengths)
    loud.ids[20:] = 7
    forward = CpuForward(weights, dtype=torch.float32)
    torch.testing.assert_close(forward(loud)[0], forward(quiet)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_pairs_give_no_rows(dtype: torch.dtype) -> None:
    forward = CpuForward(random_weights(n_labels=2), dtype=dtype)
    assert forward(random_pairs([])).shape == (0, 2)


def test_a_pair_longer_than_the_position_table_is_refused() -> None:
    forward = CpuForward(random_weights(max_positions=8), dtype=torch.float32)
    with pytest.raises(InvalidArgumentError, match=r"9 tokens.*positions for 8.*max_length=8"):
        forward(random_pairs([9, 4]))


def test_an_id_beyond_the_vocabulary_is_refused() -> None:
    forward = CpuForward(random_weights(vocabulary=10), dtype=torch.float32)
    pairs = random_pairs([5, 4], vocabulary=10)
    pairs.ids[2] = 10
    with pytest.raises(InvalidArgumentError, match=r"id 10.*embeddings for 10.*tokenizer"):
        forward(pairs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_callers_in_many_threads_get_their_own_logits(dtype: torch.dtype) -> None:
    weights = calm(random_weights())
    forward = CpuForward(weights, dtype=dtype)
    batches = [random_pairs([seed + 2, 5, 30], seed=seed) for seed in range(24)]
    with ThreadPoolExecutor(8) as pool:
        for pairs, logits in zip(batches, pool.map(forward, batches), strict=True):
            expected = reference_logits(weights, pairs)
            torch.testing.assert_close(logits, expected, atol=TOLERANCE[dtype], rtol=0)


@pytest.mark.parametrize(("n_labels", "layers"), [(1, 2), (2, 3)])
def test_logits_equal_those_of_transformers(n_labels: int, layers: int) -> None:
    torch.manual_seed(0)
    labels: dict[str, Any] = {"num_labels": n_labels}
    config = BertConfig(
        **labels,
        vocab_size=50,
        hidden_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=96,
        initializer_range=0.2,
    )
    model = BertForSequenceClassification(config)
    model.train(False)
    pairs = random_pairs([40, 17, 17, 5])
    expected, start = [], 0
    for length in pairs.lengths.tolist():
        piece = slice(start, start + length)
        start += length
        ids, types = (torch.from_numpy(each[piece])[None] for each in (pairs.ids, pairs.type_ids))
        with torch.inference_mode():
            expected.append(model(input_ids=ids, token_type_ids=types).logits)
    logits = CpuForward(_weights_of(model), dtype=torch.float32)(pairs)
    torch.testing.assert_close(logits, torch.cat(expected), atol=2e-5, rtol=0)


def _weights_of(model: BertForSequenceClassification) -> BertWeights:
    tensors = {name: tensor.detach() for name, tensor in model.named_parameters()}

    def linear(name: str) -> Linear:
        return Linear(weight=tensors[f"{name}.weight"], bias=tensors[f"{name}.bias"])

    def norm(name: str) -> LayerNorm:
        return LayerNorm(
            weight=tensors[f"{name}.weight"],
            bias=tensors[f"{name}.bias"],
            eps=model.config.layer_norm_eps,
        )

    def layer(name: str) -> Layer:
        return Layer(
            query=linear(f"{name}.attention.self.query"),
            key=linear(f"{name}.attention.self.key"),
            value=linear(f"{name}.attention.self.value"),
            attention_output=linear(f"{name}.attention.output.dense"),
            attention_norm=norm(f"{name}.attention.output.LayerNorm"),
            feed_forward=linear(f"{name}.intermediate.dense"),
            feed_forward_output=linear(f"{name}.output.dense"),
            feed_forward_norm=norm(f"{name}.output.LayerNorm"),
        )

    return BertWeights(
        embeddings=Embeddings(
            token=tensors["bert.embeddings.word_embeddings.weight"],
            position=tensors["bert.embeddings.position_embeddings.weight"],
            type=tensors["bert.embeddings.token_type_embeddings.weight"],
            norm=norm("bert.embeddings.LayerNorm"),
            projection=None,
        ),
        layers=tuple(
            layer(f"bert.encoder.layer.{index}") for index in range(model.config.num_hidden_layers)
        ),
        head=Head(
            dense=linear("bert.pooler.dense"), activation="tanh", classifier=linear("classifier")
        ),
        n_heads=model.config.num_attention_heads,
        activation="gelu",
    )

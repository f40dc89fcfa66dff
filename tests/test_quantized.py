from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from random_bert import ALL_SHAPES, random_pairs, random_weights, reference_logits

from rerank_plugins.cross_encoder.forward.bert import BertWeights
from rerank_plugins.cross_encoder.forward.int8 import QuantizedForward, calibration_pairs
from rerank_plugins.errors import DeviceError, InvalidArgumentError

pytestmark = pytest.mark.usefixtures("one_thread")


def _runs_here() -> bool:
    try:
        QuantizedForward(random_weights())
    except DeviceError:
        return False
    return True


needs_vnni = pytest.mark.skipif(not _runs_here(), reason="this processor has no VNNI")


@needs_vnni
@pytest.mark.parametrize("shape", ALL_SHAPES, ids=str)
def test_logits_are_close_to_float32(shape: dict[str, Any]) -> None:
    weights = random_weights(**shape)
    pairs = random_pairs([17, 64, 3, 9, 9, 1], n_types=shape.get("n_types", 2))
    expected = reference_logits(weights, pairs)
    logits = QuantizedForward(weights)(pairs)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, atol=0.25, rtol=0)
    # Far closer than to those of another pair: the order of passages stands.
    assert float((logits - expected).abs().mean()) < 0.2 * float(expected.std())


@needs_vnni
def test_logits_do_not_depend_on_batch_mates() -> None:
    forward = QuantizedForward(random_weights(hidden=64))
    pairs = random_pairs([64, 64, 63, 40, 39, 20, 7, 7, 2])
    together = forward(pairs)
    alone = torch.cat([forward(pairs.select(np.array([row]))) for row in range(pairs.n_pairs)])
    # Attention's bfloat16 may round the other way; one shared scale a batch would do far worse.
    torch.testing.assert_close(together, alone, atol=2e-2, rtol=0)


@needs_vnni
def test_an_activation_that_reaches_further_than_the_scale_is_cut_off_not_wrapped() -> None:
    weights = random_weights(vocabulary=20_000)
    rare = next(id_ for id_ in range(20_000) if id_ not in _sampled_ids(weights))
    weights.embeddings.token[rare] = 0.0
    weights.embeddings.token[rare, 3] = 1e4  # after the norm, one column holds everything
    pairs = random_pairs([40, 20], vocabulary=20_000)
    pairs.ids[1:40] = rare
    expected = reference_logits(weights, pairs)
    torch.testing.assert_close(QuantizedForward(weights)(pairs), expected, atol=0.5, rtol=0)


@needs_vnni
def test_channels_without_weights_stay_finite() -> None:
    weights = random_weights()
    for linear in (weights.layers[0].query, weights.layers[0].feed_forward):
        linear.weight.zero_()
        linear.bias.zero_()
    pairs = random_pairs([12, 5])
    expected = reference_logits(weights, pairs)
    torch.testing.assert_close(QuantizedForward(weights)(pairs), expected, atol=0.25, rtol=0)


@needs_vnni
def test_no_pairs_give_no_rows() -> None:
    assert QuantizedForward(random_weights(n_labels=2))(random_pairs([])).shape == (0, 2)


@needs_vnni
def test_preparing_twice_gives_the_same_logits() -> None:
    weights, pairs = random_weights(), random_pairs([30, 12])
    assert torch.equal(QuantizedForward(weights)(pairs), QuantizedForward(weights)(pairs))


@needs_vnni
def test_a_pair_longer_than_the_position_table_is_refused() -> None:
    forward = QuantizedForward(random_weights(max_positions=8))
    with pytest.raises(InvalidArgumentError, match=r"9 tokens.*positions for 8"):
        forward(random_pairs([9, 4]))


@needs_vnni
def test_callers_in_many_threads_get_their_own_logits() -> None:
    forward = QuantizedForward(random_weights())
    batches = [random_pairs([seed + 2, 5, 30], seed=seed) for seed in range(24)]
    expected = [forward(pairs) for pairs in batches]
    with ThreadPoolExecutor(8) as pool:
        for logits, alone in zip(pool.map(forward, batches), expected, strict=True):
            torch.testing.assert_close(logits, alone, atol=1e-5, rtol=0)


def test_a_processor_without_vnni_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False, raising=False)
    with pytest.raises(DeviceError, match=r"int8.*VNNI.*dtype='float32'"):
        QuantizedForward(random_weights())


def _sampled_ids(weights: BertWeights) -> set[int]:
    return set(calibration_pairs(weights).ids.tolist())

"""Head rules against the arithmetic of the activations they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rerank_plugins.cross_encoder.head_rule import HeadRule, head_rule
from rerank_plugins.errors import UnsupportedModelError

LOGITS = np.array([[-800.0], [-3.0], [0.0], [0.5], [40.0], [800.0]], np.float32)
PAIRS = np.array([[0.2, 1.1], [3.0, -2.0], [0.0, 0.0]], np.float32)


def test_identity_is_the_logit() -> None:
    rule = HeadRule(1, "identity")
    assert rule.scores(rule.logits(LOGITS)).tolist() == LOGITS[:, 0].tolist()
    assert rule.unit == "logit"


def test_sigmoid_is_torchs_in_float64_without_overflow() -> None:
    rule = HeadRule(1, "sigmoid")
    expected = torch.sigmoid(torch.from_numpy(LOGITS[:, 0]).double())
    np.testing.assert_allclose(rule.scores(rule.logits(LOGITS)), expected, rtol=1e-12)
    assert rule.unit == "probability"


def test_two_labels_give_log_odds_of_index_one() -> None:
    rule = head_rule(2, {})
    expected = np.log(np.exp(PAIRS[:, 1]) / np.exp(PAIRS[:, 0]))
    np.testing.assert_allclose(rule.scores(rule.logits(PAIRS)), expected, atol=1e-6)
    assert rule.unit == "logit"


def test_two_labels_under_softmax_give_the_probability_of_index_one() -> None:
    rule = HeadRule(2, "softmax")
    expected = torch.softmax(torch.from_numpy(PAIRS).double(), dim=1)[:, 1]
    np.testing.assert_allclose(rule.scores(rule.logits(PAIRS)), expected, rtol=1e-9)


def test_scores_near_one_stay_apart_where_float32_would_tie() -> None:
    rule = HeadRule(1, "sigmoid")
    low, high = rule.scores(np.array([18.0, 20.0]))
    assert np.float32(low) == np.float32(high)
    assert low < high


def test_nothing_named_means_sigmoid_for_one_label() -> None:
    assert head_rule(1, {}).activation == "sigmoid"


@pytest.mark.parametrize("n_labels", [0, 3])
def test_other_numbers_of_labels_are_refused(n_labels: int) -> None:
    with pytest.raises(UnsupportedModelError, match=f"{n_labels} labels"):
        HeadRule(n_labels, "identity")

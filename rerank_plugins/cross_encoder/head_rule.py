"""From logits to scores: how many labels, which activation, which unit. Decided once per model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rerank_plugins.cross_encoder.pairs import FloatArray
from rerank_plugins.errors import UnsupportedModelError
from rerank_plugins.options import ScoreUnitOption
from rerank_plugins.ranking import ScoreUnit

Activation = Literal["identity", "sigmoid", "softmax"]

# A config names its activation as a dotted class name. It is data: mapped here, never imported.
_NAMES: dict[str, Activation] = {
    "Identity": "identity",
    "Sigmoid": "sigmoid",
    "Softmax": "softmax",
}
_ACTIVATIONS = {
    f"{module}.{name}": activation
    for name, activation in _NAMES.items()
    for module in ("torch.nn", "torch.nn.modules.activation", "torch.nn.modules.linear")
}


@dataclass(frozen=True, slots=True)
class HeadRule:
    """How a model's outputs become logits, and these scores.

    One label: the output is the logit. Two labels, relevant = index 1: the logit is their log-odds
    ``output[1] - output[0]``. A score is the logit, or its sigmoid, which of two labels is the
    softmax.
    """

    n_labels: int
    activation: Activation

    def __post_init__(self) -> None:
        if self.n_labels not in (1, 2):
            raise UnsupportedModelError(
                f"the model has {self.n_labels} labels; a cross-encoder for ranking has 1, or 2 "
                "of which index 1 is 'relevant'. Use a reranking checkpoint"
            )
        if self.n_labels == 1 and self.activation == "softmax":
            raise UnsupportedModelError(
                "the config names Softmax for a single label, which is 1.0 for every passage; "
                "set sentence_transformers.activation_fn in config.json to "
                "'torch.nn.modules.linear.Identity' or 'torch.nn.modules.activation.Sigmoid'"
            )

    @property
    def unit(self) -> ScoreUnit:
        return "logit" if self.activation == "identity" else "probability"

    def in_unit(self, unit: ScoreUnitOption) -> HeadRule:
        """Return the rule whose scores are in ``unit``; ``"auto"`` is this rule."""
        if unit in ("auto", self.unit):
            return self
        return replace(self, activation="identity" if unit == "logit" else "sigmoid")

    def logits(self, outputs: npt.NDArray[np.float32]) -> FloatArray:
        """Return one logit a pair (n_pairs,), higher is more relevant, from (n_pairs, n_labels)."""
        wide = outputs.astype(np.float64)
        return wide[:, 0] if self.n_labels == 1 else wide[:, 1] - wide[:, 0]

    def scores(self, logits: FloatArray) -> FloatArray:
        """Return the score of each logit, both (n_pairs,) and float64, so that few tie at 1.0."""
        if self.activation == "identity":
            return logits
        # Each side only sees the exponent that cannot overflow.
        small = np.exp(-np.abs(logits))
        return np.where(logits >= 0, 1.0, small) / (1.0 + small)


def head_rule(n_labels: int, config: Mapping[str, Any]) -> HeadRule:
    """Return the rule that ``config`` declares, as sentence-transformers reads it.

    With no activation named, one label takes the sigmoid (sentence-transformers' default) and two
    labels give log-odds.
    """
    name = (config.get("sentence_transformers") or {}).get("activation_fn")
    name = name or config.get("sbert_ce_default_activation_function")
    if name is None:
        return HeadRule(n_labels, "sigmoid" if n_labels == 1 else "identity")
    if name not in _ACTIVATIONS:
        raise UnsupportedModelError(
            f"the config names the activation {name!r}, which is not one of "
            f"{', '.join(_NAMES)}. It is never "
            "imported; change sentence_transformers.activation_fn in the model's config.json"
        )
    return HeadRule(n_labels, _ACTIVATIONS[name])

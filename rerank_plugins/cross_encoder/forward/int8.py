"""The forward pass on a CPU with 8-bit matrix products.

Weights have one scale for each output channel. Activations have one scale for each product, fixed
when the weights are prepared, so that a pair's logits do not depend on the rest of its batch.
Hidden states, norms and what is done once a pair stay float32; attention runs in bfloat16 where
the processor multiplies in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rerank_plugins.cross_encoder.forward.bert import ActivationName, BertWeights, Layer, Linear
from rerank_plugins.cross_encoder.forward.cpu import (
    ClsLayer,
    EmbeddingTable,
    EncoderForward,
    FullLayer,
    attend,
)
from rerank_plugins.cross_encoder.forward.cpu_layout import RowLayout
from rerank_plugins.cross_encoder.forward.folding import query_key_value
from rerank_plugins.cross_encoder.forward.onednn import FUSED
from rerank_plugins.cross_encoder.pairs import PackedPairs
from rerank_plugins.errors import DeviceError

# The lengths of the random text whose activations set the scales.
SAMPLE_LENGTHS = (256, 128, 128, 64, 64, 64, 64)
# How much further than those the activations of real text may reach before they are cut off.
HEADROOM = 1.1


class QuantizedForward(EncoderForward):
    """Logits of packed pairs on the CPU in int8; may be called by any thread.

    Raises `DeviceError` on a processor without 8-bit dot products.
    """

    def __init__(self, weights: BertWeights) -> None:
        if not (torch.backends.mkldnn.is_available() and processor_has("vnni")):  # type: ignore[no-untyped-call]
            raise DeviceError(
                "dtype='int8' needs an x86 processor with VNNI and a torch built with oneDNN, and "
                "one of them is missing here: use dtype='float32'"
            )
        weights = weights.to(torch.device("cpu"), torch.float32)
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            layers = [
                _QuantizedLayer(layer, weights, scales)
                for layer, scales in zip(weights.layers, layer_scales(weights), strict=False)
            ]
        last_layer = ClsLayer(weights.layers[-1], weights.n_heads, weights.activation)
        embeddings = EmbeddingTable(weights.embeddings, torch.float32)
        super().__init__(embeddings, layers, last_layer, weights.head)


@dataclass(frozen=True, slots=True)
class LayerScales:
    """What the inputs of a layer's four products are in integers, in the order of the products."""

    hidden: Scale
    context: Scale
    middle: Scale
    inner: Scale


def layer_scales(weights: BertWeights) -> list[LayerScales]:
    """Return the scales of each layer but the last, for float32 ``weights`` on the CPU."""
    sample = calibration_pairs(weights)
    layout = RowLayout.of(sample)
    found = []
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        hidden = EmbeddingTable(weights.embeddings, torch.float32)(sample, layout)
        for layer in weights.layers[:-1]:
            full = FullLayer(layer, weights.n_heads, weights.activation, torch.float32)
            context, middle, inner, output = full.steps(hidden, layout)
            found.append(
                LayerScales(
                    hidden=Scale.signed(hidden),
                    context=Scale.signed(context),
                    middle=Scale.signed(middle),
                    inner=Scale.unsigned(inner),
                )
            )
            hidden = output
    return found


def calibration_pairs(weights: BertWeights) -> PackedPairs:
    """Return the random text whose activations set the scales: a checkpoint brings no text."""
    random = np.random.default_rng(0)
    n_positions = len(weights.embeddings.position)
    lengths = np.minimum(np.array(SAMPLE_LENGTHS, np.int32), n_positions)
    columns = np.concatenate([np.arange(length) / length for length in lengths])
    n_types = 1 if weights.embeddings.type is None else len(weights.embeddings.type)
    return PackedPairs(
        ids=random.integers(0, len(weights.embeddings.token), len(columns), dtype=np.int32),
        type_ids=((columns > 0.2) & (n_types > 1)).astype(np.int32),
        lengths=lengths,
    )


@dataclass(frozen=True, slots=True)
class Scale:
    """A value is ``step * (integer - zero)``; ``dtype`` is int8, or uint8 where zero is not 0."""

    step: float
    zero: int
    dtype: torch.dtype

    @classmethod
    def signed(cls, sample: Tensor) -> Scale:
        """Return a scale for values like ``sample``, float32 of any shape, on both sides of 0."""
        return cls(float(sample.abs().max()) * HEADROOM / 127 or 1.0, 0, torch.int8)

    @classmethod
    def unsigned(cls, sample: Tensor) -> Scale:
        """Return a scale for an activation's output like ``sample``, float32 of any shape.

        Most of that is on one side of zero, which need not be in the middle of the integers.
        """
        low = min(0.0, float(sample.min()))
        step = (max(0.0, float(sample.max())) - low) * HEADROOM / 255 or 1.0
        return cls(step, round(-low / step), torch.uint8)

    def integers(self, values: Tensor) -> Tensor:
        """Return float32 ``values`` as int8 of the same shape, cut off at 127 steps either side."""
        return (values * (1 / self.step)).round_().clamp_(-127, 127).to(torch.int8)


class _QuantizedLayer:
    """One encoder layer over all rows: float32 (n_rows, hidden) in and out."""

    def __init__(self, layer: Layer, weights: BertWeights, scales: LayerScales) -> None:
        # As AMX and some AVX-512 processors have it; emulated, it is slower than float32.
        attention = torch.bfloat16 if processor_has("avx512_bf16") else torch.float32
        self._n_heads = weights.n_heads
        self._query_key_value = _QuantizedLinear(query_key_value(layer), scales.hidden, attention)
        self._attention_output = _QuantizedLinear(
            layer.attention_output, scales.context, torch.float32
        )
        self._attention_norm = layer.attention_norm
        self._feed_forward = _QuantizedLinear(
            layer.feed_forward, scales.middle, scales.inner, weights.activation
        )
        self._feed_forward_output = _QuantizedLinear(
            layer.feed_forward_output, scales.inner, torch.float32
        )
        self._feed_forward_norm = layer.feed_forward_norm

    def __call__(self, hidden: Tensor, layout: RowLayout) -> Tensor:
        context = attend(self._query_key_value(hidden), layout, self._n_heads)
        hidden = self._attention_norm(self._attention_output(context, residual=hidden))
        inner = self._feed_forward(hidden)
        return self._feed_forward_norm(self._feed_forward_output(inner, residual=hidden))


class _QuantizedLinear:
    """A linear layer from values or integers of ``source`` to ``target``.

    ``target`` is a dtype, or a `Scale` for integers.
    """

    def __init__(
        self,
        linear: Linear,
        source: Scale,
        target: Scale | torch.dtype,
        activation: ActivationName | None = None,
    ) -> None:
        steps = linear.weight.abs().amax(dim=1).clamp_min(1e-30) / 127
        integers = (linear.weight / steps[:, None]).round_().to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(integers, None)
        self._steps = steps
        self._zeros = torch.zeros(len(steps), dtype=torch.int32)
        self._bias = linear.bias
        self._source = source
        self._target = target if isinstance(target, Scale) else Scale(1.0, 0, target)
        self._fused = FUSED[activation] if activation else ("none", "")

    def __call__(self, values: Tensor, residual: Tensor | None = None) -> Tensor:
        """(n_rows, in) to (n_rows, out); ``residual``, float32 (n_rows, out), is added."""
        source, target = self._source, self._target
        integers = source.integers(values) if values.is_floating_point() else values
        linear = torch.ops.onednn.qlinear_pointwise
        inputs = (integers, source.step, source.zero, self._weight, self._steps, self._zeros)
        output = (target.step, target.zero, target.dtype)
        name, algorithm = self._fused
        result: Tensor
        if residual is None:
            result = linear(*inputs, self._bias, *output, name, [], algorithm)
        else:
            result = linear.binary(
                *inputs, residual, self._bias, *output, 1.0, 0, "add", 1.0, "none", [], ""
            )
        return result


def processor_has(feature: str) -> bool:
    """Say whether this processor has ``"vnni"``, ``"avx512_bf16"`` or another of torch's names."""
    # Private, so that it may go: a feature that cannot be asked for counts as missing.
    supported = getattr(torch.cpu, f"_is_{feature}_supported", None)
    return supported is not None and bool(supported())

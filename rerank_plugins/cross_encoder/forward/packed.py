"""The forward pass on a GPU: pairs end to end, without padding, in PyTorch's own operations.

Linear layers, norms and embeddings see each token once. Attention is `varlen_attn` where PyTorch
has it for the device and the dtype; everywhere else pairs are padded for attention alone. The last
layer is computed for ``[CLS]`` alone (see `folding`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from rerank_plugins.cross_encoder.forward.bert import ACTIVATIONS
from rerank_plugins.cross_encoder.forward.folding import FoldedLayer, FoldedWeights

# The arguments of varlen_attn that are used here: query, key and value (n_tokens, n_heads, width),
# the offsets of the pairs among queries and among keys (n_pairs + 1,), the longest pair of either.
VarlenAttention: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int, int], Any]


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """Pairs on the device. Made anew for each forward pass, since it remembers its padding.

    ``ids`` and ``type_ids`` (n_tokens,), ``offsets`` (n_pairs + 1,), all int32: the tokens of pair
    i are ``offsets[i]:offsets[i + 1]``. A batch of a CUDA graph is larger than what it holds: the
    last pairs are empty, and tokens from ``offsets[-1]`` on belong to no pair.
    """

    ids: Tensor
    type_ids: Tensor
    offsets: Tensor
    max_length: int

    @property
    def n_pairs(self) -> int:
        return self.offsets.shape[0] - 1

    @property
    def n_tokens(self) -> int:
        return self.ids.shape[0]

    @cached_property
    def cls_index(self) -> Tensor:
        """The index of each pair's ``[CLS]`` (n_pairs,); for an empty pair, of some token."""
        return self.offsets[:-1].clamp(max=self.n_tokens - 1)

    @cached_property
    def ownerless(self) -> Tensor:
        """Which tokens belong to no pair (n_tokens, 1), bool."""
        tokens = torch.arange(self.n_tokens, device=self.offsets.device, dtype=torch.int32)
        return (tokens >= self.offsets[-1])[:, None]

    @cached_property
    def padding(self) -> Padding:
        offsets, device = self.offsets, self.offsets.device
        tokens = torch.arange(self.n_tokens, device=device, dtype=torch.int32)
        pair = torch.searchsorted(offsets, tokens, right=True) - 1
        pair = pair.clamp(max=self.n_pairs - 1)
        position = (tokens - offsets[pair]).clamp(max=self.max_length - 1)
        positions = torch.arange(self.max_length, device=device, dtype=torch.int32)
        lengths = offsets[1:] - offsets[:-1]
        # An empty pair attends to one token of another: finite, and never read.
        visible = positions < lengths.clamp(min=1)[:, None]
        return Padding(
            position=position,
            tokens=(offsets[:-1, None] + positions).clamp(max=self.n_tokens - 1),
            slots=pair * self.max_length + position,
            visible=visible[:, None, None, :],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Padding:
    """Where each token is when every pair is padded to ``max_length``.

    ``position`` (n_tokens,) within its pair; ``tokens`` (n_pairs, max_length), the token in each
    padded slot; ``slots`` (n_tokens,), the padded slot of each token; ``visible``
    (n_pairs, 1, 1, max_length), whether a slot holds a token of the pair.
    """

    position: Tensor
    tokens: Tensor
    slots: Tensor
    visible: Tensor


def varlen_attention(weights: FoldedWeights) -> VarlenAttention | None:
    """Return PyTorch's attention for packed pairs, or None where it does not serve ``weights``.

    It needs PyTorch 2.10, CUDA of compute capability 8.0, a 16-bit dtype, and heads of a multiple
    of 8 up to 256.
    """
    table = weights.embeddings.token
    head_width = weights.last.inputs.weight.shape[1] // weights.n_heads
    if (
        table.device.type != "cuda"
        or torch.version.hip is not None
        or torch.cuda.get_device_capability(table.device) < (8, 0)
        or table.dtype not in (torch.float16, torch.bfloat16)
        or head_width % 8
        or head_width > 256
        or not torch.backends.cuda.is_flash_attention_available()
        or find_spec("torch.nn.attention.varlen") is None
    ):
        return None
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn


class PackedForward:
    """A batch in, float32 logits (n_pairs, n_labels) out, on the batch's device.

    ``varlen`` is `varlen_attention`'s answer; None pads for attention.
    """

    def __init__(self, weights: FoldedWeights, varlen: VarlenAttention | None = None) -> None:
        self._weights = weights
        self._varlen = varlen

    def __call__(self, batch: PackedBatch) -> Tensor:
        weights = self._weights
        hidden = self._embed(batch)
        for layer in weights.layers:
            mixed = self._attention(layer.inputs(hidden), batch)
            hidden = layer.attention_norm(hidden + layer.output(mixed))
            hidden = self._feed_forward(hidden, layer)
        last = weights.last
        cls = hidden.index_select(0, batch.cls_index)
        mixed = self._cls_attention(last.inputs(cls), hidden, batch)
        cls = last.attention_norm(cls + last.output(mixed))
        cls = self._feed_forward(cls, last)
        return weights.head(cls).float()

    def _embed(self, batch: PackedBatch) -> Tensor:
        """Return hidden states (n_tokens, hidden) before the first layer."""
        embeddings = self._weights.embeddings
        hidden = F.embedding(batch.ids, embeddings.token)
        hidden = hidden + F.embedding(batch.padding.position, embeddings.position)
        if embeddings.type is not None:
            hidden = hidden + F.embedding(batch.type_ids, embeddings.type)
        hidden = embeddings.norm(hidden)
        return hidden if embeddings.projection is None else embeddings.projection(hidden)

    def _attention(self, query_key_value: Tensor, batch: PackedBatch) -> Tensor:
        """Attend within each pair: (n_tokens, 3 * hidden) in, (n_tokens, hidden) out."""
        n_heads = self._weights.n_heads
        if self._varlen is not None:
            query, key, value = query_key_value.view(batch.n_tokens, 3, n_heads, -1).unbind(1)
            offsets, longest = batch.offsets, batch.max_length
            mixed: Tensor = self._varlen(query, key, value, offsets, offsets, longest, longest)
            # Tokens of no pair are left as the memory was, perhaps NaN, and a mask multiplies.
            return mixed.flatten(1).masked_fill(batch.ownerless, 0.0)
        padding = batch.padding
        padded = query_key_value[padding.tokens]
        heads = padded.view(*padding.tokens.shape, 3, n_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        padded = F.scaled_dot_product_attention(query, key, value, attn_mask=padding.visible)
        return padded.transpose(1, 2).flatten(2).flatten(0, 1).index_select(0, padding.slots)

    def _cls_attention(self, query: Tensor, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """Return each head's weighted sum of hidden states (n_pairs, n_heads * hidden).

        ``query`` (n_pairs, n_heads * hidden) is scaled already; ``hidden`` is (n_tokens, hidden).
        """
        padding = batch.padding
        states = hidden[padding.tokens].unsqueeze(1)
        # All heads read the same states, so they are positions of one head's query.
        queries = query.view(batch.n_pairs, 1, self._weights.n_heads, -1)
        mixed = F.scaled_dot_product_attention(
            queries, states, states, attn_mask=padding.visible, scale=1.0
        )
        return mixed.flatten(1)

    def _feed_forward(self, hidden: Tensor, layer: FoldedLayer) -> Tensor:
        """Return the second half of a layer, token by token: (n, hidden) in and out."""
        inner = ACTIVATIONS[self._weights.activation](layer.feed_forward(hidden))
        return layer.feed_forward_norm(hidden + layer.feed_forward_output(inner))

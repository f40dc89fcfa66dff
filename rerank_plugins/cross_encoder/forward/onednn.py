"""Linear layers on a CPU, with what follows them in the same pass."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rerank_plugins.cross_encoder.forward.bert import ACTIVATIONS, ActivationName, Linear

# The names of activations in oneDNN: operation, algorithm.
FUSED: dict[ActivationName, tuple[str, str]] = {
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
    "silu": ("swish", ""),
    "tanh": ("tanh", ""),
}


class OneDnnLinear:
    """A linear layer over many rows, with its activation or a residual in the same pass.

    oneDNN takes the weight in its own blocked order, and applies what follows while the result
    is in the cache. Where there is no oneDNN for ``dtype``, plain PyTorch does the same.
    """

    def __init__(
        self, linear: Linear, dtype: torch.dtype, activation: ActivationName | None = None
    ) -> None:
        self._bias = linear.bias.to(dtype)
        self._activation = ACTIVATIONS[activation] if activation else None
        self._prepared = _onednn_takes(dtype)
        if self._prepared:
            # The order is chosen for a number of rows; the one for 1024 does for all.
            self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.to(dtype), 1024)
            self._fused = FUSED[activation] if activation else ("none", "")
        else:
            self._weight = linear.weight.to(dtype)

    def __call__(self, rows: Tensor, residual: Tensor | None = None) -> Tensor:
        """(n_rows, in) to (n_rows, out), all in ``dtype``, as ``residual`` (n_rows, out) is."""
        if self._prepared:
            linear = torch.ops.mkldnn._linear_pointwise
            result: Tensor
            if residual is not None:
                result = linear.binary(rows, residual, self._weight, self._bias, "add")
            else:
                name, algorithm = self._fused
                result = linear(rows, self._weight, self._bias, name, [], algorithm)
            return result
        result = F.linear(rows, self._weight, self._bias)
        if residual is not None:
            result += residual
        return result if self._activation is None else self._activation(result)


def _onednn_takes(dtype: torch.dtype) -> bool:
    """Say whether torch has oneDNN and may use it, and this processor its kernels for ``dtype``."""
    mkldnn = torch.backends.mkldnn
    if not (mkldnn.is_available() and mkldnn.enabled):  # type: ignore[no-untyped-call]
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

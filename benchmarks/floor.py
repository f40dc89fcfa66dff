"""The time below which no scorer can be: what must be multiplied, at the device's best rate."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch

# Large enough that a matrix product runs at the rate that the device can reach.
MATRIX_SIZE = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What decides the arithmetic of a BERT-shaped encoder."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    vocabulary: int

    @classmethod
    def of(cls, folder: str) -> Shape:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        return cls(
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            feed_forward=config["intermediate_size"],
            heads=config["num_attention_heads"],
            vocabulary=config["vocab_size"],
        )

    def flop_per_pair(self, tokens: float) -> float:
        """Count a pair's arithmetic, 2 FLOP a multiply-add.

        The last layer is needed for [CLS] alone, with keys and values for every token;
        everything else for every token.
        """
        hidden = self.hidden
        full = 2 * (4 * hidden**2 + 2 * hidden * self.feed_forward) * tokens
        full += 4 * hidden * tokens**2
        last = 2 * 2 * hidden**2 * tokens + 4 * hidden * tokens
        return (self.layers - 1) * full + last


def matmul_flop_per_s(dtype: torch.dtype, device: str = "cpu") -> float:
    """Return the rate of a large matrix product with all threads; the best of several."""
    size = MATRIX_SIZE[torch.device(device).type]
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(8):
        begin = time.perf_counter()
        product = torch.mm(left, right)
        product[-1, -1].item()  # waits for the device
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best

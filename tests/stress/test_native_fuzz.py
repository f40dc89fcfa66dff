"""The compiled forward pass, as often as one likes: any shape, any lengths, many callers.

The number of tries, not the time, grows with `--stress-seconds`: the gate tries the same ones.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from native_libraries import PATHS, native, skip_without
from random_bert import calm, random_pairs, random_weights, reference_logits

from rerank_plugins import CrossEncoderScorer
from rerank_plugins.cross_encoder.forward.int8 import QuantizedForward

pytestmark = pytest.mark.slow
TOLERANCE = {"avx2": 5e-6, "avx512": 5e-6, "amx": 3e-2, "amx_int8": 5e-2}


@pytest.mark.parametrize("path", PATHS)
def test_any_shape_and_lengths_equal_plain_arithmetic(path: str, stress_seconds: float) -> None:
    skip_without(path)
    for seed in range(round(10 * stress_seconds)):
        shape, lengths = _drawn(seed)
        weights = calm(random_weights(**shape, seed=seed))
        pairs = random_pairs(lengths, n_types=shape["n_types"], seed=seed)
        logits = native(path, weights)(pairs)
        expected = reference_logits(weights, pairs)
        atol = TOLERANCE[path]
        if path == "amx_int8":  # few hidden values leave int8 far off, PyTorch's too
            atol += 2 * float((QuantizedForward(weights)(pairs) - expected).abs().max())
        torch.testing.assert_close(logits, expected, atol=atol, rtol=0, msg=str(shape))


def _drawn(seed: int) -> tuple[dict[str, Any], list[int]]:
    rng = np.random.default_rng(seed)
    n_heads = int(rng.integers(1, 7))
    hidden = n_heads * int(rng.integers(1, 81))
    shape = {
        "n_heads": n_heads,
        "hidden": hidden,
        "embedding": int(rng.integers(8, 130)) if rng.random() < 0.3 else hidden,
        "n_layers": int(rng.integers(1, 4)),
        "feed_forward": int(rng.integers(1, 400)),
        "n_labels": int(rng.integers(1, 40)),
        "n_types": int(rng.integers(0, 4)),
        "max_positions": 300,
        "activation": str(rng.choice(["gelu", "gelu_tanh", "relu", "silu", "tanh"])),
    }
    longest = int(rng.choice([3, 40, 300]))
    return shape, rng.integers(1, longest + 1, int(rng.integers(1, 12))).tolist()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_many_callers_get_the_same_bits_every_time(
    dtype: str, stress_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = {"float32": "avx512", "bfloat16": "amx", "int8": "amx_int8"}[dtype]
    skip_without(path)
    monkeypatch.setenv("RERANK_NATIVE", path)
    passages = [f"{n} words about " + "sorting lists in place " * (n % 40) for n in range(200)]
    with CrossEncoderScorer("embedded", device="cpu", dtype=dtype) as scorer:
        assert scorer.stats.forward == f"compiled ({path})"
        expected = dict(zip(passages, scorer.score("sort a list", passages), strict=True))

        def call(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(round(10 * stress_seconds)):
                some = rng.choice(passages, int(rng.integers(1, 60))).tolist()
                assert scorer.score("sort a list", some) == [expected[text] for text in some]

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(call, range(8)))

"""The way of one warm call through the package, as `benchmarks.path` counts it."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.path import Trace, traced
from rerank_plugins import EMBEDDED_MODEL, shared_scorer


@pytest.fixture(scope="module")
def traces() -> dict[str, Trace]:
    return traced()


ADAPTERS = ("langchain", "llama_index")


@pytest.fixture(scope="module")
def forward() -> str:
    """The room of the forward pass: the compiled one where it is used, else PyTorch's."""
    with shared_scorer(EMBEDDED_MODEL, device="cpu", dtype="float32") as scorer:
        compiled = scorer.stats.forward.startswith("compiled")
    return "cross_encoder/forward/native" if compiled else "cross_encoder/forward"


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_warm_call_stays_in_seven_rooms(
    traces: dict[str, Trace], forward: str, adapter: str
) -> None:
    inside = {"cross_encoder/scheduling", "cross_encoder/tokens", forward}
    assert set(traces[adapter].entered) == {
        *(adapter, "adapters", "ranking", "cross_encoder"),
        *inside,
    }
    assert traces[adapter].n_moves <= 45


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_no_argument_is_checked_twice(traces: dict[str, Trace], adapter: str) -> None:
    caller = next(iter(traces[adapter].threads.values()))
    checks = Counter(called.function for called in caller if "check" in called.function)
    assert max(checks.values()) == 1, checks

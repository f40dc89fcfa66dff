"""The way of one warm call through the package, as `benchmarks.path` counts it."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.path import Trace, traced


@pytest.fixture(scope="module")
def traces() -> dict[str, Trace]:
    return traced()


ADAPTERS = ("langchain", "llama_index")


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_warm_call_stays_in_seven_rooms(traces: dict[str, Trace], adapter: str) -> None:
    front = {adapter, "adapters", "ranking", "cross_encoder"}
    inside = {f"cross_encoder/{name}" for name in ("scheduling", "tokens")}
    rooms = set(traces[adapter].entered)
    assert front | inside <= rooms
    # The compiled forward pass where there is one, else PyTorch's: never both.
    (forward,) = rooms - front - inside
    assert forward in ("cross_encoder/forward", "cross_encoder/forward/native")
    assert traces[adapter].n_moves <= 45


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_no_argument_is_checked_twice(traces: dict[str, Trace], adapter: str) -> None:
    caller = next(iter(traces[adapter].threads.values()))
    checks = Counter(called.function for called in caller if "check" in called.function)
    assert max(checks.values()) == 1, checks

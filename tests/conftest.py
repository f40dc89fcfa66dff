"""Options of the test suite."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# The gate tries the same examples each time, so that a change is judged by what it changes;
# `HYPOTHESIS_PROFILE=default` tries new ones. A machine that is busy with something else is no
# failure: nothing is refused for the time that an example takes.
settings.register_profile(
    "gate", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stress-seconds",
        type=float,
        default=2.0,
        help="how long each stress test goes on (default: 2)",
    )


@pytest.fixture
def stress_seconds(request: pytest.FixtureRequest) -> float:
    return float(request.config.getoption("--stress-seconds"))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Let torch compute on one: two on small products wait for each other longer than they work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

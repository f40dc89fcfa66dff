"""Is a difference more than chance? Paired randomisation test, Holm's correction for several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from rerank_plugins.errors import InvalidArgumentError

__all__ = ["holm", "randomisation_test"]

_RESAMPLES = 20_000
_SEED = 20_240_229
# Signs drawn at a time: what is held in memory, whatever the number of queries.
_CHUNK_VALUES = 4_000_000


def randomisation_test(
    values: Mapping[str, float] | Sequence[float], baseline: Mapping[str, float] | Sequence[float]
) -> float:
    """Return the two-sided p-value of the mean difference of paired values.

    If the systems did not differ, each query's difference could as well have the other sign; the
    p-value is the share of sign assignments whose mean is at least as far from 0 as the one
    observed. All assignments are tried where there are at most 20,000, otherwise as many random
    ones with a fixed seed. Mappings are paired by query.

    >>> randomisation_test([0.9, 0.8, 0.7, 0.6], [0.5, 0.5, 0.5, 0.5])
    0.125
    """
    if isinstance(values, Mapping) and isinstance(baseline, Mapping):
        if values.keys() != baseline.keys():
            raise InvalidArgumentError("both sides need values of the same queries")
        left, right = list(values.values()), [baseline[query_id] for query_id in values]
    else:
        left, right = list(values), list(baseline)  # type: ignore[arg-type]
    if len(left) != len(right):
        raise InvalidArgumentError(f"{len(left)} values cannot be paired with {len(right)}")
    differences = np.asarray(left, dtype=np.float64) - np.asarray(right, dtype=np.float64)
    # A difference of 0 is the same with either sign.
    differences = differences[differences != 0.0]
    count = len(differences)
    # A sum that differs from the observed one by rounding alone counts as equal to it.
    observed = abs(differences.sum()) * (1.0 - 1e-12) - 1e-300
    if 2**count <= _RESAMPLES:
        signs = np.array(list(product((-1.0, 1.0), repeat=count))).reshape(2**count, count)
        return float(np.mean(np.abs(signs @ differences) >= observed))
    generator = np.random.default_rng(_SEED)
    extreme = done = 0
    while done < _RESAMPLES:
        rows = min(_RESAMPLES - done, max(1, _CHUNK_VALUES // count))
        signs = generator.integers(0, 2, size=(rows, count), dtype=np.int8) * 2.0 - 1.0
        extreme += int(np.count_nonzero(np.abs(signs @ differences) >= observed))
        done += rows
    # The observed assignment is one of those possible, so p is never 0.
    return (extreme + 1) / (_RESAMPLES + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order given: each may be held against 0.05.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for step, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, p_values[place] * (len(p_values) - step)))
        adjusted[place] = largest
    return adjusted

"""Is a difference more than chance? Paired randomisation test, Holm's correction for several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rerank_plugins.checks import check_numbers
from rerank_plugins.errors import InvalidArgumentError, require_extra

__all__ = ["holm", "randomisation_test"]

_RESAMPLES = 20_000
_SEED = 20_240_229
_BATCH_VALUES = 4_000_000  # held in memory at a time, whatever the number of queries


def randomisation_test(
    values: Mapping[str, float] | Sequence[float], baseline: Mapping[str, float] | Sequence[float]
) -> float:
    """Return the two-sided p-value of the mean difference of paired values, by scipy.

    If the systems did not differ, each query's difference could as well have the other sign; the
    p-value is the share of sign assignments whose mean is at least as far from 0 as the one
    observed. All assignments are tried where there are at most 20,000, otherwise as many random
    ones with a fixed seed. Mappings are paired by query. Raises `InvalidArgumentError` where the
    sides cannot be paired or hold a value that is not a finite number.

    >>> randomisation_test([0.9, 0.8, 0.7, 0.6], [0.5, 0.5, 0.5, 0.5])
    0.125
    """
    require_extra("scipy", extra="evaluation", purpose="the randomisation test")
    from scipy.stats import permutation_test

    if isinstance(values, Mapping) and isinstance(baseline, Mapping):
        if values.keys() != baseline.keys():
            raise InvalidArgumentError("both sides need values of the same queries")
        baseline = [baseline[query_id] for query_id in values]
        values = list(values.values())
    if isinstance(values, Mapping) or isinstance(baseline, Mapping):
        raise InvalidArgumentError("give two mappings by query, or two sequences")
    left = np.asarray(check_numbers("values", values), dtype=np.float64)
    right = np.asarray(check_numbers("baseline", baseline), dtype=np.float64)
    if len(left) != len(right):
        raise InvalidArgumentError(f"{len(left)} values cannot be paired with {len(right)}")
    # A difference of 0 is the same with either sign.
    differences = (left - right)[left != right]
    if len(differences) < 2:  # one difference is as far from 0 with either sign
        return 1.0
    found = permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=_RESAMPLES,
        batch=max(1, _BATCH_VALUES // len(differences)),
        random_state=np.random.default_rng(_SEED),
    )
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order given: each may be held against 0.05.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p_values = check_numbers("p_values", p_values)
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for step, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - step)))
        adjusted[index] = largest
    return adjusted

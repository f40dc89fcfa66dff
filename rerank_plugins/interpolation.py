"""Two stages' scores in one ranking: the first's are brought to the spread of the second's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from rerank_plugins.checks import check_number, check_numbers
from rerank_plugins.errors import InvalidArgumentError


def interpolate(
    scores: Sequence[float], first_stage_scores: Sequence[float], weight: float
) -> list[float]:
    """Add the first stage's scores, brought to the spread of ``scores``, times ``weight``.

    That is ``score + weight * std(scores) * z(first_stage_score)``, with mean and standard
    deviation taken over these candidates. The order is that of ``z(score) + weight *
    z(first_stage_score)``, and the unit stays that of ``scores``. Where either side does not
    vary, it has nothing to add or to be scaled to, and ``scores`` come back unchanged.

    >>> interpolate([1.0, -1.0], [10.0, 20.0], weight=0.5)
    [0.5, -0.5]
    """
    scores = check_numbers("scores", scores)
    count = len(scores)
    first_stage_scores = check_first_stage_scores(first_stage_scores, count)
    weight = check_number("weight", weight)
    try:
        spread, other_spread = _deviation(scores), _deviation(first_stage_scores)
        if spread == 0.0 or other_spread == 0.0:
            return scores
        mean = math.fsum(first_stage_scores) / count
        factor = weight * spread / other_spread
        added = [
            score + factor * (other - mean)
            for score, other in zip(scores, first_stage_scores, strict=True)
        ]
        if not all(map(math.isfinite, added)):
            raise OverflowError
    except OverflowError:
        raise InvalidArgumentError(
            f"scores up to {max(map(abs, scores)):g} and first_stage_scores up to "
            f"{max(map(abs, first_stage_scores)):g} with a weight of {weight:g} are too large to "
            "add; scale them down"
        ) from None
    return added


def check_first_stage_scores(scores: object, count: int) -> list[float]:
    """Return one finite float for each of ``count`` passages, or raise `InvalidArgumentError`."""
    numbers = check_numbers("first_stage_scores", scores)
    if len(numbers) != count:
        raise InvalidArgumentError(
            f"first_stage_scores has {len(numbers)} values for {count} passages; "
            "give one score for each passage, or None"
        )
    return numbers


def _deviation(values: Sequence[float]) -> float:
    if all(left == right for left, right in pairwise(values)):
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))

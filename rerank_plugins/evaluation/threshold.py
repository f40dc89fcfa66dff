"""From labelled scores to a threshold: how low a score may be and still be kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from rerank_plugins.checks import check_choice, check_number, check_numbers, check_text
from rerank_plugins.errors import InvalidArgumentError, require_extra
from rerank_plugins.ranking import ScoreUnit

__all__ = ["FittedThreshold", "fit_threshold"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedThreshold:
    """A threshold in ``score_unit``, and what it does on the data it was fitted on.

    Passages with ``score >= threshold`` are kept, as in `rerank_plugins.rank`. ``precision`` is
    the share of kept passages that are relevant, ``recall`` the share of relevant ones kept.
    """

    threshold: float
    precision: float
    recall: float
    n: int
    n_relevant: int
    target: str
    score_unit: ScoreUnit


def fit_threshold(
    scores: Sequence[float],
    relevance: Sequence[int | bool],
    *,
    target: str,
    score_unit: ScoreUnit = "logit",
    min_relevance: int = 1,
) -> FittedThreshold:
    """Return the threshold that reaches ``target`` on these judged passages and costs least else.

    ``target`` is ``"precision@0.9"`` (of the thresholds whose precision is at least 0.9, the one
    with the highest recall), ``"recall@0.95"`` (the highest threshold whose recall is at least
    0.95) or ``"f1"`` (the one with the highest F1). ``scores`` are the scorer's, for pairs of any
    queries, and the threshold has their unit: pass the scorer's ``score_unit``. A passage is
    relevant if its ``relevance`` is at least ``min_relevance``. The threshold is always one of the
    scores given. Judge it on other data than it was fitted on; with few relevant passages it says
    little. Raises `InvalidArgumentError` where no threshold reaches the target.

    >>> scores = [4.1, 3.0, 2.2, 0.3, -1.5, -4.0]
    >>> relevance = [1, 1, 0, 1, 0, 0]
    >>> fit_threshold(scores, relevance, target="recall@0.9")
    FittedThreshold(threshold=0.3, precision=0.75, recall=1.0, n=6, n_relevant=3, \
target='recall@0.9', score_unit='logit')

    The adapters and `rerank_plugins.rank` take it as it is::

        fitted = fit_threshold(scores, relevance, target="precision@0.9")
        rank(scorer, query, passages, threshold=fitted.threshold)
    """
    require_extra("sklearn", extra="evaluation", purpose="fitting a threshold")
    from sklearn.metrics import precision_recall_curve

    name, wanted = _parsed(check_text("target", target))
    check_choice("score_unit", score_unit, get_args(ScoreUnit))
    numbers, relevant = _checked(scores, relevance, score_unit, min_relevance)
    precision, recall, thresholds = precision_recall_curve(relevant, numbers)
    # Both curves end with a point that belongs to no threshold.
    points = [
        (float(p), float(r), float(t))
        for p, r, t in zip(precision[:-1], recall[:-1], thresholds, strict=True)
    ]
    if name == "precision":
        reached = [point for point in points if point[0] >= wanted]
        best = max(reached, key=lambda point: (point[1], point[0]), default=None)
    elif name == "recall":
        reached = [point for point in points if point[1] >= wanted]
        best = max(reached, key=lambda point: point[2], default=None)
    else:
        best = max(points, key=lambda point: (_f1(point[0], point[1]), point[2]))
    if best is None:
        highest = max(point[0] if name == "precision" else point[1] for point in points)
        raise InvalidArgumentError(
            f"no threshold reaches {target!r}: the highest {name} on these {len(relevant)} "
            f"passages is {highest:.3f}; ask for less, or use a better model"
        )
    return FittedThreshold(
        threshold=best[2],
        precision=best[0],
        recall=best[1],
        n=len(relevant),
        n_relevant=sum(relevant),
        target=target,
        score_unit=score_unit,
    )


def _parsed(target: str) -> tuple[str, float]:
    match = re.fullmatch(r"(precision|recall)@([0-9.]+)|f1", target)
    try:
        name, wanted = (match[1] or "f1", float(match[2] or 1)) if match else ("", 0.0)
    except ValueError:
        name, wanted = "", 0.0
    if not name or not 0.0 < wanted <= 1.0:
        raise InvalidArgumentError(
            f"target is {target!r}; expected 'precision@P', 'recall@R' with a share above 0 and up "
            "to 1, or 'f1', such as 'precision@0.9'"
        )
    return name, wanted


def _checked(
    scores: Sequence[float],
    relevance: Sequence[int | bool],
    score_unit: ScoreUnit,
    min_relevance: int,
) -> tuple[list[float], list[bool]]:
    scores = check_numbers("scores", scores)
    judged = check_numbers("relevance", relevance, or_booleans=True)
    least = check_number("min_relevance", min_relevance)
    if len(scores) != len(judged):
        raise InvalidArgumentError(
            f"{len(scores)} scores and {len(judged)} judgements; give one for each passage"
        )
    for index, score in enumerate(scores):
        if score_unit == "probability" and not 0.0 <= score <= 1.0:
            raise InvalidArgumentError(
                f"scores[{index}] is {score}, which is no probability; pass score_unit='logit', or "
                "the scorer's own score_unit"
            )
    relevant = [value >= least for value in judged]
    if all(relevant) or not any(relevant):
        raise InvalidArgumentError(
            f"{sum(relevant)} of {len(relevant)} passages are relevant; a threshold needs "
            "both kinds"
        )
    return scores, relevant


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

"""From scores to a ranking: the one place that decides order, ties, cut-offs and NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol, runtime_checkable

from rerank_plugins.errors import (
    InvalidArgumentError,
    InvalidTypeError,
    NonFiniteScoreError,
    ScoringError,
)

ScoreUnit = Literal["logit", "probability"]


@runtime_checkable
class Scorer(Protocol):
    """Anything that scores passages against a query; higher is more relevant."""

    @property
    def model(self) -> str:
        """The name of the model, as shown in events and traces."""

    @property
    def score_unit(self) -> ScoreUnit:
        """What a score is: a raw ``"logit"`` or a ``"probability"`` between 0 and 1."""

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        """Return one float per passage, in the order given."""

    async def ascore(self, query: str, passages: Sequence[str]) -> list[float]:
        """Return what `score` returns, and leave the event loop free meanwhile."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """One row of a ranking: ``passages[index]`` stands at ``rank`` (0 is best) with ``score``."""

    index: int
    score: float
    rank: int


def rank(
    scorer: Scorer,
    query: str,
    passages: Sequence[str],
    *,
    top_n: int | None = None,
    threshold: float | None = None,
    first_stage_scores: Sequence[float] | None = None,
    first_stage_weight: float = 0.5,
) -> list[Ranked]:
    """Order ``passages`` by how well they answer ``query``, best first.

    ``top_n`` keeps that many (None keeps all); ``threshold``, in the scorer's ``score_unit``,
    keeps passages whose own score is at least that. Equal scores keep the order given, and
    identical passages are scored once. With ``first_stage_scores`` (higher is better, one for
    each passage) the ranking is by `interpolate`.

    Raises `InvalidArgumentError` (a ValueError) for an unusable argument, `NonFiniteScoreError`
    for a score that is NaN or infinite, and `ScoringError` for a wrong number of scores.

    >>> class Length:
    ...     model, score_unit = "length", "logit"
    ...     def score(self, query, passages):
    ...         return [float(len(passage)) for passage in passages]
    ...     async def ascore(self, query, passages):
    ...         return self.score(query, passages)
    >>> rank(Length(), "a query", ["bb", "a", "dddd", "cc"], top_n=3)
    [Ranked(index=2, score=4.0, rank=0), Ranked(index=0, score=2.0, rank=1), \
Ranked(index=3, score=2.0, rank=2)]
    """
    request = _Request(query, passages, top_n, threshold, first_stage_scores, first_stage_weight)
    scores = scorer.score(query, request.distinct) if request.distinct else []
    return request.ranking(scores)


async def arank(
    scorer: Scorer,
    query: str,
    passages: Sequence[str],
    *,
    top_n: int | None = None,
    threshold: float | None = None,
    first_stage_scores: Sequence[float] | None = None,
    first_stage_weight: float = 0.5,
) -> list[Ranked]:
    """Return what `rank` returns, awaiting the scorer's ``ascore``."""
    request = _Request(query, passages, top_n, threshold, first_stage_scores, first_stage_weight)
    scores = await scorer.ascore(query, request.distinct) if request.distinct else []
    return request.ranking(scores)


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
    count = len(scores)
    if len(first_stage_scores) != count:
        raise InvalidArgumentError(
            f"first_stage_scores has {len(first_stage_scores)} values for {count} passages; "
            "give one score for each passage, or None"
        )
    for index, value in enumerate(first_stage_scores):
        if not math.isfinite(value):
            raise InvalidArgumentError(
                f"first_stage_scores[{index}] is {value}; every value must be finite"
            )
    spread, other_spread = _deviation(scores), _deviation(first_stage_scores)
    if spread == 0.0 or other_spread == 0.0:
        return [float(score) for score in scores]
    mean = math.fsum(first_stage_scores) / count
    factor = weight * spread / other_spread
    return [
        score + factor * (other - mean)
        for score, other in zip(scores, first_stage_scores, strict=True)
    ]


def check_query(query: object) -> str:
    """Return ``query`` if it is a string, else raise `InvalidTypeError`."""
    if not isinstance(query, str):
        raise InvalidTypeError(f"query must be a string, got {_shown(query)}")
    return query


def check_passages(passages: object) -> list[str]:
    """Return ``passages`` as a list of strings, or raise `InvalidTypeError`."""
    if isinstance(passages, (str, bytes)) or not isinstance(passages, Sequence):
        raise InvalidTypeError(
            f"passages must be a list of strings, got {_shown(passages)}; "
            "put a single passage into a list: [passage]"
        )
    for index, passage in enumerate(passages):
        if not isinstance(passage, str):
            raise InvalidTypeError(
                f"passages[{index}] must be a string, got {_shown(passage)}; "
                "drop it or give its text before reranking"
            )
    return list(passages)


def check_top_n(top_n: object) -> None:
    """Raise `InvalidArgumentError` unless ``top_n`` is None or at least 1."""
    if top_n is None:
        return
    if not isinstance(top_n, int) or isinstance(top_n, bool):
        raise InvalidTypeError(f"top_n must be a whole number or None, got {_shown(top_n)}")
    if top_n <= 0:
        raise InvalidArgumentError(f"top_n must be at least 1, or None to keep all; got {top_n}")


class _Request:
    """The checked arguments of one `rank` call, and the order that its scores make."""

    def __init__(
        self,
        query: str,
        passages: Sequence[str],
        top_n: int | None,
        threshold: float | None,
        first_stage_scores: Sequence[float] | None,
        first_stage_weight: float,
    ) -> None:
        check_query(query)
        check_top_n(top_n)
        _check_number("threshold", threshold)
        _check_number("first_stage_weight", first_stage_weight)
        self.passages = check_passages(passages)
        self.top_n = top_n
        self.threshold = threshold
        self.first_stage_scores = first_stage_scores
        self.first_stage_weight = first_stage_weight
        if first_stage_scores is not None:
            # Before the model runs, not after: a caller's mistake should cost nothing.
            interpolate([0.0] * len(self.passages), first_stage_scores, first_stage_weight)
        self.distinct = list(dict.fromkeys(self.passages))

    def ranking(self, distinct_scores: Sequence[float]) -> list[Ranked]:
        scores = self._checked(distinct_scores)
        kept = [
            index
            for index, score in enumerate(scores)
            if self.threshold is None or score >= self.threshold
        ]
        if self.first_stage_scores is not None:
            scores = interpolate(scores, self.first_stage_scores, self.first_stage_weight)
        order = sorted(kept, key=lambda index: -scores[index])  # sorted() is stable: ties stay
        kept = order[: self.top_n]
        return [Ranked(index, scores[index], place) for place, index in enumerate(kept)]

    def _checked(self, distinct_scores: Sequence[float]) -> list[float]:
        if len(distinct_scores) != len(self.distinct):
            raise ScoringError(
                f"the scorer returned {len(distinct_scores)} scores for {len(self.distinct)} "
                "passages; it must return one for each, in order"
            )
        by_passage = {}
        for passage, score in zip(self.distinct, distinct_scores, strict=True):
            try:
                by_passage[passage] = float(score)
            except (TypeError, ValueError) as error:
                raise ScoringError(
                    f"the scorer returned {_shown(score)} where one number was expected"
                ) from error
        scores = [by_passage[passage] for passage in self.passages]
        check_finite(scores, self.passages)
        return scores


def check_finite(scores: Sequence[float], passages: Sequence[str]) -> None:
    """Raise `NonFiniteScoreError`, naming the first passage whose score is NaN or infinite."""
    for index, score in enumerate(scores):
        if not math.isfinite(score):
            raise NonFiniteScoreError(
                f"the score of passages[{index}] is {score}: {passages[index][:80]!r}; "
                "check the model's weights, or use dtype='float32'"
            )


def _check_number(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise InvalidTypeError(f"{name} must be a number, got {_shown(value)}")
    if not math.isfinite(value):
        raise InvalidArgumentError(f"{name} must be finite, got {value}")


def _deviation(values: Sequence[float]) -> float:
    if all(left == right for left, right in pairwise(values)):
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"

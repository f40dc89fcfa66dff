"""From scores to a ranking: the one place that decides order, ties, cut-offs and NaN."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from rerank_plugins.checks import (
    check_number,
    check_passages,
    check_query,
    check_timeout,
    check_whole_number,
    shown,
)
from rerank_plugins.errors import InvalidArgumentError, NonFiniteScoreError, ScoringError
from rerank_plugins.interpolation import check_first_stage_scores, interpolate

ScoreUnit = Literal["logit", "probability"]


@runtime_checkable
class Scorer(Protocol):
    """Anything that scores passages against a query; higher is more relevant."""

    @property
    def model(self) -> str:
        """The name of the model, as shown in events and traces."""

    @property
    def score_unit(self) -> str:
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
    timeout_s: float | None = None,
) -> list[Ranked]:
    """Order ``passages`` by how well they answer ``query``, best first.

    ``top_n`` keeps that many (None keeps all); ``threshold``, in the scorer's ``score_unit``,
    keeps passages whose own score is at least that. Equal scores keep the order given, and
    identical passages are scored once. With ``first_stage_scores`` (higher is better, one for
    each passage) the ranking is by `interpolate`. ``timeout_s`` is handed to a scorer that takes
    one, as those of this package do; `DeadlineExceededError` says that it passed.

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
    return RankRequest.checked(
        query, passages, top_n, threshold, first_stage_scores, first_stage_weight, timeout_s
    ).ranked_by(scorer)


async def arank(
    scorer: Scorer,
    query: str,
    passages: Sequence[str],
    *,
    top_n: int | None = None,
    threshold: float | None = None,
    first_stage_scores: Sequence[float] | None = None,
    first_stage_weight: float = 0.5,
    timeout_s: float | None = None,
) -> list[Ranked]:
    """Return what `rank` returns, awaiting the scorer's ``ascore``."""
    return await RankRequest.checked(
        query, passages, top_n, threshold, first_stage_scores, first_stage_weight, timeout_s
    ).aranked_by(scorer)


def within(scorer: Scorer, method: str, timeout_s: float | None) -> Callable[..., Any]:
    """Return the scorer's ``score`` or ``ascore``, bound to the time limit if there is one.

    Raises `InvalidArgumentError` for a scorer that takes none.
    """
    score: Callable[..., Any] = getattr(scorer, method)
    if timeout_s is None:
        return score
    parameters = inspect.signature(score).parameters.values()
    if not any(each.name == "timeout_s" or each.kind is each.VAR_KEYWORD for each in parameters):
        raise InvalidArgumentError(
            f"timeout_s={timeout_s} needs a scorer whose {method}() takes timeout_s, and that of "
            f"{type(scorer).__name__} does not; leave timeout_s out, or add the keyword"
        )
    return functools.partial(score, timeout_s=timeout_s)


def check_top_n(top_n: object) -> int | None:
    """Return ``top_n`` as an int from 1 on, or None; else raise `InvalidArgumentError`."""
    if top_n is None:
        return None
    return check_whole_number("top_n", top_n, least=1, or_none="to keep all")


class Scores(list[float]):
    """Scores that know the logits they are made of, which order those that round to one value."""

    def __init__(self, scores: Iterable[float], logits: Sequence[float]) -> None:
        super().__init__(scores)
        self.logits = logits


class CheckedPassages(list[str]):
    """Distinct passages, and the query: a scorer that gets both need not check them again."""

    def __init__(self, query: str, passages: Iterable[str]) -> None:
        super().__init__(passages)
        self.query = query


class RankRequest:
    """The texts of one ranking, checked and merged, and the order that their scores make.

    Numbers are checked by whoever takes them from a caller, once: `rank`, or an adapter's fields.
    First-stage scores are checked here, where the number of passages is known.
    """

    def __init__(
        self,
        query: str,
        passages: Sequence[str],
        *,
        top_n: int | None,
        threshold: float | None,
        first_stage_scores: Sequence[float | None] | None,
        first_stage_weight: float,
        timeout_s: float | None = None,
    ) -> None:
        # Python's own strings and lists, as nearly all are, need no second look.
        self.query = query if type(query) is str else check_query(query)
        plain = type(passages) is list and all(type(passage) is str for passage in passages)
        self.passages = list(passages) if plain else check_passages(passages)
        self._distinct = CheckedPassages(self.query, dict.fromkeys(self.passages))
        self._top_n = top_n
        self._threshold = threshold
        # Before the model runs, not after: a caller's mistake should cost nothing.
        self._first_stage_scores = (
            None
            if first_stage_scores is None
            else check_first_stage_scores(first_stage_scores, len(self.passages))
        )
        self._first_stage_weight = first_stage_weight
        self._timeout_s = timeout_s

    @classmethod
    def checked(
        cls,
        query: str,
        passages: Sequence[str],
        top_n: int | None,
        threshold: float | None,
        first_stage_scores: Sequence[float] | None,
        first_stage_weight: float,
        timeout_s: float | None,
    ) -> RankRequest:
        """Return the request of `rank`'s arguments, the numbers checked too."""
        return cls(
            query,
            passages,
            top_n=check_top_n(top_n),
            threshold=None if threshold is None else check_number("threshold", threshold),
            first_stage_scores=first_stage_scores,
            first_stage_weight=check_number("first_stage_weight", first_stage_weight),
            timeout_s=check_timeout(timeout_s),
        )

    def ranked_by(self, scorer: Scorer) -> list[Ranked]:
        """Return the ranking by the scores of ``scorer``, which is not asked about no passages."""
        score = within(scorer, "score", self._timeout_s)
        scores = score(self.query, self._distinct) if self._distinct else []
        return self._ranking(scores)

    async def aranked_by(self, scorer: Scorer) -> list[Ranked]:
        """Return what `ranked_by` returns, awaiting ``ascore``."""
        ascore = within(scorer, "ascore", self._timeout_s)
        scores = await ascore(self.query, self._distinct) if self._distinct else []
        return self._ranking(scores)

    def _ranking(self, distinct_scores: Sequence[float]) -> list[Ranked]:
        scores = self._checked(distinct_scores)
        logits = scores
        if isinstance(distinct_scores, Scores):
            by_passage = dict(zip(self._distinct, distinct_scores.logits, strict=True))
            logits = [by_passage[passage] for passage in self.passages]
        kept = [
            index
            for index, score in enumerate(scores)
            if self._threshold is None or score >= self._threshold
        ]
        if self._first_stage_scores is not None:
            scores = interpolate(scores, self._first_stage_scores, self._first_stage_weight)
        order = sorted(
            kept, key=lambda index: (-scores[index], -logits[index])
        )  # sorted() is stable: ties stay
        kept = order[: self._top_n]
        return [Ranked(index, scores[index], position) for position, index in enumerate(kept)]

    def _checked(self, distinct_scores: Sequence[float]) -> list[float]:
        if len(distinct_scores) != len(self._distinct):
            raise ScoringError(
                f"the scorer returned {len(distinct_scores)} scores for {len(self._distinct)} "
                "passages; it must return one for each, in order"
            )
        by_passage = {}
        for passage, score in zip(self._distinct, distinct_scores, strict=True):
            try:
                by_passage[passage] = float(score)
            except (TypeError, ValueError) as error:
                raise ScoringError(
                    f"the scorer returned {shown(score)} where one number was expected"
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

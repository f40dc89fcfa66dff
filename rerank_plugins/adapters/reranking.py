"""What both framework adapters decide alike: the cuts, the marks and the failure policy.

An adapter turns a framework's objects into passages, and what is kept back into objects; what lies
between is here, once. Only the adapters import this module.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, cast

from pydantic import Field, ValidationError, field_validator

from rerank_plugins.adapters.scorer_choice import ScorerSettings, first_error
from rerank_plugins.checks import check_timeout
from rerank_plugins.errors import InvalidArgumentError, MissingExtraError, ScoringError
from rerank_plugins.ranking import Ranked, RankRequest, Scorer, check_top_n, within

if TYPE_CHECKING:
    from typing_extensions import Self

RERANK_ERROR = "rerank_error"
RETRIEVAL_SCORE = "retrieval_score"
TRUNCATED = "truncated"
# Of reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009).
RANK_CONSTANT = 60

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Kept:
    """A candidate that is kept: its index among all, its score, what its metadata get.

    ``score`` is None where nothing was scored (the first-stage order after a failure).
    """

    index: int
    score: float | None
    extra_metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reranked:
    """What to return, best first, and the error that ``on_error="first_stage"`` forgave."""

    kept: list[Kept] = field(default_factory=list)
    error: Exception | None = None


class RerankSettings(ScorerSettings):
    """What is kept of a ranking, and what happens when there is none."""

    top_n: int | None = None
    score_threshold: float | None = Field(default=None, strict=True, allow_inf_nan=False)
    on_error: Literal["raise", "first_stage"] = "raise"
    keep_retrieval_score: bool = False
    first_stage_weight: float | None = Field(default=None, strict=True, allow_inf_nan=False)
    mark_truncated: bool = False
    timeout_s: float | None = None

    # How to name the candidates in messages, and where their first-stage scores are.
    candidates_name: ClassVar[str] = "candidates"
    retrieval_score_hint: ClassVar[str] = ""

    @field_validator("top_n", mode="before")
    @classmethod
    def _check_top_n(cls, value: object) -> object:
        return check_top_n(value)

    @field_validator("timeout_s", mode="before")
    @classmethod
    def _check_timeout(cls, value: object) -> object:
        return check_timeout(value)

    @field_validator("score_threshold", "first_stage_weight", mode="before")
    @classmethod
    def _python_number(cls, value: object) -> object:
        return value if isinstance(value, bool) or not isinstance(value, Real) else float(value)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        if self.mark_truncated and self.scorer is not None:
            _marker(self.scorer)
        if self.scorer is not None:
            within(self.scorer, "score", self.timeout_s)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with the fields of ``update``; those of a ranking are checked.

        Pydantic's own takes any value, and a call trusts its fields.
        """
        changes = dict(update or {})
        checked = {name: changes.pop(name) for name in _FIELDS if name in changes}
        copy = super().model_copy(update=changes, deep=deep)
        try:
            for name, value in checked.items():
                setattr(copy, name, value)
        except ValidationError as error:
            raise first_error(error) from None
        return copy

    def _request(
        self,
        query: str,
        passages: Sequence[str],
        retrieval_scores: Sequence[float | None],
        indices: Sequence[int] | None = None,
    ) -> RankRequest:
        """Return what is asked of the scorer, checked before anything runs or is reported.

        ``indices`` says where the passages stand among all candidates, if not all have a text.
        """
        weight = self.first_stage_weight
        if weight is not None and None in retrieval_scores:
            places = range(len(passages)) if indices is None else indices
            if any(score is not None for score in retrieval_scores):
                place = places[retrieval_scores.index(None)]
                raise InvalidArgumentError(
                    f"{self.candidates_name}[{place}] has no first-stage score and others have, "
                    f"which first_stage_weight={weight} cannot use; {self.retrieval_score_hint}"
                )
            # A first stage that tells only its order: by reciprocal ranks, as in rank fusion.
            retrieval_scores = [1.0 / (RANK_CONSTANT + place + 1) for place in places]
        return RankRequest(
            query,
            passages,
            top_n=self.top_n,
            threshold=self.score_threshold,
            first_stage_scores=None if weight is None else retrieval_scores,
            first_stage_weight=0.0 if weight is None else weight,
            timeout_s=self.timeout_s,
        )

    def _reranked(self, request: RankRequest, retrieval_scores: Sequence[float | None]) -> Reranked:
        if not request.passages:
            return Reranked()  # without loading a model
        try:
            scorer = self._scorer_at_hand() or self._load()
            truncated = _marker(scorer) if self.mark_truncated else None
            ranking = request.ranked_by(scorer)
            kept = [request.passages[ranked.index] for ranked in ranking]
            flags = truncated(request.query, kept) if truncated and kept else None
            return self._kept(ranking, retrieval_scores, flags)
        except Exception as error:
            return self._first_stage(error, retrieval_scores)

    async def _areranked(
        self, request: RankRequest, retrieval_scores: Sequence[float | None]
    ) -> Reranked:
        if not request.passages:
            return Reranked()
        try:
            # Loading takes seconds, and finding truncated passages reads whole texts: both would
            # hold up the event loop.
            scorer = self._scorer_at_hand()
            if scorer is None:
                scorer = await in_own_thread(self._load)
            truncated = _marker(scorer) if self.mark_truncated else None
            ranking = await request.aranked_by(scorer)
            kept = [request.passages[ranked.index] for ranked in ranking]
            flags = (
                await in_own_thread(lambda: truncated(request.query, kept))
                if truncated and kept
                else None
            )
            return self._kept(ranking, retrieval_scores, flags)
        except Exception as error:
            return self._first_stage(error, retrieval_scores)

    def _kept(
        self,
        ranking: Sequence[Ranked],
        retrieval_scores: Sequence[float | None],
        truncated: Sequence[bool] | None,
    ) -> Reranked:
        if truncated is not None and len(truncated) != len(ranking):
            raise ScoringError(
                f"the scorer's truncated() returned {len(truncated)} flags for {len(ranking)} "
                "passages; it must return one for each, in order"
            )
        kept = []
        for ranked in ranking:
            extra = self._kept_score(retrieval_scores[ranked.index])
            if truncated is not None:
                extra[TRUNCATED] = bool(truncated[ranked.rank])
            kept.append(Kept(ranked.index, ranked.score, extra))
        return Reranked(kept)

    def _first_stage(self, error: Exception, retrieval_scores: Sequence[float | None]) -> Reranked:
        """Return the first-stage order if ``error`` may be forgiven, else raise it."""
        # A wrong argument or a missing package fails on every call: it is not an outage.
        fault = isinstance(error, (InvalidArgumentError, MissingExtraError))
        if self.on_error == "raise" or fault:
            raise error
        extra = {RERANK_ERROR: f"{type(error).__name__}: {error}"}
        first = enumerate(retrieval_scores[: self.top_n])
        kept = [Kept(index, None, self._kept_score(score) | extra) for index, score in first]
        return Reranked(kept, error)

    def _kept_score(self, retrieval_score: float | None) -> dict[str, Any]:
        wanted = self.keep_retrieval_score and retrieval_score is not None
        return {RETRIEVAL_SCORE: retrieval_score} if wanted else {}


_FIELDS = [name for name in RerankSettings.model_fields if name not in ScorerSettings.model_fields]


async def in_own_thread(function: Callable[[], _T]) -> _T:
    """Await ``function`` in a thread of its own: the loop's pool may be full of our callers."""
    executor = ThreadPoolExecutor(1, thread_name_prefix="rerank_plugins")
    try:
        run = contextvars.copy_context().run
        return await asyncio.get_running_loop().run_in_executor(executor, run, function)
    finally:
        executor.shutdown(wait=False)


def _marker(scorer: Scorer) -> Callable[[str, Sequence[str]], Sequence[bool]]:
    truncated = getattr(scorer, "truncated", None)
    if not callable(truncated):
        raise InvalidArgumentError(
            f"mark_truncated=True needs a scorer with truncated(query, passages), which "
            f"{type(scorer).__name__} has not; leave mark_truncated out, or add the method"
        )
    return cast("Callable[[str, Sequence[str]], Sequence[bool]]", truncated)

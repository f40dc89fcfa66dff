"""LangChain's cross-encoder interface, both ways: our scorer as one, and one as a scorer.

Import `SharedCrossEncoder` from `rerank_plugins.langchain`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from langchain_core.cross_encoders import BaseCrossEncoder

from rerank_plugins.adapters.scorer_choice import ScorerSettings
from rerank_plugins.checks import check_pairs
from rerank_plugins.errors import InvalidArgumentError, ScoringError
from rerank_plugins.ranking import ScoreUnit, check_finite, rank


class SharedCrossEncoder(ScorerSettings, BaseCrossEncoder):
    """The shared scorer as a `BaseCrossEncoder`, in place of HuggingFaceCrossEncoder.

    ``scorer``, ``model`` and the options are those of `CrossEncoderRerank`; ``model_name`` and
    ``model_kwargs`` are accepted too.
    """

    other_names: ClassVar[Mapping[str, str]] = {"model_name": "model"}
    nested_names: ClassVar[tuple[str, ...]] = ("model_kwargs",)

    def __init__(self, **settings: Any) -> None:
        # Type checkers would make one of the fields alone, without model_name and model_kwargs.
        super().__init__(**settings)

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """Return one float per ``(query, passage)`` pair, in the order given."""
        queries, passages = check_pairs(text_pairs)
        if not passages:
            return []
        scorer = self._scorer_at_hand() or self._load()
        score_pairs = getattr(scorer, "score_pairs", None)
        if score_pairs is not None:
            # Identical pairs are scored once, as in rank(), and so tie exactly.
            pairs = list(zip(queries, passages, strict=True))
            distinct = list(dict.fromkeys(pairs))
            answer = [float(score) for score in score_pairs(distinct)]
            if len(answer) != len(distinct):
                raise ScoringError(
                    f"the scorer returned {len(answer)} scores for {len(distinct)} pairs; "
                    "it must return one for each, in order"
                )
            check_finite(answer, [passage for _, passage in distinct])
            by_pair = dict(zip(distinct, answer, strict=True))
            return [by_pair[pair] for pair in pairs]
        indices: dict[str, list[int]] = {}
        for index, query in enumerate(queries):
            indices.setdefault(query, []).append(index)
        scores = [0.0] * len(passages)
        for query, of_query in indices.items():
            for ranked in rank(scorer, query, [passages[index] for index in of_query]):
                scores[of_query[ranked.index]] = ranked.score
        return scores


@dataclass(frozen=True)
class CrossEncoderAsScorer:
    """A LangChain cross-encoder as a scorer.

    That interface names no unit; ``score_unit`` says "logit" because nothing bounds its scores.
    """

    cross_encoder: BaseCrossEncoder
    model: str
    score_unit: ScoreUnit = "logit"

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        return list(self.cross_encoder.score([(query, passage) for passage in passages]))

    async def ascore(self, query: str, passages: Sequence[str]) -> list[float]:
        return await asyncio.to_thread(self.score, query, passages)


def without_cross_encoder(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``settings`` with a `BaseCrossEncoder` given as ``model`` made into a scorer."""
    model = settings.get("model")
    if not isinstance(model, BaseCrossEncoder):
        return dict(settings)
    others = {name: value for name, value in settings.items() if name != "model"}
    if others.get("scorer") is not None:
        raise InvalidArgumentError(
            f"model={type(model).__name__} and scorer={type(others['scorer']).__name__} are both "
            "objects that score; give one of them"
        )
    if isinstance(model, SharedCrossEncoder):
        return {**model.scorer_settings, **others}
    name = getattr(model, "model_name", None) or type(model).__name__
    return {**others, "scorer": CrossEncoderAsScorer(model, str(name))}

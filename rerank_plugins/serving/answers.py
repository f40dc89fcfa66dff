"""Scores in, the body of the answer out, in the shape that the client reads."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rerank_plugins.ranking import Ranked
from rerank_plugins.serving.requests import RerankRequest


@dataclass(frozen=True, slots=True)
class Scored:
    """What one request got: a score a passage, and what it took.

    ``n_tokens`` counts the tokens that the model read, ``truncated`` has the indices of passages
    that lost their end; ``queue_s`` and ``forward_s`` are seconds.
    """

    scores: list[float]
    n_tokens: int = 0
    truncated: tuple[int, ...] = ()
    queue_s: float = 0.0
    forward_s: float = 0.0


def probability(score: float, unit: str) -> float:
    """Return a score as a number between 0 and 1: the sigmoid of a logit, in float64.

    >>> probability(0.0, "logit"), probability(0.25, "probability")
    (0.5, 0.25)
    """
    if unit == "probability":
        return score
    if score >= 0.0:
        return 1.0 / (1.0 + math.exp(-score))
    return math.exp(score) / (1.0 + math.exp(score))


def rerank_answer(
    request: RerankRequest,
    ranking: Sequence[Ranked],
    *,
    request_id: str,
    model: str,
    unit: str,
    api_version: str,
    scored: Scored,
    windows: Mapping[int, tuple[int, int]],
    warnings: Sequence[str],
) -> Any:
    """Return the body of a rerank answer; rows are best first."""
    score_name = "score" if request.tei else "relevance_score"
    rows: list[dict[str, Any]] = [
        {
            "index": row.index,
            score_name: row.score if request.raw_scores else probability(row.score, unit),
        }
        for row in ranking
    ]
    if request.tei:
        if request.return_documents:
            for row in rows:
                row["text"] = request.passages[row["index"]]
        return rows
    answer: dict[str, Any] = {
        "id": request_id,
        "object": "rerank",
        "created": int(time.time()),
        "model": model,
        "results": rows,
        "usage": {"prompt_tokens": scored.n_tokens, "total_tokens": scored.n_tokens},
        "meta": {
            "api_version": {"version": api_version},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": scored.n_tokens, "output_tokens": 0},
            "warnings": list(warnings),
        },
    }
    if api_version == "1":
        answer["data"] = [dict(row) for row in rows]  # Voyage's word for results
    for row in rows:
        row.update(_extras(request, scored, windows, row["index"]))
    return answer


def _extras(
    request: RerankRequest, scored: Scored, windows: Mapping[int, tuple[int, int]], index: int
) -> dict[str, Any]:
    """Return what a row holds only if it was asked for."""
    extras: dict[str, Any] = {}
    if request.return_windows:
        extras["truncated"] = index in scored.truncated
        if index in windows:
            start, end = windows[index]
            extras["window"] = {"start": start, "end": end}
    if request.return_documents:
        extras["document"] = {"text": request.passages[index]}
    return extras


def score_answer(
    scores: Sequence[float], *, request_id: str, model: str, n_tokens: int
) -> dict[str, Any]:
    """Return the body of a score answer; rows are in the order of the texts."""
    return {
        "id": request_id,
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": [
            {"index": index, "object": "score", "score": score}
            for index, score in enumerate(scores)
        ],
        "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
    }

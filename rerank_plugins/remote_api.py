"""The dialects of rerank APIs: what each is sent, and how any of their answers is read.

To ask an API that is not in `APIS`, make a `RerankApi` with a ``body`` of your own and give it as
``api=``; its answer is read if it is a list of rows, or holds one under a known name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from rerank_plugins.errors import ScoringError
from rerank_plugins.ranking import ScoreUnit

Body = Callable[[str, str, Sequence[str]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class RerankApi:
    """How one kind of endpoint is asked.

    ``body(model, query, passages)`` returns the JSON body, ``path`` comes after the base address,
    ``batch_size`` is how many passages a request may hold, and ``takes_raw_scores`` says whether
    ``raw_scores`` is understood.
    """

    body: Body
    path: str = "/v1/rerank"
    batch_size: int = 1_000
    takes_raw_scores: bool = False


def _cohere(model: str, query: str, passages: Sequence[str]) -> dict[str, Any]:
    # Nothing else: Cohere refuses fields that it does not know, vLLM a null, and a server that is
    # not told top_n may return fewer.
    return {"model": model, "query": query, "documents": list(passages), "top_n": len(passages)}


def _tei(model: str, query: str, passages: Sequence[str]) -> dict[str, Any]:
    return {"query": query, "texts": list(passages), "truncate": True}


def _voyage(model: str, query: str, passages: Sequence[str]) -> dict[str, Any]:
    return {"model": model, "query": query, "documents": list(passages), "top_k": len(passages)}


APIS: dict[str, RerankApi] = {
    "rerank_plugins": RerankApi(_cohere, takes_raw_scores=True),
    "cohere": RerankApi(_cohere),
    "tei": RerankApi(_tei, path="/rerank", batch_size=32, takes_raw_scores=True),
    "voyage": RerankApi(_voyage),
}


def endpoint_url(base_url: str, api: RerankApi) -> str:
    """Return the address to post to.

    >>> endpoint_url("http://host:8000", APIS["cohere"])
    'http://host:8000/v1/rerank'
    >>> endpoint_url("https://host/api/rerank", APIS["tei"])
    'https://host/api/rerank'
    """
    base = base_url.rstrip("/")
    last = urlsplit(base).path.rsplit("/", 1)[-1]
    if last in ("rerank", "reranking", "ranking"):
        return base
    if last in ("v1", "v2") and api.path.startswith("/v1/"):
        return base + api.path.removeprefix("/v1")
    return base + api.path


@dataclass(frozen=True, slots=True)
class Found:
    """Whose API a server has, and the unit of its scores, where it says one."""

    api: RerankApi
    unit: ScoreUnit | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """What to ask a server, to find out whose API it has."""

    urls: tuple[str, ...]
    model: str

    def read(self, answers: Sequence[tuple[int, bytes]]) -> Found | None:
        """Return what the answers (status, body) to ``urls`` tell; None: ask again, it loads."""
        models, info = (_json_object(status, body) for status, body in answers)
        rows = models.get("data")
        rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        for row in rows:
            ours = row.get("owned_by") == "rerank_plugins"
            if ours and (row.get("id") == self.model or len(rows) == 1):
                unit = row.get("score_unit")
                if unit not in ("logit", "probability"):
                    return None
                return Found(_sized(APIS["rerank_plugins"], row.get("max_documents")), unit)
        kind = info.get("model_type")
        if isinstance(kind, dict) and "reranker" in kind:
            return Found(_sized(APIS["tei"], info.get("max_client_batch_size")))
        return Found(APIS["cohere"])


def _sized(api: RerankApi, size: object) -> RerankApi:
    """Return the API with the number of passages that a server says it takes."""
    return replace(api, batch_size=size) if isinstance(size, int) and size > 0 else api


def probe(base_url: str, model: str) -> Probe:
    """Return what to ask the server at ``base_url``; nothing, where the path is given whole."""
    base = base_url.rstrip("/")
    for version in ("/v1", "/v2"):
        base = base.removesuffix(version)
    return Probe((f"{base}/v1/models", f"{base}/info"), model)


def scores_of(content: bytes, n_passages: int, unit: ScoreUnit) -> list[float]:
    """Return one score a passage, in order, from any of the known answers.

    Raises `ScoringError` naming the index, where a score is missing, comes twice, is no finite
    number, or is no probability although ``unit`` says so.
    """
    scores: list[float | None] = [None] * n_passages
    for index, score in _rows(content):
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < n_passages:
            raise ScoringError(f"the server returned index {index!r} for {n_passages} passages")
        if scores[index] is not None:
            raise ScoringError(f"the server returned two scores for passages[{index}]")
        if (
            isinstance(score, bool)
            or not isinstance(score, (int, float))
            or not math.isfinite(score)
        ):
            raise ScoringError(f"the server returned the score {score!r} for passages[{index}]")
        if unit == "probability" and not 0.0 <= score <= 1.0:
            raise ScoringError(
                f"the server returned {score} for passages[{index}], which is no probability; "
                "if its scores are logits, give score_unit='logit'"
            )
        scores[index] = float(score)
    if None in scores:
        raise ScoringError(
            f"the server returned no score for passages[{scores.index(None)}]; "
            f"it answered for {sum(score is not None for score in scores)} of {n_passages}"
        )
    return [score for score in scores if score is not None]


def _rows(content: bytes) -> list[tuple[Any, Any]]:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ScoringError(f"the server's answer is no JSON: {content[:80]!r}") from error
    if isinstance(answer, dict):
        if isinstance(answer.get("scores"), list):  # DeepInfra: in the order given
            return list(enumerate(answer["scores"]))
        names = ("results", "data", "rankings")
        answer = next((answer[name] for name in names if isinstance(answer.get(name), list)), None)
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        raise ScoringError(
            "the server's answer holds no list of rows (results, data, rankings or scores); "
            "check base_url and api="
        )
    return [(row.get("index"), _score(row)) for row in answer]


def _score(row: dict[str, Any]) -> Any:
    return next((row[name] for name in ("relevance_score", "score", "logit") if name in row), None)


def _json_object(status: int, body: bytes) -> dict[str, Any]:
    if status != 200:
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}  # a page of another server
    return found if isinstance(found, dict) else {}

"""One request scored: with its time limit, and given up when its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from rerank_plugins.adapters.reranking import in_own_thread
from rerank_plugins.errors import DeadlineExceededError, InvalidArgumentError
from rerank_plugins.ranking import Ranked, Scorer, arank
from rerank_plugins.serving.answers import Scored
from rerank_plugins.serving.faults import RequestFault, invalid
from rerank_plugins.serving.requests import RerankRequest, ScoreRequest

if TYPE_CHECKING:
    from starlette.requests import Request

_T = TypeVar("_T")


class ClientGone(Exception):
    """The client closed its connection before its answer was there."""


class Call:
    """The scorer of one request: it passes on what it is asked, and adds up what that took."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.model = scorer.model
        self.score_unit = scorer.score_unit
        self.n_tokens = 0
        self.queue_s = 0.0
        self.forward_s = 0.0
        self.truncated: set[str] = set()

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        raise NotImplementedError("a server never blocks its event loop")

    async def ascore(self, query: str, passages: Sequence[str]) -> list[float]:
        details = getattr(self._scorer, "ascore_details", None)
        if details is None:
            return await self._scorer.ascore(query, passages)
        found = await details(query, passages)
        self.n_tokens += found.n_tokens
        self.queue_s = max(self.queue_s, found.queue_s)
        self.forward_s = max(self.forward_s, found.work_s)
        self.truncated.update(passages[index] for index in found.truncated)
        return list(found.scores)

    def scored(self, scores: list[float], passages: Sequence[str]) -> Scored:
        return Scored(
            scores,
            self.n_tokens,
            tuple(i for i, passage in enumerate(passages) if passage in self.truncated),
            self.queue_s,
            self.forward_s,
        )


@dataclass(frozen=True, slots=True)
class Reranked:
    """The ranking of one request, best first, and what it took.

    ``windows`` has by index the characters that a score comes from, where they were asked for;
    ``warnings`` are for the client to read.
    """

    ranking: list[Ranked]
    scored: Scored
    windows: dict[int, tuple[int, int]]
    warnings: list[str]


async def rerank(scorer: Scorer, request: RerankRequest) -> Reranked:
    """Do what a rerank request asks for; raises `RequestFault` for a document it must not cut."""
    passages, warnings = await _read_passages(scorer, request)
    if not request.may_truncate:
        await _refuse_truncation(scorer, request, passages)
    call = Call(scorer)
    ranking = await arank(call, request.query, passages, top_n=request.top_n)
    # What max_tokens_per_doc cut off counts as well as what the model has no room for.
    cut = {read for read, given in zip(passages, request.passages, strict=True) if read != given}
    call.truncated |= cut
    scored = call.scored([row.score for row in ranking], passages)
    if scored.truncated:
        shown = ", ".join(map(str, scored.truncated[:20]))
        more = "" if len(scored.truncated) <= 20 else f" and {len(scored.truncated) - 20} more"
        warnings.append(f"documents cut: {shown}{more}")
    windows = {}
    if request.return_windows:
        windows = await _windows(scorer, request, passages, ranking, call.truncated)
    return Reranked(ranking, scored, windows, warnings)


async def _read_passages(scorer: Scorer, request: RerankRequest) -> tuple[list[str], list[str]]:
    """Return the passages as far as ``max_tokens_per_doc`` lets them be read, and warnings."""
    limit = request.max_tokens_per_doc
    if limit is None:
        return request.passages, []
    beginnings = getattr(scorer, "beginnings", None)
    if beginnings is None:
        return request.passages, [f"max_tokens_per_doc={limit} was not applied by this model"]
    return await in_own_thread(lambda: beginnings(request.passages, limit)), []


async def _refuse_truncation(
    scorer: Scorer, request: RerankRequest, passages: Sequence[str]
) -> None:
    truncated = getattr(scorer, "truncated", None)
    if truncated is None:
        return
    flags = await in_own_thread(lambda: truncated(request.query, passages))
    if any(flags):
        name = "texts" if request.tei else "documents"
        raise invalid(
            f"{name}[{list(flags).index(True)}]",
            f"is longer than the model's {getattr(scorer, 'max_length', '')} tokens; "
            "shorten it, or send truncate: true",
        )


async def _windows(
    scorer: Scorer,
    request: RerankRequest,
    passages: Sequence[str],
    ranking: Sequence[Ranked],
    cut: set[str],
) -> dict[int, tuple[int, int]]:
    """Return by index the characters that each kept passage's score comes from."""
    best_windows = getattr(scorer, "best_windows", None)
    if best_windows is None:
        return {}
    windows = {row.index: (0, len(passages[row.index])) for row in ranking}
    kept = list(windows)
    if getattr(getattr(scorer, "options", None), "long_documents", "") == "truncate":
        kept = [index for index in kept if passages[index] in cut]
    if not kept:
        return windows
    some = [passages[index] for index in kept]
    try:
        found = await in_own_thread(lambda: best_windows(request.query, some))
    except InvalidArgumentError:  # a chat template does not say what it left of a long passage
        return {}
    return windows | {index: (w.start, w.end) for index, w in zip(kept, found, strict=True)}


async def score(scorer: Scorer, request: ScoreRequest) -> Scored:
    """Return a score for each pair, in order; pairs of one query are scored together."""
    call = Call(scorer)
    by_query: dict[str, list[int]] = {}
    for index, query in enumerate(request.queries):
        by_query.setdefault(query, []).append(index)
    parts = await asyncio.gather(
        *(
            call.ascore(query, [request.passages[index] for index in indices])
            for query, indices in by_query.items()
        )
    )
    scores = [0.0] * len(request.passages)
    for indices, part in zip(by_query.values(), parts, strict=True):
        for index, value in zip(indices, part, strict=True):
            scores[index] = value
    return call.scored(scores, request.passages)


async def unless_gone(
    work: Awaitable[_T], request: Request, given_up: anyio.Event, *, timeout_s: float
) -> _T:
    """Return the result of ``work``, or cancel it: when the client leaves, or time is up.

    Raises `ClientGone`, `DeadlineExceededError`, and a 503 `RequestFault` when the server ends
    first. The body of the request was read before.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    ending = asyncio.ensure_future(given_up.wait())
    try:
        done, _ = await asyncio.wait(
            {task, gone, ending}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        if task in done:
            return task.result()
        if gone in done:
            gone.result()
            raise ClientGone
        if ending in done:
            raise RequestFault(503, "the server is ending", "unavailable", retry_after_s=5)
        raise DeadlineExceededError(f"not scored within {timeout_s} s")
    finally:
        for each in (task, gone, ending):
            each.cancel()


async def _disconnected(request: Request) -> None:
    message: Any = {}
    while message.get("type") != "http.disconnect":
        message = await request.receive()

"""A rerank or score request in, its answer or its fault out."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import anyio
from pydantic_core import to_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from rerank_plugins.errors import RerankError
from rerank_plugins.ranking import Scorer
from rerank_plugins.serving.answers import Scored, probability, rerank_answer, score_answer
from rerank_plugins.serving.edge import notes
from rerank_plugins.serving.faults import RequestFault, of_error
from rerank_plugins.serving.metrics import Metrics
from rerank_plugins.serving.options import ServerOptions
from rerank_plugins.serving.requests import asks_for_tei, rerank_request, score_request
from rerank_plugins.serving.scoring import ClientGone, rerank, score, unless_gone
from rerank_plugins.serving.served_models import ServedModels

logger = logging.getLogger("rerank_plugins.serving")

CLIENT_GONE = 499  # nginx's number for a client that left; only metrics and log ever show it

_T = TypeVar("_T")


class Routes:
    """The routes that score, and what bounds them all together."""

    def __init__(self, served: ServedModels, options: ServerOptions, metrics: Metrics) -> None:
        self._served = served
        self._options = options
        self._metrics = metrics
        self._held_bytes = 0  # of all bodies whose requests are under way
        self.draining = False
        self.given_up = anyio.Event()  # set when the time for the last requests is over

    @property
    def load_failed(self) -> bool:
        """Whether a model could not be loaded, so that this server will never be ready."""
        return any(model.failure is not None for model in self._served.all)

    async def rerank(self, request: Request) -> Response:
        return await self._answer(request, self._rerank)

    async def score(self, request: Request) -> Response:
        return await self._answer(request, self._score)

    async def _rerank(self, request: Request, body: bytes) -> Response:
        asked = rerank_request(body, max_documents=self._options.max_documents)
        served = self._served.named(asked.model)
        scorer = served.loaded()
        found = await self._work(request, rerank(scorer, asked))
        self._count(found.scored, len(asked.passages))
        answer = rerank_answer(
            asked,
            found.ranking,
            request_id=notes(request.scope).request_id,
            model=asked.model or served.name,
            unit=scorer.score_unit,
            api_version="2" if request.url.path.endswith("/v2/rerank") else "1",
            scored=found.scored,
            windows=found.windows,
            warnings=found.warnings,
        )
        headers = _headers(found.scored, scorer, raw=asked.raw_scores)
        return json_response(answer, headers=headers)

    async def _score(self, request: Request, body: bytes) -> Response:
        asked = score_request(body, max_documents=self._options.max_documents)
        served = self._served.named(asked.model)
        scorer = served.loaded()
        scored = await self._work(request, score(scorer, asked))
        self._count(scored, len(asked.passages))
        unit = scorer.score_unit
        answer = score_answer(
            [s if asked.raw_scores else probability(s, unit) for s in scored.scores],
            request_id=notes(request.scope).request_id,
            model=asked.model or served.name,
            n_tokens=scored.n_tokens,
        )
        return json_response(answer, headers=_headers(scored, scorer, raw=asked.raw_scores))

    async def _answer(
        self, request: Request, handle: Callable[[Request, bytes], Awaitable[Response]]
    ) -> Response:
        body = b""
        try:
            body = await self._body(request)
            return await handle(request, body)
        except (ClientGone, ClientDisconnect):
            self._metrics.disconnects.inc()
            return Response(status_code=CLIENT_GONE)
        except (RequestFault, RerankError) as error:
            kind = request.headers.get("content-type", "json")
            return self._fault(error, content_type=kind, tei=asks_for_tei(body))
        finally:
            self._held_bytes -= len(body)

    async def _body(self, request: Request) -> bytes:
        """Read the body, as large as it may be; its bytes are counted until it is answered."""
        limit, body = self._options.max_body_bytes, bytearray()
        length = int(request.headers.get("content-length") or 0)
        if length > limit:
            raise _too_large(limit, length)
        try:
            with anyio.fail_after(self._options.read_timeout):
                async for chunk in request.stream():
                    body += chunk
                    self._held_bytes += len(chunk)
                    if len(body) > limit:
                        raise _too_large(limit)
                    if self._held_bytes > self._options.max_held_bytes:
                        raise RequestFault(
                            429, "the server is full; come again", "overloaded", retry_after_s=1
                        )
        except BaseException as error:
            self._held_bytes -= len(body)
            if isinstance(error, TimeoutError):
                seconds = self._options.read_timeout
                raise RequestFault(
                    408, f"the body did not arrive within {seconds:g} s", "timeout"
                ) from None
            raise
        return bytes(body)

    async def _work(self, request: Request, work: Awaitable[_T]) -> _T:
        return await unless_gone(
            work, request, self.given_up, timeout_s=self._options.request_timeout
        )

    def _count(self, scored: Scored, n_documents: int) -> None:
        self._metrics.documents.inc(n_documents)
        self._metrics.documents_per_request.observe(n_documents)
        self._metrics.truncated.inc(len(scored.truncated))
        self._metrics.queue_duration.observe(scored.queue_s)

    def _fault(
        self, error: RequestFault | RerankError, *, content_type: str, tei: bool
    ) -> Response:
        fault = error if isinstance(error, RequestFault) else of_error(error)
        if fault.code == "invalid_json" and "json" not in content_type:
            fault.status = 415
        if fault.status >= 500 and not isinstance(error, RequestFault):
            # The error's own words may quote a document, so only its kind and place are logged.
            frames = traceback.extract_tb(error.__traceback__)[-1:]
            logger.error("%s at %s", type(error).__name__, frames)
        if fault.status in (413, 429):
            self._metrics.rejected.labels(fault.code).inc()
        return fault.response(tei=tei)


def json_response(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON response."""
    return Response(
        to_json(content, inf_nan_mode="null"), status, dict(headers or {}), "application/json"
    )


def _headers(scored: Scored, scorer: Scorer, *, raw: bool) -> dict[str, str]:
    """Return the headers of a scored request; times are in milliseconds, as TEI has them."""
    return {
        "x-score-unit": scorer.score_unit if raw else "probability",
        "x-queue-time": f"{1000 * scored.queue_s:.0f}",
        "x-inference-time": f"{1000 * scored.forward_s:.0f}",
        "x-compute-tokens": str(scored.n_tokens),
    }


def _too_large(limit: int, length: int | None = None) -> RequestFault:
    told = "more than" if length is None else f"{length} bytes, more than"
    return RequestFault(413, f"the body has {told} the {limit} of one request", "body_too_large")

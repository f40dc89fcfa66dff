"""A scorer whose model is somewhere else: a server of this package, or a hosted rerank API."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, get_args

from rerank_plugins.checks import (
    check_choice,
    check_number,
    check_passages,
    check_query,
    check_text,
    check_timeout,
    check_whole_number,
    shown,
    utf8,
)
from rerank_plugins.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    InvalidTypeError,
    OverloadedError,
    RemoteError,
    require_extra,
)
from rerank_plugins.ranking import ScoreUnit
from rerank_plugins.remote_api import APIS, RerankApi, endpoint_url, probe, scores_of

require_extra("httpx", extra="remote", purpose="RemoteScorer")

import httpx  # noqa: E402

from rerank_plugins.remote_http import (  # noqa: E402
    Connections,
    Got,
    Steps,
    check_address,
    check_key,
    retry_after,
)

__all__ = ["RemoteScorer", "RerankApi"]

API_KEY_VARIABLE = "RERANK_API_KEY"
_RETRIED = {408, 429, 502, 503, 504}
_LOADING_PAUSE_S = 0.5


class RemoteScorer:
    """Scores passages by asking a rerank API over HTTP, wherever a `Scorer` is taken.

    - ``base_url``: where the API is, with or without ``/v1``; an address that ends with ``rerank``
      is taken as it is.
    - ``api``: ``"auto"`` asks the server once; ``"rerank_plugins"``, ``"cohere"`` (also Jina, vLLM,
      Together and whoever shares that shape), ``"tei"``, ``"voyage"``, or a `RerankApi`.
    - ``api_key``: sent as ``Authorization: Bearer``; None reads ``RERANK_API_KEY``. It is in no
      repr, pickle or error.
    - ``score_unit``: what the endpoint's scores are. None asks a server of this package, and takes
      others to answer with probabilities.
    - ``batch_size``: passages a request; a longer call is split. None is what the API is known for,
      or says itself; a request that is refused for its size is halved once.
    - ``timeout_s``: for one call, retries included. 408, 429, 502, 503, 504 and lost connections
      are tried again until then, as ``Retry-After`` says.
    - ``extra_body``: more fields for every request.

    Threads, tasks and forked processes may share it. Raises `InvalidArgumentError` here, and when
    it is asked `RemoteError`, `OverloadedError`, `DeadlineExceededError` and `ScoringError`.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api: str | RerankApi = "auto",
        api_key: str | None = None,
        score_unit: ScoreUnit | None = None,
        batch_size: int | None = None,
        max_concurrency: int = 4,
        timeout_s: float = 30.0,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        check_endpoint(base_url, api, api_key)
        for name, count in (("batch_size", batch_size), ("max_concurrency", max_concurrency)):
            if count is not None:
                check_whole_number(name, count, least=1)
        if not check_number("timeout_s", timeout_s) > 0:
            raise InvalidArgumentError(f"timeout_s must be more than 0, got {timeout_s}")
        if extra_body is not None and not isinstance(extra_body, Mapping):
            raise InvalidTypeError(f"extra_body must be a dict, got {shown(extra_body)}")
        if score_unit is not None:
            check_choice("score_unit", score_unit, get_args(ScoreUnit))
        self.base_url = base_url
        self.model = check_text("model", model)
        self._options: dict[str, Any] = {
            "api": api,
            "score_unit": score_unit,
            "batch_size": batch_size,
            "max_concurrency": max_concurrency,
            "timeout_s": timeout_s,
            "extra_body": dict(extra_body or {}),
        }
        self._key = api_key or os.environ.get(API_KEY_VARIABLE) or None
        check_key(self._key)
        self._connections = Connections(self._key)
        asked_first = api in ("auto", "rerank_plugins")
        self._api = APIS[api] if isinstance(api, str) and not asked_first else api
        self._unit: ScoreUnit | None = score_unit

    @property
    def score_unit(self) -> ScoreUnit:
        """``"logit"`` or ``"probability"``; the first time this may ask the server."""
        self._connections.run(self._learned(self._deadline(None)))
        return self._known_unit()

    def score(
        self, query: str, passages: Sequence[str], *, timeout_s: float | None = None
    ) -> list[float]:
        """Return one float per passage, in the order given; higher is more relevant."""
        deadline, query, texts = self._checked(query, passages, timeout_s)
        batches = self._batches(texts, self._connections.run(self._learned(deadline)))

        def part(batch: list[str]) -> list[float]:
            found: list[float] = self._connections.run(self._scored(query, batch, deadline))
            return found

        if len(batches) <= 1:
            return [score for batch in batches for score in part(batch)]
        with ThreadPoolExecutor(min(len(batches), self._options["max_concurrency"])) as pool:
            return [score for found in pool.map(part, batches) for score in found]

    async def ascore(
        self, query: str, passages: Sequence[str], *, timeout_s: float | None = None
    ) -> list[float]:
        """Return what `score` returns, and leave the event loop free meanwhile."""
        deadline, query, texts = self._checked(query, passages, timeout_s)
        batches = self._batches(texts, await self._connections.arun(self._learned(deadline)))
        free = asyncio.Semaphore(self._options["max_concurrency"])

        async def part(batch: list[str]) -> list[float]:
            async with free:
                steps = self._scored(query, batch, deadline)
                found: list[float] = await self._connections.arun(steps)
                return found

        tasks = [asyncio.ensure_future(part(batch)) for batch in batches]
        try:
            parts = await asyncio.gather(*tasks)
        finally:
            for task in tasks:  # where one failed, the others' answers are of no use
                task.cancel()
        return [score for found in parts for score in found]

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._connections.close()

    def __reduce__(self) -> tuple[object, ...]:
        return (_restored, (self.base_url, self.model, self._options))

    def __repr__(self) -> str:
        return f"RemoteScorer({self.base_url!r}, {self.model!r})"

    # -- one request ----------------------------------------------------------------------------

    def _deadline(self, timeout_s: float | None) -> float:
        seconds = check_timeout(timeout_s)
        return time.monotonic() + (self._options["timeout_s"] if seconds is None else seconds)

    def _learned(self, deadline: float) -> Steps:
        """Find out, once, whose API this is; return it."""
        while not isinstance(self._api, RerankApi):
            question = probe(self.base_url, self.model)
            answers = []
            for url in question.urls:
                request = {"method": "GET", "url": url}
                response = yield from self._sent(request, deadline, probing=True)
                answers.append((response.status_code, response.content))
            found = question.read(answers)
            if found is not None:
                self._unit = self._unit or found.unit
                api = APIS["rerank_plugins"] if self._options["api"] != "auto" else found.api
                self._api = replace(api, batch_size=found.api.batch_size)
            elif time.monotonic() + _LOADING_PAUSE_S >= deadline:
                raise RemoteError(f"{self.base_url} is still loading {self.model}", status=503)
            else:
                yield _LOADING_PAUSE_S
        return self._api

    def _scored(
        self, query: str, passages: list[str], deadline: float, *, may_halve: bool = True
    ) -> Steps:
        api = self._api
        assert isinstance(api, RerankApi)
        body = {
            **api.body(self.model, query, passages),
            **({"raw_scores": self._known_unit() == "logit"} if api.takes_raw_scores else {}),
            **self._options["extra_body"],
        }
        request = {"method": "POST", "url": endpoint_url(self.base_url, api), "json": body}
        try:
            response = yield from self._sent(request, deadline)
        except RemoteError as error:
            if not (may_halve and len(passages) > 1 and _is_too_large(error)):
                raise
        else:
            return scores_of(response.content, len(passages), self._known_unit())
        middle = len(passages) // 2
        first = yield from self._scored(query, passages[:middle], deadline, may_halve=False)
        second = yield from self._scored(query, passages[middle:], deadline, may_halve=False)
        return first + second

    def _known_unit(self) -> ScoreUnit:
        return self._unit or "probability"

    def _sent(self, request: dict[str, Any], deadline: float, *, probing: bool = False) -> Steps:
        """Send a request until it is answered, or not to be tried again, or time is up."""
        wait_s = 0.25
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise DeadlineExceededError(
                    f"{self.base_url} did not answer within timeout_s; allow more time, or send "
                    "fewer passages"
                )
            got = yield {**request, "timeout": left_s}
            if isinstance(got, httpx.Response):
                if got.is_success or (probing and got.status_code not in _RETRIED):
                    return got
                if got.status_code not in _RETRIED:
                    raise RemoteError(self._told(got), status=got.status_code)
            if isinstance(got, httpx.DecodingError):
                raise RemoteError(f"{self.base_url} sent an answer that cannot be decoded")
            asked_s = retry_after(got) if isinstance(got, httpx.Response) else None
            pause_s = wait_s * random.uniform(0.5, 1.0) if asked_s is None else asked_s
            wait_s = min(2 * wait_s, 8.0)
            if time.monotonic() + pause_s >= deadline:
                raise self._gave_up(got)
            yield pause_s

    def _gave_up(self, got: Got) -> Exception:
        if isinstance(got, httpx.Response):
            if got.status_code == 429:
                return OverloadedError(f"{self.base_url} is overloaded: {self._told(got)}")
            return RemoteError(self._told(got), status=got.status_code)
        if isinstance(got, httpx.TimeoutException):
            return DeadlineExceededError(f"{self.base_url} did not answer within timeout_s")
        return RemoteError(
            f"{self.base_url} cannot be reached ({type(got).__name__}); check base_url, and that "
            "the server runs"
        )

    def _told(self, response: httpx.Response) -> str:
        text = response.text[:300]
        if self._key:
            text = text.replace(self._key, "***")
        hint = {
            401: "; give api_key=",
            403: "; the api_key may not do this",
            404: "; check base_url, model and api=",
        }.get(response.status_code, "")
        return f"{self.base_url} answered {response.status_code}: {text}{hint}"

    def _checked(
        self, query: str, passages: Sequence[str], timeout_s: float | None
    ) -> tuple[float, str, list[str]]:
        """Return the deadline, the query and the passages; half characters are refused here."""
        query, texts = check_query(query), check_passages(passages)
        for text in (query, *texts):
            utf8(text)
        return self._deadline(timeout_s), query, texts

    def _batches(self, texts: list[str], api: RerankApi) -> list[list[str]]:
        size = self._options["batch_size"] or api.batch_size
        return [texts[start : start + size] for start in range(0, len(texts), size)]


def check_endpoint(base_url: object, api: object, api_key: object) -> None:
    """Raise `InvalidArgumentError` for what no request can be sent with, before one is."""
    check_address(base_url)
    if not isinstance(api, RerankApi) and (not isinstance(api, str) or api not in ("auto", *APIS)):
        raise InvalidArgumentError(
            f"api must be auto, {', '.join(APIS)} or a RerankApi; got {shown(api)}"
        )
    check_key(api_key)


def _is_too_large(error: RemoteError) -> bool:
    """Say whether a request was refused for its size; TEI's number for that is 422."""
    return error.status == 413 or (error.status == 422 and "batch size" in str(error))


def _restored(base_url: str, model: str, options: dict[str, Any]) -> RemoteScorer:
    return RemoteScorer(base_url, model, **options)

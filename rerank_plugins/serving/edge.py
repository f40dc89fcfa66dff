"""What every request passes first and last: its id, the key, faults of the framework, the log.

Plain ASGI, because Starlette's BaseHTTPMiddleware costs a task and a queue a request.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException

from rerank_plugins.serving import page
from rerank_plugins.serving.faults import RequestFault, of_error
from rerank_plugins.serving.metrics import Metrics
from rerank_plugins.serving.options import ServerOptions

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

access_log = logging.getLogger("rerank_plugins.serving.access")

PUBLIC_PATHS = {*page.PATHS, "/health", "/ready", "/livez"}
_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


@dataclass(slots=True)
class Notes:
    """What is known of one request beside its body."""

    request_id: str
    started: float = field(default_factory=time.perf_counter)
    status: int = 500


def notes(scope: MutableMapping[str, Any]) -> Notes:
    """Return the notes of a request."""
    found: Notes = scope["state"]["notes"]
    return found


class Edge:
    """Wraps the application."""

    def __init__(
        self, app: ASGIApp, *, options: ServerOptions, metrics: Metrics, paths: Collection[str]
    ) -> None:
        """``paths`` are those that may stand in metrics and log; every other one is "other"."""
        self._app = app
        self._paths = frozenset(paths)
        self._metrics = metrics
        self._keys = [key.encode() for key in options.keys()]
        self._public = PUBLIC_PATHS | (set() if options.protect_metrics else {"/metrics"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        kept = scope.setdefault("state", {})["notes"] = Notes(request_id)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept.status = message["status"]
                answer = MutableHeaders(scope=message)
                answer["x-request-id"] = request_id
                if "x-inference-time" in answer:
                    elapsed_ms = 1000 * (time.perf_counter() - kept.started)
                    answer["x-total-time"] = f"{elapsed_ms:.0f}"
            await send(message)

        self._metrics.inflight.inc()
        try:
            with _span(scope, headers) as span:
                if self._allowed(scope, headers):
                    await self._app(scope, receive, send_with_id)
                else:
                    await _UNAUTHORIZED.response()(scope, receive, send_with_id)
                span(self._route(scope), kept.status)
        finally:
            self._metrics.inflight.dec()
            self._log(scope, kept)

    def _allowed(self, scope: Scope, headers: Headers) -> bool:
        if not self._keys or _path(scope) in self._public or scope["method"] == "OPTIONS":
            return True
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        key = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        # Every key is compared, so that the time says nothing of which one was close.
        sent = key.encode("latin-1")  # as headers are read; these are the bytes that were sent
        return sum(hmac.compare_digest(sent, known) for known in self._keys) > 0

    def _route(self, scope: Scope) -> str:
        path = _path(scope)
        return path if path in self._paths else "other"

    def _log(self, scope: Scope, kept: Notes) -> None:
        seconds = time.perf_counter() - kept.started
        route = self._route(scope)
        self._metrics.requests.labels(route, str(kept.status)).inc()
        self._metrics.duration.labels(route).observe(seconds)
        if access_log.isEnabledFor(logging.INFO):
            line = {
                "request_id": kept.request_id,
                "method": scope["method"],
                "route": route,
                "status": kept.status,
                "ms": round(1000 * seconds, 1),
            }
            access_log.info(json.dumps(line))


_UNAUTHORIZED = RequestFault(
    401, "a key is needed: send 'Authorization: Bearer KEY'", "invalid_api_key"
)


async def framework_fault(_: Request, error: Exception) -> Response:
    """Answer what the framework refuses, such as an unknown path, in the shape of other faults."""
    assert isinstance(error, HTTPException)  # the handler is registered for these alone
    text = {404: "there is no such path here", 405: "this path does not take that method"}
    message = text.get(error.status_code, str(error.detail))
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
    fault = RequestFault(error.status_code, message, code)
    response = fault.response()
    response.headers.update(error.headers or {})
    return response


async def refused(_: Request, fault: Exception) -> Response:
    """Answer a `RequestFault` of a route that does not answer its faults itself."""
    assert isinstance(fault, RequestFault)
    return fault.response()


async def crashed(_: Request, error: Exception) -> Response:
    """Answer after an error that nothing foresaw; Starlette raises it again, for the log."""
    return of_error(error).response()


def _path(scope: Scope) -> str:
    return str(scope["path"].removeprefix(scope.get("root_path", "")))


@contextmanager
def _span(scope: Scope, headers: Headers) -> Iterator[Callable[[str, int], None]]:
    """Open a span under the caller's trace, where the process traces with OpenTelemetry."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        yield lambda route, status: None
        return
    from opentelemetry import propagate

    context = propagate.extract(dict(headers))
    tracer = trace.get_tracer("rerank_plugins.serving")
    with tracer.start_as_current_span(
        scope["method"], context=context, kind=trace.SpanKind.SERVER
    ) as span:
        span.set_attribute("http.request.method", scope["method"])

        def end(route: str, status: int) -> None:
            span.update_name(f"{scope['method']} {route}")
            span.set_attribute("http.route", route)
            span.set_attribute("http.response.status_code", status)

        yield end

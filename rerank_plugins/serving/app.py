"""The application: which path takes which request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from rerank_plugins import __version__
from rerank_plugins.serving import page
from rerank_plugins.serving.edge import Edge, crashed, framework_fault, refused
from rerank_plugins.serving.faults import RequestFault
from rerank_plugins.serving.metrics import Metrics
from rerank_plugins.serving.options import ServerOptions
from rerank_plugins.serving.requests import RerankBody, ScoreBody
from rerank_plugins.serving.routes import Routes, json_response
from rerank_plugins.serving.served_models import ServedModel, ServedModels

RERANK_PATHS = ("/v1/rerank", "/v2/rerank", "/rerank", "/v1/reranking", "/reranking")
SCORE_PATHS = ("/score", "/v1/score")
MODEL_PATHS = ("/v1/models", "/models")


def create_app(models: Sequence[ServedModel], options: ServerOptions | None = None) -> FastAPI:
    """Return the ASGI application that serves ``models``; they are loaded when it starts.

    Raises `InvalidArgumentError` for two models of one name.
    """
    options = options or ServerOptions()
    served = ServedModels(models)
    app = FastAPI(
        title="rerank_plugins",
        version=__version__,
        root_path=options.root_path,
        redoc_url=None,
        lifespan=_lifespan(served),
    )
    metrics = Metrics(served)
    routes = Routes(served, options, metrics)
    app.state.routes = routes
    for path in RERANK_PATHS:
        app.add_api_route(path, routes.rerank, methods=["POST"], **_described(RerankBody, path))
    for path in SCORE_PATHS:
        app.add_api_route(path, routes.score, methods=["POST"], **_described(ScoreBody, path))
    status = _StatusRoutes(served, options, metrics, routes)
    told: dict[str, Callable[..., Any]] = {
        **dict.fromkeys(MODEL_PATHS, status.list_models),
        "/info": status.info,
        "/health": status.health,
        "/ready": status.health,
        "/livez": status.livez,
        "/metrics": status.metrics,
    }
    for path, route in told.items():
        app.add_api_route(path, route, methods=["GET"])
        # Some probes ask for the head alone.
        app.add_api_route(path, route, methods=["HEAD"], include_in_schema=False)
    page.add_to(app)
    scoring, others = [*RERANK_PATHS, *SCORE_PATHS], [*told, *page.PATHS, "/docs", "/openapi.json"]
    metrics.start([*scoring, "other"])
    metrics.start(others, (200, 401, 503))
    app.add_middleware(Edge, options=options, metrics=metrics, paths=[*scoring, *others])
    app.add_exception_handler(HTTPException, framework_fault)
    app.add_exception_handler(RequestFault, refused)
    app.add_exception_handler(Exception, crashed)
    if options.cors_origin:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(options.cors_origin),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-api-key", "x-request-id"],
            expose_headers=["x-request-id", "x-score-unit"],
        )
    return app


def _lifespan(served: ServedModels) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(served.load())  # the socket answers meanwhile
        try:
            yield
        finally:
            loading.cancel()
            await served.close()

    return lifespan


def _described(body: type[RerankBody | ScoreBody], path: str) -> dict[str, Any]:
    # The routes read the body themselves, for errors in the client's own shape, so the schema is
    # told here.
    content = {"application/json": {"schema": body.model_json_schema()}}
    return {
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
        "operation_id": path.strip("/").replace("/", "_"),
    }


class _StatusRoutes:
    """What a server says of itself. None of it runs a model or needs a thread."""

    def __init__(
        self, served: ServedModels, options: ServerOptions, metrics: Metrics, routes: Routes
    ) -> None:
        self._served = served
        self._options = options
        self._metrics = metrics
        self._routes = routes

    async def livez(self) -> Response:
        return json_response({"status": "ok"})

    async def health(self) -> Response:
        status = "draining" if self._routes.draining else self._served.status
        models = {model.name: model.status for model in self._served.all}
        headers = {} if status == "ok" else {"retry-after": "2"}
        return json_response(
            {"status": status, "models": models}, 200 if status == "ok" else 503, headers
        )

    async def metrics(self) -> Response:
        text = await asyncio.to_thread(self._metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def list_models(self) -> Response:
        rows = [
            {
                "id": name,
                "object": "model",
                "created": model.created,
                "owned_by": "rerank_plugins",
                "score_unit": getattr(model.scorer, "score_unit", None),
                "max_length": getattr(model.scorer, "max_length", None),
                "max_documents": self._options.max_documents,
                "dtype": getattr(model.scorer, "dtype", None),
                "device": getattr(model.scorer, "device", None),
            }
            for name, model in self._served.by_name.items()
        ]
        return json_response({"object": "list", "data": rows})

    async def info(self, request: Request) -> Response:
        model = self._served.named(request.query_params.get("model"))
        scorer = model.scorer
        return json_response(
            {
                "model_id": getattr(scorer, "model", model.name),
                "model_sha": getattr(scorer, "revision", None),
                "model_dtype": getattr(scorer, "dtype", None),
                "model_type": {"reranker": {"id2label": {"0": "0"}, "label2id": {"0": 0}}},
                "served_model_name": model.name,
                "score_unit": getattr(scorer, "score_unit", None),
                "max_input_length": getattr(scorer, "max_length", None),
                "max_client_batch_size": self._options.max_documents,
                "max_concurrent_requests": self._options.max_connections,
                "payload_limit": self._options.max_body_bytes,
                "auto_truncate": True,
                "version": __version__,
            }
        )

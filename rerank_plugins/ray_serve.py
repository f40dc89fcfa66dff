"""Replicas of the server on Ray Serve, which starts, replaces and scales them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rerank_plugins.errors import InvalidArgumentError, ScorerClosedError, require_extra
from rerank_plugins.models import EMBEDDED_MODEL
from rerank_plugins.options import checked_options
from rerank_plugins.registry import shared_scorer

if TYPE_CHECKING:
    from fastapi import FastAPI

    from rerank_plugins.serving import ServerOptions

__all__ = ["serve_app"]


def serve_app(
    model: str = EMBEDDED_MODEL,
    *,
    replicas: int | tuple[int, int] = 1,
    cpus: float = 1,
    gpus: float = 0,
    max_ongoing_requests: int = 64,
    ray_options: Mapping[str, Any] | None = None,
    options: ServerOptions | None = None,
    **scorer_options: Any,
) -> Any:
    """Return a Ray Serve application, for ``serve.run``, that answers as ``rerank-plugins serve``.

    A replica has a model of its own on ``cpus`` threads and ``gpus``, and is replaced when its
    scorer is closed. Two numbers of ``replicas`` are the least and the most: there are more when
    each has over ``max_ongoing_requests / 2`` requests under way. A replica merges the requests
    that it has, so it needs many; Serve's own batches would only add waiting.

    ``options`` are the server's, keys and limits among them; where to listen and for how many
    connections is Serve's (``serve.start(http_options=...)``). ``ray_options`` go to
    ``serve.deployment`` as they are, ``scorer_options`` to `shared_scorer`: an unknown one is an
    `InvalidTypeError`.
    """
    require_extra("ray", "fastapi", "grpc", extra="ray", purpose="serve_app")
    from ray import serve

    from rerank_plugins.serving.options import SCORER_DEFAULTS, ServerOptions

    server = replace(options or ServerOptions(), model=(model,))
    device = "cuda" if gpus else "cpu"
    given = {"model": model, "device": device, **SCORER_DEFAULTS, **scorer_options}
    scorer = checked_options(**given)
    least, most = replicas if isinstance(replicas, tuple) else (replicas, replicas)
    if not 1 <= least <= most:
        raise InvalidArgumentError(f"replicas must be at least 1, got {replicas!r}")
    scaling: dict[str, Any] = {"num_replicas": least}
    if isinstance(replicas, tuple):
        wanted = max(max_ongoing_requests // 2, 1)
        limits = {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": wanted}
        scaling = {"autoscaling_config": limits}

    def build() -> FastAPI:
        return _application(server, scorer)

    deployment = serve.deployment(
        serve.ingress(build)(_Replica),
        **{
            "name": "rerank",
            "max_ongoing_requests": max_ongoing_requests,
            "ray_actor_options": {"num_cpus": cpus, "num_gpus": gpus},
            "graceful_shutdown_timeout_s": server.shutdown_timeout,
            **scaling,
            **(ray_options or {}),
        },
    )
    return deployment.bind()


class _Replica:
    app: FastAPI  # of Serve's ingress

    def check_health(self) -> None:
        """Raise where a model cannot be asked any more: Serve starts another replica."""
        model = self.app.state.model
        if model.status == "failed":
            raise ScorerClosedError(f"the scorer of {model.name} is closed")


def _application(options: ServerOptions, scorer: dict[str, Any]) -> FastAPI:
    from rerank_plugins.serving import ServedModel, create_app

    load = partial(shared_scorer, **scorer)
    load()  # now, so that a replica gets requests when it can answer them
    model = ServedModel(scorer["model"], load, options.served_model_name)
    app = create_app([model], options)
    app.state.model = model
    return app

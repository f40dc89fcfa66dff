"""What Prometheus reads at ``/metrics``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from rerank_plugins import __version__
from rerank_plugins.serving.served_models import ServedModels

if TYPE_CHECKING:
    from rerank_plugins.cross_encoder.scheduling.stats import Stats

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0)
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
STATUSES = (200, 400, 401, 404, 405, 408, 413, 415, 422, 429, 499, 500, 503, 504)
REASONS = ("overloaded", "body_too_large", "too_many")


class Metrics:
    """The counters of one application, in a registry of its own.

    Labels are known beforehand and start at 0, so that a rate is right from the first scrape on.
    """

    def __init__(self, models: ServedModels) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "rerank_requests", "Requests answered", ["route", "status"], registry=self._registry
        )
        self.duration = Histogram(
            "rerank_request_duration_seconds",
            "From the first byte of a request to the last of its answer",
            ["route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self.queue_duration = Histogram(
            "rerank_queue_duration_seconds",
            "From asking the scorer to its first work on the request",
            buckets=SECONDS,
            registry=self._registry,
        )
        self.documents = Counter("rerank_documents", "Documents scored", registry=self._registry)
        self.documents_per_request = Histogram(
            "rerank_documents_per_request",
            "Documents of a request",
            buckets=COUNTS,
            registry=self._registry,
        )
        self.truncated = Counter(
            "rerank_truncated_documents",
            "Documents that were cut to the model's length",
            registry=self._registry,
        )
        self.rejected = Counter(
            "rerank_rejected", "Requests refused unscored", ["reason"], registry=self._registry
        )
        self.disconnects = Counter(
            "rerank_disconnects", "Clients gone before their answer", registry=self._registry
        )
        self.inflight = Gauge(
            "rerank_inflight_requests", "Requests under way", registry=self._registry
        )
        for reason in REASONS:
            self.rejected.labels(reason)
        self._registry.register(_ModelMetrics(models))

    def start(self, routes: Sequence[str], statuses: Sequence[int] = STATUSES) -> None:
        """Let the counters of ``routes`` begin at 0 for every one of ``statuses``."""
        for route in routes:
            self.duration.labels(route)
            for status in statuses:
                self.requests.labels(route, str(status))

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _ModelMetrics:
    """What the scorers count themselves, read when it is asked for."""

    def __init__(self, models: ServedModels) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        ready = GaugeMetricFamily("rerank_model_ready", "1 if it can be asked", labels=["model"])
        queued = GaugeMetricFamily(
            "rerank_queued_pairs", "Pairs that wait or are under way", labels=["model"]
        )
        tokens = CounterMetricFamily("rerank_tokens", "Tokens scored", labels=["model"])
        build = GaugeMetricFamily(
            "rerank_build_info", "Always 1", labels=["version", "model", "dtype", "device"]
        )
        for model in self._models.all:
            ready.add_metric([model.name], float(model.status == "ok"))
            stats: Stats | None = getattr(model.scorer, "stats", None)
            queued.add_metric([model.name], stats.queued_pairs if stats else 0)
            tokens.add_metric([model.name], stats.tokens if stats else 0)
            dtype, device = (str(getattr(model.scorer, name, "")) for name in ("dtype", "device"))
            build.add_metric([__version__, model.name, dtype, device], 1.0)
        yield from (ready, queued, tokens, build)

    def describe(self) -> list[Metric]:
        return []

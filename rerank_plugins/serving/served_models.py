"""The models that a server offers: by which names, and whether they can be asked yet."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rerank_plugins.adapters.reranking import in_own_thread
from rerank_plugins.errors import InvalidArgumentError, RerankError
from rerank_plugins.ranking import Scorer
from rerank_plugins.serving.faults import RequestFault

logger = logging.getLogger("rerank_plugins.serving")


@dataclass(eq=False)
class ServedModel:
    """One model: ``load`` makes its scorer, once, in a thread, when the server starts.

    A scorer that exists already is served by ``ServedModel(name, lambda: scorer)``.
    """

    name: str
    load: Callable[[], Scorer]
    aliases: tuple[str, ...] = ()
    scorer: Scorer | None = field(default=None, init=False)
    failure: Exception | None = field(default=None, init=False)
    created: int = field(default_factory=lambda: int(time.time()), init=False)

    @property
    def status(self) -> str:
        """``"loading"``, ``"ok"`` or ``"failed"``."""
        if self.failure is not None or getattr(self.scorer, "closed", False):
            return "failed"
        return "loading" if self.scorer is None else "ok"

    def loaded(self) -> Scorer:
        """Return the scorer, or raise the `RequestFault` of a model that is not there."""
        if self.scorer is None or self.status != "ok":
            raise RequestFault(
                503, f"the model {self.name} is {self.status}", "unavailable", retry_after_s=2
            )
        return self.scorer


class ServedModels:
    """All models of one server; the first one answers requests that name none."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        if not models:
            raise InvalidArgumentError("models is empty; serve at least one")
        self.all = list(models)
        self.by_name: dict[str, ServedModel] = {}
        for model in models:
            for name in (model.name, *model.aliases):
                if name in self.by_name:
                    raise InvalidArgumentError(
                        f"two served models are named {name!r}; give one of them another "
                        "name with served_model_name"
                    )
                self.by_name[name] = model

    def named(self, name: str | None) -> ServedModel:
        """Return the model that a request names; None and ``""`` name the first.

        Raises a 404 `RequestFault` that lists the names: a model is never swapped for another.
        """
        if not name:
            return self.all[0]
        if name not in self.by_name:
            raise RequestFault(
                404,
                f"model: {name[:100]!r} is not served here; served: {', '.join(self.by_name)}",
                "model_not_found",
                "model",
            )
        return self.by_name[name]

    @property
    def status(self) -> str:
        """``"ok"`` only if each model can be asked."""
        found = {model.status for model in self.all}
        return next((status for status in ("failed", "loading") if status in found), "ok")

    async def load(self) -> None:
        """Load them all, one after the other, and leave the event loop free."""
        for model in self.all:
            try:
                model.scorer = await in_own_thread(model.load)
            except RerankError as error:
                model.failure = error
                logger.error("the model %s cannot be loaded: %s", model.name, error)

    async def close(self) -> None:
        """Close every scorer that can be closed."""
        for model in self.all:
            close = getattr(model.scorer, "close", None)
            if close is not None:
                await asyncio.to_thread(close)

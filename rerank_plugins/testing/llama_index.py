"""The contract of a LlamaIndex node postprocessor that reranks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rerank_plugins.errors import require_extra
from rerank_plugins.testing.fakes import FailingScorer, FakeScorer, WaitingScorer

require_extra("pytest", "llama_index", extra="testing,llama-index", purpose="PostprocessorTests")

import pytest  # noqa: E402
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload  # noqa: E402
from llama_index.core.callbacks.base_handler import BaseCallbackHandler  # noqa: E402
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # noqa: E402
from llama_index.core.instrumentation.event_handlers import BaseEventHandler  # noqa: E402
from llama_index.core.instrumentation.events.exception import ExceptionEvent  # noqa: E402
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent  # noqa: E402
from llama_index.core.postprocessor.types import BaseNodePostprocessor  # noqa: E402
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode  # noqa: E402

from rerank_plugins.testing.contract import (  # noqa: E402
    BEST_FIRST,
    QUERY,
    SCORES,
    Rerank,
    RerankContract,
)


class RecordingEvents(BaseEventHandler):
    """Remembers the rerank events, and the exceptions between them."""

    seen: list[Any] = []  # noqa: RUF012  a pydantic field, copied for each instance

    def handle(self, event: Any, **kwargs: Any) -> None:
        if isinstance(event, (ReRankStartEvent, ReRankEndEvent, ExceptionEvent)):
            self.seen.append(event)

    @property
    def kinds(self) -> list[type]:
        return [type(event) for event in self.seen]


class RecordingCallbacks(BaseCallbackHandler):
    """Remembers the starts and ends of reranking, with their payloads, by event id."""

    def __init__(self) -> None:
        super().__init__([], [])
        self.starts: dict[str, dict[str, Any]] = {}
        self.ends: dict[str, dict[str, Any]] = {}

    def on_event_start(
        self,
        event_type: CBEventType,
        payload: dict[str, Any] | None = None,
        event_id: str = "",
        parent_id: str = "",
        **kwargs: Any,
    ) -> str:
        if event_type == CBEventType.RERANKING:
            self.starts[event_id] = payload or {}
        return event_id

    def on_event_end(
        self,
        event_type: CBEventType,
        payload: dict[str, Any] | None = None,
        event_id: str = "",
        **kwargs: Any,
    ) -> None:
        if event_type == CBEventType.RERANKING:
            assert event_id in self.starts
            assert event_id not in self.ends
            self.ends[event_id] = payload or {}

    def start_trace(self, trace_id: str | None = None) -> None: ...

    def end_trace(
        self, trace_id: str | None = None, trace_map: dict[str, list[str]] | None = None
    ) -> None: ...


@contextmanager
def recorded_events() -> Iterator[RecordingEvents]:
    """Record what reaches the root dispatcher meanwhile."""
    root, recorder = get_dispatcher(), RecordingEvents()
    root.add_event_handler(recorder)
    try:
        yield recorder
    finally:
        root.event_handlers.remove(recorder)


class PostprocessorTests(RerankContract):
    """Subclass, and say in ``make`` how your postprocessor is built around a scorer."""

    def candidates(
        self, texts: Sequence[str], ids: Sequence[str] | None = None
    ) -> list[NodeWithScore]:
        return [
            NodeWithScore(
                node=TextNode(
                    text=text,
                    id_=ids[place] if ids else f"id-{place}",
                    metadata={"source": f"{text}.txt"},
                    excluded_embed_metadata_keys=["source"],
                ),
                score=place / 8,
            )
            for place, text in enumerate(texts)
        ]

    def call(self, reranker: Any, candidates: Any, **keywords: Any) -> list[Any]:
        return list(reranker.postprocess_nodes(candidates, query_str=QUERY, **keywords))

    async def acall(self, reranker: Any, candidates: Any, **keywords: Any) -> list[Any]:
        return list(await reranker.apostprocess_nodes(candidates, query_str=QUERY, **keywords))

    def text(self, kept: Any) -> str:
        return str(kept.text)

    def score(self, kept: Any) -> Any:
        return kept.score

    def identity(self, kept: Any) -> str | None:
        return kept.node_id  # type: ignore[no-any-return]

    def metadata(self, kept: Any) -> dict[str, Any]:
        return kept.node.metadata  # type: ignore[no-any-return]

    def dumped(self, kept: Any) -> str:
        return kept.model_dump_json()  # type: ignore[no-any-return]

    def observed(self, reranker: Any) -> RecordingCallbacks:
        recorder = RecordingCallbacks()
        reranker.callback_manager = CallbackManager([recorder])
        return recorder

    def test_is_a_node_postprocessor(self) -> None:
        assert isinstance(self.built(FakeScorer(SCORES)), BaseNodePostprocessor)

    def test_missing_query_is_an_error(self) -> None:
        reranker = self.built(FakeScorer(SCORES))
        with pytest.raises(ValueError, match="query"):
            reranker.postprocess_nodes(self.candidates(["alpha"]))

    def test_scores_the_text_that_is_embedded(self, rerank: Rerank) -> None:
        scorer = FakeScorer(lambda _: 1.0)
        [given] = self.candidates(["alpha"])
        given.node.metadata["title"] = "Letters"
        rerank(self.built(scorer), [given])
        [(_, _, passages)] = scorer.calls
        assert passages == [given.node.get_content(metadata_mode=MetadataMode.EMBED)]
        assert passages[0] == "title: Letters\n\nalpha"

    @pytest.mark.parametrize("texts", [list(SCORES), []], ids=["success", "empty"])
    def test_events_and_callbacks_report_the_result(self, rerank: Rerank, texts: list[str]) -> None:
        reranker = self.keeping_all(FakeScorer(SCORES))
        callbacks, given = self.observed(reranker), self.candidates(texts)
        with recorded_events() as events:
            kept = rerank(reranker, given)
        start, end = events.seen
        assert (type(start), type(end)) == (ReRankStartEvent, ReRankEndEvent)
        assert (start.nodes, end.nodes, start.model_name) == (given, kept, "fake")
        [payload] = callbacks.starts.values()
        assert payload[EventPayload.QUERY_STR] == QUERY
        assert [one[EventPayload.NODES] for one in callbacks.ends.values()] == [kept]

    @pytest.mark.parametrize("settings", [{}, {"on_error": "first_stage"}])
    def test_events_and_callbacks_report_an_error(
        self, rerank: Rerank, settings: dict[str, Any]
    ) -> None:
        error = ConnectionError("no route")
        reranker = self.keeping_all(FailingScorer(error), **settings)
        callbacks = self.observed(reranker)
        with recorded_events() as events:
            try:
                kept = rerank(reranker, self.candidates(["alpha"]))
            except ConnectionError:
                kept = []
        assert bool(kept) is bool(settings)
        assert events.kinds == [ReRankStartEvent, ExceptionEvent, ReRankEndEvent]
        assert events.seen[1].exception is error
        assert events.seen[2].nodes == kept
        assert [one[EventPayload.EXCEPTION] for one in callbacks.ends.values()] == [error]

    def test_events_and_callbacks_are_balanced_on_cancellation(self) -> None:
        async def main() -> RecordingCallbacks:
            scorer = WaitingScorer(SCORES)
            reranker = self.keeping_all(scorer)
            callbacks = self.observed(reranker)
            task = asyncio.create_task(self.acall(reranker, self.candidates(["alpha"])))
            await scorer.asked_by(task)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return callbacks

        with recorded_events() as events:
            callbacks = asyncio.run(main())
        assert events.kinds == [ReRankStartEvent, ExceptionEvent, ReRankEndEvent]
        assert len(callbacks.starts) == len(callbacks.ends) == 1

    def test_first_stage_score_is_kept_where_no_model_reads_it(self, rerank: Rerank) -> None:
        scorer = FakeScorer(SCORES)
        reranker = self.keeping_all(scorer, keep_retrieval_score=True)
        given = self.candidates(list(SCORES))
        kept = rerank(reranker, given)
        assert [one.metadata["retrieval_score"] for one in kept] == [0.125, 0.375, 0.0, 0.25]
        by_id = {one.node_id: one.node for one in given}
        for one in kept:
            for mode in (MetadataMode.LLM, MetadataMode.EMBED):
                expected = by_id[one.node_id].get_content(metadata_mode=mode)
                assert one.node.get_content(metadata_mode=mode) == expected
        # A second pass scores the same texts, and so gives the same order and scores.
        again = rerank(reranker, kept)
        assert sorted(scorer.calls[0][2]) == sorted(scorer.calls[1][2])
        assert [(one.node_id, one.score) for one in again] == [(o.node_id, o.score) for o in kept]
        assert self.texts(again) == BEST_FIRST

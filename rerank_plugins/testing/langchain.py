"""The contract of a LangChain document compressor that reranks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from rerank_plugins.errors import require_extra
from rerank_plugins.testing.fakes import FailingScorer, FakeScorer, WaitingScorer

require_extra("pytest", "langchain_core", extra="testing,langchain", purpose="CompressorTests")

import pytest  # noqa: E402
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager  # noqa: E402
from langchain_core.documents import BaseDocumentCompressor, Document  # noqa: E402

from rerank_plugins.testing.contract import (  # noqa: E402
    BEST_FIRST,
    QUERY,
    SCORES,
    Rerank,
    RerankContract,
)


class RecordingCallbacks(BaseCallbackHandler):
    """Remembers each retriever run: its parent, its query, and how it ended, in order."""

    def __init__(self) -> None:
        self.runs: dict[UUID, dict[str, Any]] = {}

    def on_retriever_start(
        self,
        serialized: dict[str, Any] | None,
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        run = {"parent": parent_run_id, "query": query, "ends": [], **kwargs}
        assert self.runs.setdefault(run_id, run) is run, "started twice"

    def on_retriever_end(self, documents: Sequence[Document], *, run_id: UUID, **_: Any) -> None:
        self.runs[run_id]["ends"].append(list(documents))

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self.runs[run_id]["ends"].append(error)

    @property
    def ends(self) -> list[Any]:
        """How each run ended; each must have, once."""
        assert all(len(run["ends"]) == 1 for run in self.runs.values()), self.runs
        return [run["ends"][0] for run in self.runs.values()]


class CompressorTests(RerankContract):
    """Subclass, and say in ``make`` how your compressor is built around a scorer."""

    def candidates(self, texts: Sequence[str], ids: Sequence[str] | None = None) -> list[Document]:
        return [
            Document(
                text,
                id=ids[place] if ids else f"id-{place}",
                # The score of an earlier reranker, which the new one must replace.
                metadata={"source": f"{text}.txt", "relevance_score": 9.9, "score": place / 8},
            )
            for place, text in enumerate(texts)
        ]

    def call(self, reranker: Any, candidates: Any, **keywords: Any) -> list[Any]:
        return list(reranker.compress_documents(candidates, QUERY, **keywords))

    async def acall(self, reranker: Any, candidates: Any, **keywords: Any) -> list[Any]:
        return list(await reranker.acompress_documents(candidates, QUERY, **keywords))

    def text(self, kept: Any) -> str:
        return str(kept.page_content)

    def score(self, kept: Any) -> Any:
        return kept.metadata["relevance_score"]

    def identity(self, kept: Any) -> str | None:
        return kept.id  # type: ignore[no-any-return]

    def metadata(self, kept: Any) -> dict[str, Any]:
        return kept.metadata  # type: ignore[no-any-return]

    def dumped(self, kept: Any) -> str:
        return kept.model_dump_json()  # type: ignore[no-any-return]

    def test_is_a_document_compressor(self) -> None:
        assert isinstance(self.built(FakeScorer(SCORES)), BaseDocumentCompressor)

    def test_query_that_is_no_string_is_an_error(self) -> None:
        reranker = self.built(FakeScorer(SCORES))
        with pytest.raises((TypeError, ValueError)):
            reranker.compress_documents(self.candidates(["alpha"]), None)

    @pytest.mark.parametrize("texts", [list(SCORES), []], ids=["success", "empty"])
    def test_callbacks_see_a_child_run_with_the_result(
        self, rerank: Rerank, texts: list[str]
    ) -> None:
        recorder, parent = RecordingCallbacks(), UUID(int=7)
        callbacks = CallbackManager([recorder], [recorder], parent_run_id=parent)
        reranker = self.keeping_all(FakeScorer(SCORES))
        kept = rerank(reranker, self.candidates(texts), callbacks=callbacks)
        assert recorder.ends == [kept]
        [run] = recorder.runs.values()
        assert (run["parent"], run["query"]) == (parent, QUERY)

    def test_callbacks_see_an_error(self, rerank: Rerank) -> None:
        recorder, error = RecordingCallbacks(), ConnectionError("no route")
        reranker = self.keeping_all(FailingScorer(error))
        with pytest.raises(ConnectionError):
            rerank(reranker, self.candidates(["alpha"]), callbacks=[recorder])
        assert recorder.ends == [error]

    def test_callbacks_see_an_error_that_was_forgiven(self, rerank: Rerank) -> None:
        recorder, error = RecordingCallbacks(), ConnectionError("no route")
        reranker = self.built(FailingScorer(error), on_error="first_stage")
        assert rerank(reranker, self.candidates(["alpha"]), callbacks=[recorder])
        assert recorder.ends == [error]

    def test_callbacks_see_a_cancellation(self) -> None:
        recorder = RecordingCallbacks()

        async def main() -> None:
            scorer = WaitingScorer(SCORES)
            call = self.acall(
                self.keeping_all(scorer), self.candidates(["alpha"]), callbacks=[recorder]
            )
            task = asyncio.create_task(call)
            await scorer.asked_by(task)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert [type(end) for end in recorder.ends] == [asyncio.CancelledError]

    def test_first_stage_score_is_kept_on_request(self, rerank: Rerank) -> None:
        reranker = self.keeping_all(FakeScorer(SCORES), keep_retrieval_score=True)
        kept = rerank(reranker, self.candidates(list(SCORES)))
        assert self.texts(kept) == BEST_FIRST
        assert [one.metadata["retrieval_score"] for one in kept] == [0.125, 0.375, 0.0, 0.25]

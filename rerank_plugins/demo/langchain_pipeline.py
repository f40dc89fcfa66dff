"""The demo's two stages in LangChain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rerank_plugins.demo.pipeline import Found, Pipeline
from rerank_plugins.faiss import FaissVectorStore
from rerank_plugins.langchain import CrossEncoderRerank
from rerank_plugins.ranking import Scorer


class LangChainPipeline(Pipeline):
    """`FaissVectorStore`, then `rerank_plugins.langchain.CrossEncoderRerank`."""

    framework = "langchain"

    def __init__(self, store: FaissVectorStore, scorers: Mapping[str, Scorer], top_k: int) -> None:
        super().__init__(scorers)
        self._retriever = store.as_retriever(search_kwargs={"k": top_k, "score_key": "score"})
        self._rerankers = {
            name: CrossEncoderRerank(scorer=scorer, top_n=None) for name, scorer in scorers.items()
        }

    def _retrieve(self, query: str) -> list[Any]:
        return self._retriever.invoke(query)

    def _rerank(self, name: str, query: str, candidates: list[Any]) -> Sequence[Any]:
        return self._rerankers[name].compress_documents(candidates, query)

    def _found(self, candidate: Any) -> Found:
        metadata = candidate.metadata
        score = metadata.get("relevance_score", metadata["score"])
        return Found(candidate.id, metadata["title"], candidate.page_content, score)

"""The demo's two stages in LangChain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rerank_plugins.demo.corpus import Passage
from rerank_plugins.demo.embedding import Embedding, Vectors
from rerank_plugins.demo.pipeline import Hit, Pipeline
from rerank_plugins.errors import require_extra
from rerank_plugins.ranking import Scorer

require_extra("langchain_core", "faiss", extra="demo", purpose="the demo")

from langchain_core.documents import Document  # noqa: E402
from langchain_core.embeddings import Embeddings  # noqa: E402

from rerank_plugins.faiss import FaissVectorStore  # noqa: E402
from rerank_plugins.langchain import CrossEncoderRerank  # noqa: E402


class LangChainEmbedding(Embeddings):
    """One of the demo's embeddings as LangChain's."""

    def __init__(self, embedding: Embedding) -> None:
        self._embedding = embedding

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._embedding.embed_documents(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        vector: list[float] = self._embedding.embed_query(text)[0].tolist()
        return vector


class LangChainPipeline(Pipeline):
    """`FaissVectorStore`, then `rerank_plugins.langchain.CrossEncoderRerank`."""

    framework = "langchain"

    def __init__(
        self,
        passages: Sequence[Passage],
        vectors: Vectors,
        embedding: Embedding,
        scorer: Scorer,
        top_k: int,
    ) -> None:
        self._store = FaissVectorStore(LangChainEmbedding(embedding))
        texts = [passage.text for passage in passages]
        self._store.add_embeddings(
            zip(texts, vectors, strict=True), ids=[passage.id for passage in passages]
        )
        self._reranker = CrossEncoderRerank(scorer=scorer, top_n=None)
        self._top_k = top_k

    def _retrieve(self, query: str) -> list[Any]:
        return self._store.similarity_search_with_score(query, k=self._top_k)

    def _rerank(self, query: str, candidates: list[Any]) -> Sequence[Any]:
        documents = [document for document, _ in candidates]
        return self._reranker.compress_documents(documents, query)

    def _retrieved_hit(self, candidate: Any) -> Hit:
        document, score = candidate
        return Hit(document.id, score, document.page_content)

    def _reranked_hit(self, candidate: Document) -> Hit:
        return Hit(str(candidate.id), candidate.metadata["relevance_score"], candidate.page_content)

"""The demo's two stages in LlamaIndex."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from rerank_plugins.demo.corpus import Passage
from rerank_plugins.demo.embedding import Embedding, Vectors
from rerank_plugins.demo.pipeline import Hit, Pipeline
from rerank_plugins.errors import MissingExtraError, require_extra
from rerank_plugins.ranking import Scorer

require_extra("llama_index", "faiss", extra="demo", purpose="the demo in LlamaIndex")

import faiss  # noqa: E402

try:
    from llama_index.core import StorageContext, VectorStoreIndex
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.vector_stores.faiss import FaissVectorStore
except ImportError as error:  # llama_index is a namespace that packages share
    raise MissingExtraError(
        f"the demo in LlamaIndex lacks a package ({error}): pip install 'rerank_plugins[demo]'"
    ) from error

from rerank_plugins.llama_index import CrossEncoderRerank  # noqa: E402


class LlamaIndexEmbedding(BaseEmbedding):
    """One of the demo's embeddings as LlamaIndex's."""

    _embedding: Embedding = PrivateAttr()

    def __init__(self, embedding: Embedding) -> None:
        super().__init__(model_name=embedding.name)
        self._embedding = embedding

    def _get_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = self._embedding.embed_query(query)[0].tolist()
        return vector

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._embedding.embed_documents(texts).tolist()
        return vectors

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)


class LlamaIndexPipeline(Pipeline):
    """``FaissVectorStore``, then `rerank_plugins.llama_index.CrossEncoderRerank`."""

    framework = "llama-index"

    def __init__(
        self,
        passages: Sequence[Passage],
        vectors: Vectors,
        embedding: Embedding,
        scorer: Scorer,
        top_k: int,
    ) -> None:
        nodes = [
            TextNode(id_=passage.id, text=passage.text, embedding=vector.tolist())
            for passage, vector in zip(passages, vectors, strict=True)
        ]
        store = FaissVectorStore(faiss.IndexFlatIP(vectors.shape[1]))
        index = VectorStoreIndex(
            nodes,
            storage_context=StorageContext.from_defaults(vector_store=store),
            embed_model=LlamaIndexEmbedding(embedding),
        )
        self._retriever = index.as_retriever(similarity_top_k=top_k)
        self._reranker = CrossEncoderRerank(scorer=scorer, top_n=None)

    def _retrieve(self, query: str) -> list[Any]:
        return self._retriever.retrieve(query)

    def _rerank(self, query: str, candidates: list[Any]) -> Sequence[Any]:
        return self._reranker.postprocess_nodes(candidates, query_str=query)

    def _retrieved_hit(self, candidate: NodeWithScore) -> Hit:
        return Hit(candidate.node_id, float(candidate.score or 0.0), candidate.text)

    def _reranked_hit(self, candidate: NodeWithScore) -> Hit:
        return self._retrieved_hit(candidate)

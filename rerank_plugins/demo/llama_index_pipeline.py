"""The demo's two stages in LlamaIndex."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from rerank_plugins import faiss as langchain_faiss
from rerank_plugins.demo.collection import DemoCollection, read_demo
from rerank_plugins.demo.pipeline import Found, Pipeline
from rerank_plugins.errors import MissingExtraError, require_extra
from rerank_plugins.ranking import Scorer

require_extra("llama_index", "faiss", extra="demo", purpose="the demo in LlamaIndex")

import faiss  # noqa: E402

try:
    from llama_index.core import StorageContext, VectorStoreIndex
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.schema import MetadataMode, TextNode
    from llama_index.vector_stores.faiss import FaissVectorStore
except ImportError as error:  # llama_index is a namespace that packages share
    raise MissingExtraError(
        f"the demo in LlamaIndex lacks a package ({error}): pip install 'rerank_plugins[demo]'"
    ) from error

from langchain_core.embeddings import Embeddings  # noqa: E402

from rerank_plugins.llama_index import CrossEncoderRerank  # noqa: E402


class LlamaIndexEmbedding(BaseEmbedding):
    """An embedding of LangChain's as LlamaIndex's, so that one model serves both."""

    _embedding: Embeddings = PrivateAttr()

    def __init__(self, embedding: Embeddings) -> None:
        super().__init__()
        self._embedding = embedding

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embedding.embed_query(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embedding.embed_documents([text])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)


def vector_store_index(
    store: langchain_faiss.FaissVectorStore, collection: DemoCollection | None = None
) -> VectorStoreIndex:
    """Return the passages with the vectors that ``store`` has of them, as LlamaIndex's index."""
    passages = (collection or read_demo()).passages
    vectors = store.get_vectors_by_ids([passage.id for passage in passages])
    nodes = [
        TextNode(
            id_=passage.id,
            text=passage.text,
            embedding=vector,
            metadata={"title": passage.title},
            # The text begins with it.
            excluded_embed_metadata_keys=["title"],
            excluded_llm_metadata_keys=["title"],
        )
        for passage, vector in zip(passages, vectors.tolist(), strict=True)
    ]
    made = FaissVectorStore(faiss.IndexFlatIP(vectors.shape[1]))
    return VectorStoreIndex(
        nodes,
        storage_context=StorageContext.from_defaults(vector_store=made),
        embed_model=LlamaIndexEmbedding(store.embeddings),
    )


class LlamaIndexPipeline(Pipeline):
    """``FaissVectorStore``, then `rerank_plugins.llama_index.CrossEncoderRerank`."""

    framework = "llama-index"

    def __init__(
        self,
        store: langchain_faiss.FaissVectorStore,
        scorers: Mapping[str, Scorer],
        top_k: int,
        collection: DemoCollection | None = None,
    ) -> None:
        super().__init__(scorers)
        index = vector_store_index(store, collection)
        self._retriever = index.as_retriever(similarity_top_k=top_k)
        self._rerankers = {
            name: CrossEncoderRerank(scorer=scorer, top_n=None) for name, scorer in scorers.items()
        }

    def _retrieve(self, query: str) -> list[Any]:
        return self._retriever.retrieve(query)

    def _rerank(self, name: str, query: str, candidates: list[Any]) -> Sequence[Any]:
        return self._rerankers[name].postprocess_nodes(candidates, query_str=query)

    def _found(self, candidate: Any) -> Found:
        text = candidate.node.get_content(MetadataMode.NONE)
        return Found(candidate.node_id, candidate.node.metadata["title"], text, candidate.score)

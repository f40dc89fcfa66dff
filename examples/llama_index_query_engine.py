"""A query engine of LlamaIndex over your own documents and embeddings, with reranking.

    python examples/llama_index_query_engine.py

prints the passage that the answer is made from, and the answer of the language model (here one
that repeats its prompt; give your own, such as ``OpenAILike``, as ``llm=``):

    The warranty covers the motor for ten years, and everything else for two.
    True
"""

from __future__ import annotations

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.llms import MockLLM
from sklearn.feature_extraction.text import HashingVectorizer

from rerank_plugins.llama_index import CrossEncoderRerank

TEXTS = [
    "The warranty covers the motor for ten years, and everything else for two.",
    "Clean the filter of the motor every month, and let it dry before you put it back.",
    "The motor turns 1,400 times a minute; the drum holds eight kilograms.",
    "Unplug the machine before you open it.",
]


class HashedWords(BaseEmbedding):
    """In the place of your own, such as ``HuggingFaceEmbedding``."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return HashingVectorizer(n_features=1024).transform([text]).toarray()[0].tolist()  # type: ignore[no-any-return]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


def main() -> None:
    documents = [Document(text=text) for text in TEXTS]
    index = VectorStoreIndex.from_documents(documents, embed_model=HashedWords())
    engine = index.as_query_engine(
        llm=MockLLM(),
        similarity_top_k=50,
        node_postprocessors=[CrossEncoderRerank(model="embedded", top_n=1)],
    )
    answer = engine.query("how long is the motor covered?")
    [source] = answer.source_nodes
    print(source.text)
    print(source.text in str(answer))


if __name__ == "__main__":
    main()

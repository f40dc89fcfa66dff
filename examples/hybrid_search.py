"""Hybrid search: BM25 and FAISS fused by reciprocal ranks, then reranked.

    python examples/hybrid_search.py

prints what each finds first, and what is first in the end:

    BM25      Error E42: the pump is blocked.
    FAISS     What the pump does: it takes the water out of the drum.
    reranked  Error E42: the pump is blocked.
"""

from __future__ import annotations

import bm25s
from langchain_classic.retrievers import EnsembleRetriever
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from langchain_own_documents import HashedWords

from rerank_plugins.faiss import FaissVectorStore
from rerank_plugins.langchain import CrossEncoderRerank

TEXTS = [
    "The pump does not run: look whether something is stuck in it.",
    "Error E42: the pump is blocked.",
    "Error E17: the door is open.",
    "What the pump does: it takes the water out of the drum.",
]
QUESTION = "what does error E42 of the pump mean?"


def main() -> None:
    documents = [Document(text, id=str(place)) for place, text in enumerate(TEXTS)]
    words = bm25s.BM25()
    words.index(bm25s.tokenize(TEXTS, show_progress=False), show_progress=False)

    def by_words(query: str) -> list[Document]:
        tokens = bm25s.tokenize([query], show_progress=False)
        found, _ = words.retrieve(tokens, corpus=documents, k=3, show_progress=False)
        return list(found[0])

    lexical = RunnableLambda(by_words)
    vectors = FaissVectorStore.from_documents(documents, HashedWords()).as_retriever(
        search_kwargs={"k": 3}
    )
    # EnsembleRetriever fuses by reciprocal ranks: no unit of either score matters.
    both = EnsembleRetriever(retrievers=[lexical, vectors], weights=[0.5, 0.5])
    reranked = CrossEncoderRerank(model="embedded", top_n=1).over(both)
    print("BM25     ", lexical.invoke(QUESTION)[0].page_content)
    print("FAISS    ", vectors.invoke(QUESTION)[0].page_content)
    print("reranked ", reranked.invoke(QUESTION)[0].page_content)


if __name__ == "__main__":
    main()

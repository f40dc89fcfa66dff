"""Reranking as a node of LangGraph, between retrieving and answering.

    python examples/langgraph_node.py

prints the documents of the state at the end:

    list.sort() sorts the items of the list in place.
"""

from __future__ import annotations

from typing import Any, TypedDict

from langchain_core.documents import Document
from langgraph.graph import END, START, StateGraph

from rerank_plugins.langchain import CrossEncoderRerank


class State(TypedDict):
    query: str
    documents: list[Document]


def retrieve(state: State) -> dict[str, Any]:
    """Put what your first stage finds for ``state["query"]`` into the state."""
    texts = [
        "The river Thames flows through London.",
        "list.sort() sorts the items of the list in place.",
    ]
    return {"documents": [Document(text) for text in texts]}


def main() -> None:
    rerank = CrossEncoderRerank(model="embedded", top_n=1)
    graph = StateGraph(State)
    graph.add_node("retrieve", retrieve)
    graph.add_node("rerank", rerank.as_runnable(output_key="documents"))
    graph.add_edge(START, "retrieve")
    graph.add_edge("retrieve", "rerank")
    graph.add_edge("rerank", END)
    state = graph.compile().invoke({"query": "how do I sort a list?", "documents": []})
    for document in state["documents"]:
        print(document.page_content)


if __name__ == "__main__":
    main()

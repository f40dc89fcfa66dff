"""A tool for an agent: search, rerank, and say so where nothing is relevant.

    python examples/agent_tool.py

prints what a language model would get from the tool:

    list.sort() sorts the items of the list in place.
    Nothing relevant was found.
"""

from __future__ import annotations

from langchain_core.documents import Document
from langchain_core.tools import tool

from rerank_plugins.langchain import CrossEncoderRerank

LIBRARY = [
    Document("list.sort() sorts the items of the list in place."),
    Document("A tuple is an immutable sequence, written in parentheses."),
    Document("The river Thames flows through London."),
]
# Fit the threshold on questions of your own: examples/threshold.py.
rerank = CrossEncoderRerank(
    model="embedded", top_n=1, score_unit="probability", score_threshold=0.5
)


@tool
def search_documentation(question: str) -> str:
    """Search the documentation for passages that answer a question."""
    candidates = LIBRARY  # what your first stage finds
    found = rerank.compress_documents(candidates, question)
    return "\n\n".join(document.page_content for document in found) or "Nothing relevant was found."


def main() -> None:
    # agent = create_agent(model, tools=[search_documentation])
    for question in ("how do I sort a list?", "who won the match on Sunday?"):
        print(search_documentation.invoke({"question": question}))


if __name__ == "__main__":
    main()

"""Answer a question about Python from Python's own documentation, with LangChain.

    python examples/langchain_faiss_rag.py "How do I keep a list sorted while I add to it?"

FAISS finds 50 passages, the cross-encoder and FAISS together keep the best 4, and a language model
answers from them. RERANK_MODEL names another cross-encoder than the embedded one. OPENAI_BASE_URL,
OPENAI_API_KEY and OPENAI_MODEL name the language model; without them the prompt is printed.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request

from langchain_core.documents import Document
from langchain_core.runnables import Runnable

from rerank_plugins.demo.first_stage import first_stage
from rerank_plugins.langchain import CrossEncoderRerank

QUESTION = "I open a variable number of files and need all of them closed at the end"


def build_retriever() -> Runnable[str, list[Document]]:
    """Return a retriever of two stages."""
    store = first_stage()  # a FaissVectorStore; its vectors are made once and kept
    rerank = CrossEncoderRerank(
        model=os.environ.get("RERANK_MODEL", "embedded"), top_n=4, first_stage_weight=0.5
    )
    return rerank.over(store.as_retriever(search_kwargs={"k": 50, "score_key": "score"}))


def build_prompt(question: str, documents: list[Document]) -> str:
    """Return the question with its numbered context."""
    context = "\n\n".join(
        f"[{number}] {document.id}, score {document.metadata['relevance_score']:.2f}\n"
        f"{document.page_content}"
        for number, document in enumerate(documents, start=1)
    )
    return (
        "Answer from the numbered passages only, and name the numbers you used.\n\n"
        f"{context}\n\nQuestion: {question}\nAnswer:"
    )


def ask(prompt: str) -> str:
    """Return what the language model answers."""
    url = os.environ["OPENAI_BASE_URL"].rstrip("/") + "/chat/completions"
    model = os.environ.get("OPENAI_MODEL", "default")
    body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    key = os.environ.get("OPENAI_API_KEY", "none")
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as response:
        answer: str = json.load(response)["choices"][0]["message"]["content"]
    return answer


def main() -> None:
    question = " ".join(sys.argv[1:]) or QUESTION
    documents = build_retriever().invoke(question)
    prompt = build_prompt(question, documents)
    if "OPENAI_BASE_URL" in os.environ:
        print(ask(prompt))
    else:
        print(f"{prompt}\n\n(No language model: OPENAI_BASE_URL is not set. This is its prompt.)")


if __name__ == "__main__":
    main()

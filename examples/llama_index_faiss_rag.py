"""Answer a question about Python from Python's own documentation, with LlamaIndex.

    python examples/llama_index_faiss_rag.py "How do I keep a list sorted while I add to it?"

FAISS finds 50 passages, the cross-encoder and FAISS together keep the best 4, and a language model
answers from them. RERANK_MODEL names another cross-encoder than the embedded one. OPENAI_BASE_URL,
OPENAI_API_KEY and OPENAI_MODEL name the language model; without them the prompt is printed.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request

from llama_index.core.schema import NodeWithScore

from rerank_plugins.demo.first_stage import first_stage
from rerank_plugins.demo.llama_index_pipeline import vector_store_index
from rerank_plugins.llama_index import CrossEncoderRerank

QUESTION = "I open a variable number of files and need all of them closed at the end"


def retrieve(question: str) -> list[NodeWithScore]:
    """Return the best nodes of two stages."""
    index = vector_store_index(first_stage())  # LlamaIndex's FaissVectorStore; made once and kept
    rerank = CrossEncoderRerank(
        model=os.environ.get("RERANK_MODEL", "embedded"), top_n=4, first_stage_weight=0.5
    )
    nodes = index.as_retriever(similarity_top_k=50).retrieve(question)
    return rerank.postprocess_nodes(nodes, query_str=question)


def build_prompt(question: str, nodes: list[NodeWithScore]) -> str:
    """Return the question with its numbered context."""
    context = "\n\n".join(
        f"[{number}] {node.node_id}, score {node.score:.2f}\n{node.text}"
        for number, node in enumerate(nodes, start=1)
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
    prompt = build_prompt(question, retrieve(question))
    if "OPENAI_BASE_URL" in os.environ:
        print(ask(prompt))
    else:
        print(f"{prompt}\n\n(No language model: OPENAI_BASE_URL is not set. This is its prompt.)")


if __name__ == "__main__":
    main()

"""Ask a running server through other projects' clients: ``python drive.py URL KEY``.

Runs in an environment of the clients' own (``make clients``), which holds nothing of this package.
Each function asks for the same ranking and returns (index, score) best first.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

QUERY = "how do I sort a list?"
DOCUMENTS = [
    "The river Thames flows through London.",
    "list.sort() sorts the items of the list in place.",
    "A tuple is an immutable sequence, written in parentheses.",
]
MODEL = "embedded"
Rows = list[tuple[int, float]]
CLIENTS: dict[str, Callable[[str, str], Rows]] = {}


def client(function: Callable[[str, str], Rows]) -> Callable[[str, str], Rows]:
    CLIENTS[function.__name__] = function
    return function


@client
def cohere_v2(url: str, key: str) -> Rows:
    import cohere

    answer = cohere.ClientV2(key, base_url=url).rerank(
        model=MODEL, query=QUERY, documents=DOCUMENTS, top_n=None
    )
    return [(row.index, row.relevance_score) for row in answer.results]


@client
def cohere_v1(url: str, key: str) -> Rows:
    import cohere

    answer = cohere.Client(key, base_url=url).rerank(
        model=MODEL,
        query=QUERY,
        documents=[{"text": text} for text in DOCUMENTS],
        return_documents=True,
    )
    assert all(row.document.text == DOCUMENTS[row.index] for row in answer.results)
    return [(row.index, row.relevance_score) for row in answer.results]


@client
def langchain_cohere(url: str, key: str) -> Rows:
    from langchain_cohere import CohereRerank

    rerank = CohereRerank(model=MODEL, cohere_api_key=key, base_url=url, top_n=None)
    found = rerank.rerank(DOCUMENTS, QUERY)
    return [(row["index"], row["relevance_score"]) for row in found]


@client
def together(url: str, key: str) -> Rows:
    from together import Together

    answer = Together(api_key=key, base_url=url).rerank.create(
        model=MODEL, query=QUERY, documents=DOCUMENTS
    )
    return [(row.index, row.relevance_score) for row in answer.results]


@client
def openai_post(url: str, key: str) -> Rows:
    import openai

    body = {"model": MODEL, "query": QUERY, "documents": DOCUMENTS}
    answer: Any = openai.OpenAI(api_key=key, base_url=f"{url}/v1").post(
        "/rerank", body=body, cast_to=object
    )
    return [(row["index"], row["relevance_score"]) for row in answer["results"]]


@client
def voyageai(url: str, key: str) -> Rows:
    import voyageai

    found = voyageai.Client(api_key=key, base_url=f"{url}/v1").rerank(QUERY, DOCUMENTS, MODEL)
    return [(row.index, row.relevance_score) for row in found.results]


@client
def langchain_voyageai(url: str, key: str) -> Rows:
    from langchain_core.documents import Document
    from langchain_voyageai import VoyageAIRerank

    rerank = VoyageAIRerank(model=MODEL, api_key=key, base_url=f"{url}/v1", top_k=None)
    found = rerank.compress_documents([Document(text) for text in DOCUMENTS], QUERY)
    return [
        (DOCUMENTS.index(each.page_content), each.metadata["relevance_score"]) for each in found
    ]


@client
def langchain_community_jina(url: str, key: str) -> Rows:
    from langchain_community.document_compressors import jina_rerank

    jina_rerank.JINA_API_URL = f"{url}/v1/rerank"  # its only way to another address
    found = jina_rerank.JinaRerank(model=MODEL, jina_api_key=key, top_n=3).rerank(DOCUMENTS, QUERY)
    return [(row["index"], row["relevance_score"]) for row in found]


def _haystack(ranker: Any) -> Rows:
    from haystack import Document

    documents = [Document(content=text) for text in DOCUMENTS]
    found = ranker.run(query=QUERY, documents=documents)["documents"]
    return [(DOCUMENTS.index(each.content), each.score) for each in found]


@client
def haystack_jina(url: str, key: str) -> Rows:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.jina import JinaRanker

    secret = Secret.from_token(key)
    return _haystack(JinaRanker(model=MODEL, api_key=secret, base_url=f"{url}/v1/rerank"))


@client
def haystack_tei(url: str, key: str) -> Rows:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker

    return _haystack(HuggingFaceTEIRanker(url=url, token=Secret.from_token(key)))


def _rerankers(provider: str, address: str, key: str) -> Rows:
    from rerankers.models.api_rankers import APIRanker

    found = APIRanker(MODEL, key, provider, url=address).rank(QUERY, DOCUMENTS)
    return [(DOCUMENTS.index(row.document.text), row.score) for row in found.results]


@client
def rerankers_cohere(url: str, key: str) -> Rows:
    return _rerankers("cohere", f"{url}/v1/rerank", key)


@client
def rerankers_voyage(url: str, key: str) -> Rows:
    return _rerankers("voyage", f"{url}/v1/rerank", key)


@client
def rerankers_tei(url: str, key: str) -> Rows:
    return _rerankers("text-embeddings-inference", f"{url}/rerank", key)


def _nodes() -> list[Any]:
    from llama_index.core.schema import NodeWithScore, TextNode

    return [NodeWithScore(node=TextNode(text=text, id_=str(i))) for i, text in enumerate(DOCUMENTS)]


def _ranked(rerank: Any) -> Rows:
    found = rerank.postprocess_nodes(_nodes(), query_str=QUERY)
    return [(int(node.node_id), node.score) for node in found]


@client
def llama_index_cohere(url: str, key: str) -> Rows:
    from llama_index.postprocessor.cohere_rerank import CohereRerank

    return _ranked(CohereRerank(top_n=3, model=MODEL, api_key=key, base_url=url))


@client
def llama_index_jinaai(url: str, key: str) -> Rows:
    from llama_index.postprocessor.jinaai_rerank import JinaRerank

    return _ranked(JinaRerank(top_n=3, model=MODEL, base_url=f"{url}/v1", api_key=key))


@client
def llama_index_tei(url: str, key: str) -> Rows:
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

    return _ranked(TextEmbeddingInference(top_n=3, base_url=url, auth_token=f"Bearer {key}"))


@client
def llama_index_siliconflow(url: str, key: str) -> Rows:
    from llama_index.postprocessor.siliconflow_rerank import SiliconFlowRerank

    return _ranked(
        SiliconFlowRerank(model=MODEL, base_url=f"{url}/v1/rerank", api_key=key, top_n=3)
    )


def _litellm(provider: str, base: str, key: str) -> Rows:
    import litellm

    answer = litellm.rerank(
        model=f"{provider}/{MODEL}", query=QUERY, documents=DOCUMENTS, api_base=base, api_key=key
    )
    return [(row["index"], row["relevance_score"]) for row in answer.results]


@client
def litellm_cohere(url: str, key: str) -> Rows:
    return _litellm("cohere", url, key)


@client
def litellm_jina_ai(url: str, key: str) -> Rows:
    return _litellm("jina_ai", f"{url}/v1/rerank", key)


@client
def litellm_hosted_vllm(url: str, key: str) -> Rows:
    return _litellm("hosted_vllm", url, key)


@client
def litellm_huggingface(url: str, key: str) -> Rows:
    return _litellm("huggingface", url, key)


@client
def litellm_proxy(url: str, key: str) -> Rows:
    return _litellm("litellm_proxy", url, key)


def main() -> int:
    """Ask through each client; print what came of it; return how many failed."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or litellm asks the web at import
    url, key = sys.argv[1:]
    failed = 0
    for name, ask in CLIENTS.items():
        try:
            rows = ask(url, key)
            assert rows[0][0] == 1, rows
            assert len(rows) == len(DOCUMENTS), rows
            scores = [score for _, score in rows]
            assert scores == sorted(scores, reverse=True), rows
            assert 0.0 <= min(scores) <= max(scores) <= 1.0, rows
            print(f"passed  {name}")
        except Exception:
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}")
    print(f"{len(CLIENTS) - failed} passed, {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(main())

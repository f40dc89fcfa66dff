"""Documents in, ranked documents out: the frameworks' own rerankers and ours."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.peers import MAX_LENGTH
from rerank_plugins.workloads import Call, ScoreCalls, Texts, Workload

TOP_N = 10
N_CANDIDATES = 100


def langchain_reranker(folder: str) -> ScoreCalls:
    """LangChain's CrossEncoderReranker around sentence-transformers."""
    from langchain_classic.retrievers.document_compressors import CrossEncoderReranker
    from langchain_core.cross_encoders import BaseCrossEncoder
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(folder, device="cpu", max_length=MAX_LENGTH)

    class Adapter(BaseCrossEncoder):
        def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
            return model.predict(text_pairs, show_progress_bar=False)  # type: ignore[no-any-return]

    return _contestant(langchain_call(CrossEncoderReranker(model=Adapter(), top_n=TOP_N)))


def llama_index_reranker(folder: str) -> ScoreCalls:
    """LlamaIndex's SentenceTransformerRerank."""
    from llama_index.core.postprocessor import SentenceTransformerRerank

    reranker = SentenceTransformerRerank(model=folder, top_n=TOP_N, device="cpu")
    return _contestant(llama_index_call(reranker))


def our_langchain(folder: str) -> ScoreCalls:
    from rerank_plugins.langchain import CrossEncoderRerank

    return _contestant(langchain_call(CrossEncoderRerank(model=folder, device="cpu", top_n=TOP_N)))


def our_llama_index(folder: str) -> ScoreCalls:
    from rerank_plugins.llama_index import CrossEncoderRerank

    reranker = CrossEncoderRerank(model=folder, device="cpu", top_n=TOP_N)
    return _contestant(llama_index_call(reranker))


# From one call's texts to what is timed: documents are the retriever's work, not the reranker's.
Prepare = Callable[[str, list[str]], Callable[[], object]]


def langchain_call(reranker: Any) -> Prepare:
    from langchain_core.documents import Document

    def prepare(query: str, passages: list[str]) -> Callable[[], object]:
        documents = [Document(page_content=passage) for passage in passages]
        return lambda: reranker.compress_documents(documents, query)

    return prepare


def llama_index_call(reranker: Any) -> Prepare:
    from llama_index.core.schema import NodeWithScore, TextNode

    def prepare(query: str, passages: list[str]) -> Callable[[], object]:
        nodes = [NodeWithScore(node=TextNode(text=passage)) for passage in passages]
        return lambda: reranker.postprocess_nodes(nodes, query_str=query)

    return prepare


def _contestant(prepare: Prepare) -> ScoreCalls:
    def score(calls: Sequence[Call]) -> list[list[float]]:
        for query, passages in calls:
            prepare(query, passages)()
        return []  # the frameworks' rerankers give documents back, without scores

    return score


def adapters_overhead(
    folder: str, *, repeats: int, tell: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Time each adapter and the scorer it holds on the same texts, in turn, without callbacks."""
    from rerank_plugins import langchain, llama_index, shared_scorer

    scorer = shared_scorer(folder, device="cpu")
    prepares = {
        "rerank_plugins.langchain": langchain_call(
            langchain.CrossEncoderRerank(scorer=scorer, top_n=TOP_N)
        ),
        "rerank_plugins.llama_index": llama_index_call(
            llama_index.CrossEncoderRerank(scorer=scorer, top_n=TOP_N)
        ),
    }
    workload = Workload(name="overhead", n_queries=1, n_candidates=N_CANDIDATES)
    found = {}
    for name, prepare in prepares.items():
        tell(f"{name}: what it adds to the scorer")
        texts, adapter_s, scorer_s = Texts(7), [], []
        for repeat in range(repeats + 2):
            ((query, passages),) = texts.calls(workload)
            # Both sides then meet these passages for the second time or later: else whoever is
            # first would tokenise them for the other.
            scorer.score(texts.words(6), passages)
            adapter = prepare(query, passages)
            took = [0.0, 0.0]
            for side in (0, 1) if repeat % 2 else (1, 0):
                begin = time.perf_counter()
                if side:
                    scorer.score(query, passages)
                else:
                    adapter()
                took[side] = time.perf_counter() - begin
            if repeat >= 2:
                adapter_s.append(took[0])
                scorer_s.append(took[1])
        found[name] = {
            "n_candidates": N_CANDIDATES,
            "adapter_s": adapter_s,
            "scorer_s": scorer_s,
            **overhead(adapter_s, scorer_s),
        }
    return found


def overhead(adapter_s: Sequence[float], scorer_s: Sequence[float]) -> dict[str, float]:
    """Return the median, repeat by repeat, of what an adapter adds, as a share of the scorer's.

    >>> overhead([1.1, 2.0, 1.0], [1.0, 1.0, 1.0])["median"]
    0.10000000000000009
    """
    shares = sorted(
        (own - scorer) / scorer for own, scorer in zip(adapter_s, scorer_s, strict=True)
    )
    return {
        "median": statistics.median(shares),
        "lower_quartile": shares[len(shares) // 4],
        "upper_quartile": shares[3 * len(shares) // 4],
    }

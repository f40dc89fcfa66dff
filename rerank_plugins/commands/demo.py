"""``rerank-plugins demo``: questions about Python, before and after reranking."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rerank_plugins.commands.display import CommandProgress, print_json
from rerank_plugins.errors import InvalidArgumentError, require_extra
from rerank_plugins.models import EMBEDDED_MODELS

if TYPE_CHECKING:
    from rerank_plugins.cross_encoder import CrossEncoderScorer
    from rerank_plugins.demo.display import Display
    from rerank_plugins.demo.pipeline import Answer, Pipeline

HELP = "answer questions about Python from Python's own documentation"
DESCRIPTION = """\
Retrieve passages of Python's documentation with FAISS over a bi-encoder, rerank them with
cross-encoders, and show the rankings with both stages' scores side by side; then measure all
systems, alone and together, over 138 judged questions, or answer yours (--query). Nothing is
downloaded: corpus, questions and models come with the packages. The vectors are made at the first
run and kept in the user's cache folder.
"""
EVERY = 46  # of the judged questions in the order of their ids, one of so many is shown
_MODULES = ("langchain_core", "llama_index", "faiss", "sentence_transformers", "ir_measures")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION
    parser.add_argument(
        "-q",
        "--query",
        action="append",
        metavar="TEXT",
        help="ask this in place of the judged questions (repeatable)",
    )
    parser.add_argument(
        "--framework",
        choices=("langchain", "llama-index"),
        default="langchain",
        help="run the same two stages in this framework (default: langchain)",
    )
    parser.add_argument(
        "-m",
        "--model",
        action="append",
        help="cross-encoder: a Hub id, a local folder, or an embedded one (repeatable; default: "
        f"{' and '.join(EMBEDDED_MODELS)})",
    )
    parser.add_argument(
        "--embedding",
        metavar="NAME",
        help="a sentence-transformers model for the first stage (default: all-MiniLM-L6-v2)",
    )
    parser.add_argument("--rebuild", action="store_true", help="make the vectors again")
    parser.add_argument(
        "--top-k", type=int, default=50, metavar="N", help="passages to rerank (default: 50)"
    )
    parser.add_argument(
        "-d", "--device", help="cpu, cuda, cuda:1, mps (default: the best there is)"
    )
    parser.add_argument("-j", "--json", action="store_true", help="print everything as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run both stages and show what came out."""
    if arguments.top_k < 1:
        raise InvalidArgumentError(f"--top-k must be at least 1, got {arguments.top_k}")
    if any(not query.strip() for query in arguments.query or ()):
        raise InvalidArgumentError("--query is empty; give the text of a question")
    require_extra(*_MODULES, extra="demo", purpose="rerank-plugins demo")
    from rerank_plugins.demo.collection import read_demo
    from rerank_plugins.demo.display import Display
    from rerank_plugins.demo.quality import qualities, retrieved_share
    from rerank_plugins.evaluation.report import environment

    display = Display(quiet=arguments.json)
    collection = read_demo()
    # The models first: if one cannot be had, that should show before anything else is waited for.
    names = dict.fromkeys(arguments.model or EMBEDDED_MODELS)
    scorers = {name: _scorer(name, arguments.device) for name in names}
    answers: dict[str, Answer] = {}
    with CommandProgress() as progress:
        pipeline = _pipeline(arguments, scorers, display, progress)
        if arguments.query:
            shown = [pipeline.answer(query) for query in arguments.query]
        else:
            advance = progress.step("Asking the judged questions", len(collection.queries))
            for query_id, query in collection.queries.items():
                answers[query_id] = pipeline.answer(query)
                advance(1)
            shown = _shown(answers, collection.qrels, pipeline.systems[-1])
    if not arguments.query:
        display.lines(
            f"Shown: every {EVERY}th judged question by id, and the first whose answer falls; each "
            "model with the first stage's scores (the table below has them alone, too).",
        )
    judged = {query: collection.qrels[name] for name, query in collection.queries.items()}
    for answer in shown:
        display.answer(answer, judged.get(answer.query, {}))
    found, share = [], None
    if answers:
        found = qualities(answers, collection.qrels, pipeline.systems)
        share = retrieved_share(answers, collection.qrels)
        display.quality(found, n_queries=len(answers), depth=arguments.top_k, share=share)
    if arguments.json:
        print_json(
            {
                "framework": arguments.framework,
                "models": {
                    name: {"device": scorer.device, "dtype": scorer.dtype}
                    for name, scorer in scorers.items()
                },
                "embedding": arguments.embedding or "all-MiniLM-L6-v2",
                "top_k": arguments.top_k,
                "n_passages": len(collection.passages),
                "n_queries": len(answers),
                "retrieved_share": share,
                "systems": [asdict(system) for system in found],
                "answers": [_data(answer) for answer in shown],
                "environment": environment(),
            }
        )
    return 0


def _pipeline(
    arguments: argparse.Namespace,
    scorers: Mapping[str, CrossEncoderScorer],
    display: Display,
    progress: CommandProgress,
) -> Pipeline:
    from rerank_plugins.demo.collection import read_demo
    from rerank_plugins.demo.first_stage import (
        DEFAULT_EMBEDDING,
        SentenceTransformerEmbedding,
        first_stage,
    )

    embedding = SentenceTransformerEmbedding(
        arguments.embedding or DEFAULT_EMBEDDING, device=arguments.device
    )
    store = first_stage(embedding, rebuild=arguments.rebuild, progress=progress, say=display.lines)
    display.lines(
        f"{len(read_demo().passages):,} passages of Python's documentation; "
        f"FAISS over {embedding.name} finds {arguments.top_k},",
        *(f"{name} reranks them on {s.device} in {s.dtype}" for name, s in scorers.items()),
    )
    if arguments.framework == "langchain":
        from rerank_plugins.demo.langchain_pipeline import LangChainPipeline

        return LangChainPipeline(store, scorers, arguments.top_k)
    from rerank_plugins.demo.llama_index_pipeline import LlamaIndexPipeline

    return LlamaIndexPipeline(store, scorers, arguments.top_k)


def _shown(
    answers: Mapping[str, Answer], qrels: Mapping[str, Mapping[str, int]], system: str
) -> list[Answer]:
    """Return the answers to show: by a rule, so that nobody picks the ones that look good."""
    from rerank_plugins.demo.pipeline import FIRST_STAGE
    from rerank_plugins.demo.quality import first_relevant

    names = sorted(answers)
    chosen = names[::EVERY]
    for name in names:
        before = first_relevant(answers[name], FIRST_STAGE, qrels[name])
        after = first_relevant(answers[name], system, qrels[name])
        if before is not None and after is not None and after > before and name not in chosen:
            chosen.append(name)
            break
    return [answers[name] for name in chosen]


def _scorer(name: str, device: str | None) -> CrossEncoderScorer:
    """Load a model, in bfloat16 on a processor that has it."""
    from rerank_plugins.cross_encoder.devices import resolve_devices
    from rerank_plugins.cross_encoder.forward.int8 import processor_has
    from rerank_plugins.registry import shared_scorer

    on_cpu = [found.type for found in resolve_devices(device)] == ["cpu"]
    dtype = "bfloat16" if on_cpu and processor_has("avx512_bf16") else "auto"
    scorer = shared_scorer(name, device=device, dtype=dtype)
    scorer.warmup()
    return scorer


def _data(answer: Answer) -> dict[str, Any]:
    return {
        "query": answer.query,
        "ms": dict(answer.ms),
        "rankings": {
            name: [{"id": found.id, "score": found.score} for found in ranking]
            for name, ranking in answer.rankings.items()
        },
    }

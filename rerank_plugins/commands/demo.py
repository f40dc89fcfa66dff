"""``rerank-plugins demo``: retrieve and rerank Python's own documentation, before and after."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rerank_plugins.errors import InvalidArgumentError, require_extra
from rerank_plugins.models import EMBEDDED_MODEL
from rerank_plugins.registry import shared_scorer

if TYPE_CHECKING:
    from rerank_plugins.cross_encoder import CrossEncoderScorer
    from rerank_plugins.demo.corpus import Passage
    from rerank_plugins.demo.display import Display
    from rerank_plugins.demo.embedding import Embedding
    from rerank_plugins.demo.pipeline import Pipeline
    from rerank_plugins.demo.report import Report

HELP = "answer questions about Python from Python's own documentation"
DESCRIPTION = """\
Retrieve passages of Python's own documentation with FAISS, rerank them with the cross-encoder, and
show both rankings side by side; then measure both over all judged questions. Everything is on this
machine: the documentation comes with Python, the vectors are fitted on it, the model comes with
this package.
"""
# A handful of the judged questions, shown when no --query is given. The measures are over all.
SHOWN = ("capture-print", "make-folders", "memoize", "expect-error")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION
    parser.add_argument("--query", action="append", metavar="TEXT", help="ask this (repeatable)")
    parser.add_argument(
        "--framework",
        choices=("langchain", "llama-index"),
        default="langchain",
        help="run the same two stages in this framework (default: langchain)",
    )
    parser.add_argument(
        "--model",
        default=EMBEDDED_MODEL,
        help=f"cross-encoder: a Hub id, a local folder or '{EMBEDDED_MODEL}' (default)",
    )
    parser.add_argument(
        "--embedding",
        metavar="NAME",
        help="a sentence-transformers model for the first stage (default: latent semantic "
        "analysis, fitted on the passages)",
    )
    parser.add_argument(
        "--top-k", type=int, default=50, metavar="N", help="passages to rerank (default: 50)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the best there is)")
    parser.add_argument(
        "--no-measures", action="store_true", help="leave out the judged questions at the end"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run both stages and show what came out."""
    if arguments.top_k < 1:
        raise InvalidArgumentError(f"--top-k must be at least 1, got {arguments.top_k}")
    if any(not query.strip() for query in arguments.query or ()):
        raise InvalidArgumentError("--query is empty; give the text of a question")
    modules = ("langchain_core", "llama_index", "faiss", "sklearn", "ir_measures")
    require_extra(*modules, extra="demo", purpose="rerank-plugins demo")
    from rerank_plugins.demo.display import FRAMEWORK_NAMES, Display
    from rerank_plugins.demo.judgements import judge, read_questions
    from rerank_plugins.demo.report import measure

    display = Display(quiet=arguments.json)
    version = ".".join(map(str, sys.version_info[:3]))
    display.header(f"Questions about Python {version}, in {FRAMEWORK_NAMES[arguments.framework]}")
    report, passages, pipeline = _prepared(arguments, display)
    display.setting(report)
    questions = read_questions()
    qrels, report.not_in_this_python = judge(questions, passages)
    by_query = {question.query: qrels[question.query_id] for question in questions}
    queries = arguments.query or [q.query for q in questions if q.query_id in SHOWN]
    for query in queries:
        answer = pipeline.answer(query)
        report.answers.append(answer)
        display.answer(answer, by_query.get(query, {}))
    if any(query in by_query for query in queries):
        display.marks()
    if not arguments.no_measures:
        tracked = display.track(questions, "Asking all judged questions")
        answers = {question.query_id: pipeline.answer(question.query) for question in tracked}
        report.quality = measure(answers, qrels, arguments.top_k)
        display.quality(report.quality, report)
    if arguments.json:
        sys.stdout.write(json.dumps(report.as_dict(), indent=2, ensure_ascii=False) + "\n")
    return 0


def _prepared(
    arguments: argparse.Namespace, display: Display
) -> tuple[Report, list[Passage], Pipeline]:
    from rerank_plugins.demo.corpus import read_corpus
    from rerank_plugins.demo.frameworks import pipeline_class
    from rerank_plugins.demo.report import Report

    seconds: dict[str, float] = {}

    @contextmanager
    def timed(name: str, description: str) -> Iterator[None]:
        start = time.perf_counter()
        with display.step(description):
            yield
        seconds[name] = time.perf_counter() - start

    # The model first: if it cannot be had, that should show before anything else was waited for.
    with timed("loading the model", f"Loading {arguments.model}"):
        scorer = _scorer(arguments)
    start = time.perf_counter()
    passages = read_corpus(display.track_files)
    seconds["reading"] = time.perf_counter() - start
    texts = [passage.text for passage in passages]
    with timed("embedding", "Embedding the passages"):
        embedding = _embedding(arguments, texts)
        vectors = embedding.embed_documents(texts)
    with timed("indexing", "Indexing"):
        build = pipeline_class(arguments.framework)
        pipeline = build(passages, vectors, embedding, scorer, arguments.top_k)
    report = Report(
        framework=arguments.framework,
        model=scorer.model,
        device=str(scorer.device),
        score_unit=scorer.score_unit,
        top_k=arguments.top_k,
        embedding=embedding.name,
        n_passages=len(passages),
        seconds=seconds,
    )
    return report, passages, pipeline


def _embedding(arguments: argparse.Namespace, texts: list[str]) -> Embedding:
    from rerank_plugins.demo.embedding import LatentSemanticEmbedding, SentenceTransformerEmbedding

    if arguments.embedding:
        return SentenceTransformerEmbedding(arguments.embedding, device=arguments.device)
    return LatentSemanticEmbedding(texts)


def _scorer(arguments: argparse.Namespace) -> CrossEncoderScorer:
    scorer = shared_scorer(arguments.model, device=arguments.device)
    scorer.warmup()
    return scorer

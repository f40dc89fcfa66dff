"""The demo's corpus, questions and judgements, as they ship with the package."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rerank_plugins.evaluation.beir import read_queries
from rerank_plugins.evaluation.trec import read_qrels
from rerank_plugins.fingerprint import file_digest
from rerank_plugins.text_files import json_object, numbered_lines

DATA = Path(__file__).with_name("data")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of documentation; ``title`` says what it is about, ``text`` is what is read."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class DemoCollection:
    """All of it; ``digest`` names the corpus, so that vectors of another are not taken for its own.

    ``queries`` is ``{query_id: query}``, ``qrels`` is ``{query_id: {doc_id: relevance}}``, where 2
    answers the question and 1 helps.
    """

    passages: tuple[Passage, ...]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    digest: str


@cache
def read_demo() -> DemoCollection:
    """Return the demo's collection."""
    path = DATA / "corpus.jsonl.gz"
    passages = []
    for number, _, raw in numbered_lines(path):
        row = json_object(raw, path, number, expected='{"_id": ..., "title": ..., "text": ...}')
        text = f"{row['title']}\n{row['text']}"
        passages.append(Passage(row["_id"], row["title"], text))
    return DemoCollection(
        tuple(passages),
        dict(read_queries(DATA / "queries.jsonl")),
        read_qrels(DATA / "qrels.txt"),
        file_digest(path),
    )

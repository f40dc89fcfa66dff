"""The judged questions about Python, and what they say about the passages of this corpus.

Each line of ``questions.jsonl`` is one question::

    {"query_id": "group-by", "query": "...", "relevant": {"itertools.groupby": 2, "re: findall": 1}}

``relevant`` maps a symbol, or ``symbol: words``, to a relevance: 2 answers the question, 1 helps.
The relevance is that of each passage that documents the symbol (and holds the words); a passage
named twice has the higher one. Passages not named are not relevant.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo_corpus.passages import Passage
from rerank_plugins.errors import DataFormatError

Qrels = dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its relevant symbols."""

    query_id: str
    query: str
    relevant: Mapping[str, int]


def read_questions(path: Path) -> list[Question]:
    """Return the questions of a JSON Lines file."""
    lines = path.read_text("utf-8").splitlines()
    questions: dict[str, Question] = {}
    for number, line in enumerate(lines, start=1):
        try:
            question = _question(json.loads(line))
            if question.query_id in questions:
                raise ValueError(f"query_id {question.query_id!r} was there before")
        except (ValueError, KeyError, TypeError) as error:
            raise DataFormatError(
                f"{path}, line {number}: {error!r}; see the other lines"
            ) from error
        questions[question.query_id] = question
    return list(questions.values())


def _question(row: Mapping[str, object]) -> Question:
    query_id, query, relevant = row["query_id"], row["query"], row["relevant"]
    if not isinstance(query_id, str) or not isinstance(query, str):
        raise ValueError("query_id and query must be strings")
    if not isinstance(relevant, dict) or not relevant:
        raise ValueError("relevant must map symbols to 1 or 2")
    for key, relevance in relevant.items():
        if relevance not in (1, 2) or isinstance(relevance, bool):
            raise ValueError(f"the relevance of {key!r} is {relevance!r}, not 1 or 2")
    return Question(query_id, query, relevant)


def judge(
    questions: Sequence[Question], passages: Sequence[Passage]
) -> tuple[Qrels, list[tuple[str, str]]]:
    """Return ``{query_id: {passage id: relevance}}`` and what this corpus lacks.

    The second list holds ``(query_id, key)`` for each judged symbol without a passage, as another
    version of Python may bring about.
    """
    by_symbol: dict[str, list[Passage]] = defaultdict(list)
    for passage in passages:
        for symbol in passage.symbols:
            by_symbol[symbol].append(passage)
    qrels: Qrels = {}
    lacking = []
    for question in questions:
        judged: dict[str, int] = {}
        for key, relevance in question.relevant.items():
            symbol, _, words = key.partition(": ")
            found = [passage for passage in by_symbol[symbol] if _holds(passage, words)]
            if not found:
                lacking.append((question.query_id, key))
            for passage in found:
                judged[passage.id] = max(relevance, judged.get(passage.id, 0))
        qrels[question.query_id] = judged
    return qrels, lacking


def _holds(passage: Passage, words: str) -> bool:
    return _plain(words) in _plain(f"{passage.title}\n{passage.text}")


def _plain(text: str) -> str:
    return " ".join(text.split()).lower()

"""Queries for passages: the shapes in which people ask, made from what a passage says."""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from training.passages import Passage, about_python
from training.question_forms import (
    DEFINITION_FORMS,
    GERUND_FORMS,
    HEADING_FORMS,
    QUESTION_OPENINGS,
    QUESTION_PATTERNS,
    SUMMARY_FORMS,
)

STOPWORDS = frozenset(
    "a an and are as at be been but by can could did do does for from had has have he her his how "
    "i if in into is it its may more most no not of on or our she should so such than that the "
    "their them then there these they this those to used using was we were what when where which "
    "who whom why will with would you your also any all each other one two only see e.g i.e".split()
)


BARE = "bare"


@dataclass(frozen=True, slots=True)
class Query:
    """``passage`` is the index of the passage it was made from; ``form`` says how.

    A question of form `BARE` came without a passage, and has -1.
    """

    text: str
    passage: int
    form: str


def content_words(text: str) -> list[str]:
    """Return the distinct words that carry meaning, in the order of the text.

    >>> content_words("The cat and the other cat sat on Mount Ararat.")
    ['cat', 'sat', 'mount', 'ararat']
    """
    words = re.findall(r"[A-Za-z][A-Za-z0-9'-]{2,}", text.lower())
    return list(dict.fromkeys(word for word in words if word not in STOPWORDS))


def questions_from(text: str, rng: random.Random) -> list[str]:
    """Return questions that sentences of ``text`` answer, by pattern.

    >>> questions_from("To make tea, boil water.", random.Random(0))[0].endswith("make tea")
    True
    """
    found = []
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        for pattern, forms in QUESTION_PATTERNS:
            match = pattern.search(sentence)
            if match:
                found.append(rng.choice(forms).format(*(part.strip() for part in match.groups())))
                break
    return found


def heading_query(heading: str, rng: random.Random) -> str:
    """Return a heading as someone would ask for it.

    >>> heading_query("Creating an index", random.Random(3)).endswith("create an index")
    True
    """
    match = re.match(r"^([A-Z][a-z]{2,})ing ((?:a |an |the |your )?.+)$", heading)
    if match:
        stem, rest = match.group(1).lower(), match.group(2)
        # creating -> create, running -> run: a rule of thumb, which is all a query needs.
        if re.search(r"(at|v|s|c|g|iz|ur|ir|l[iu]d|ak|os|r[iu]t|l[ie]t)$", stem):
            stem += "e"
        elif re.search(r"([bdgmnprt])\1$", stem):
            stem = stem[:-1]
        return rng.choice(GERUND_FORMS).format(verb=stem, rest=rest)
    return rng.choice(HEADING_FORMS).format(heading=heading)


class QueryMaker:
    """Makes queries for passages; knows which words are rare in the whole corpus."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        frequency: Counter[str] = Counter()
        for passage in passages:
            frequency.update(content_words(passage.text))
        self._rarity = {word: math.log(len(passages) / count) for word, count in frequency.items()}

    def keywords(self, text: str, rng: random.Random) -> str:
        """Return 2 to 7 content words, rarer ones more often, mostly in the order of the text."""
        words = content_words(text)
        n_words = min(len(words), rng.choice((2, 3, 3, 4, 4, 5, 6, 7)))
        keyed = sorted(
            words, key=lambda word: -(rng.random() ** (1 / (0.3 + self._rarity.get(word, 0.0))))
        )[:n_words]
        chosen = [word for word in words if word in keyed]
        if rng.random() < 0.2:
            rng.shuffle(chosen)
        return " ".join(chosen)

    def __call__(self, passage: Passage, rng: random.Random) -> Iterator[tuple[str, str]]:
        """Yield (form, query), the most natural ones first."""
        for question in passage.questions:
            yield "person", question
        if passage.kind == "definition":
            article = rng.choice(("", "", "a "))
            for form in rng.sample(DEFINITION_FORMS, 2):
                yield "definition", form.format(word=passage.title, a=article)
        elif passage.kind == "section":
            yield "heading", heading_query(passage.title, rng)
        elif passage.kind == "description":
            yield "summary", rng.choice(SUMMARY_FORMS).format(summary=passage.title)
        questions = questions_from(passage.text, rng)
        rng.shuffle(questions)
        for question in questions[:2]:
            yield "pattern", question
        keywords = self.keywords(passage.text, rng)
        yield "keywords", keywords
        if rng.random() < 0.5:
            sentence = rng.choice(re.split(r"(?<=[.!?])\s+", passage.text))
            words = self.keywords(sentence, rng)
            yield "question words", rng.choice(QUESTION_OPENINGS).format(words)
        if rng.random() < 0.15:
            sentences = re.split(r"(?<=[.!?])\s+", passage.text)
            yield "sentence", " ".join(rng.choice(sentences).split()[:20])


def build_queries(
    passages: Sequence[Passage], *, seed: int, limits: Mapping[str, int]
) -> list[Query]:
    """Return distinct queries in random order; ``limits`` bounds a form."""
    rng = random.Random(seed)
    make = QueryMaker(passages)
    found: dict[str, Query] = {}
    for index, passage in enumerate(passages):
        for form, text in make(passage, rng):
            clean = " ".join(text.split())
            if 2 <= len(content_words(clean)) or (form == "definition" and clean):
                found.setdefault(clean.lower(), Query(clean, index, form))
    queries = list(found.values())
    rng.shuffle(queries)
    taken: Counter[str] = Counter()
    kept = []
    for query in queries:
        taken[query.form] += 1
        if taken[query.form] <= limits.get(query.form, len(queries)):
            # Search boxes see little capital letters and few question marks.
            text = query.text.rstrip(" ?.") if rng.random() < 0.7 else query.text
            kept.append(
                Query(text.lower() if rng.random() < 0.5 else text, query.passage, query.form)
            )
    return kept


def bare_questions(paths: Sequence[Path], *, limit: int, seed: int) -> list[Query]:
    """Return distinct questions of files of JSON lines with ``query``, which have no passage."""
    found: dict[str, Query] = {}
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                row = json.loads(line)
                if "query" not in row:
                    raise ValueError(f"{path}, line {number} has no 'query'")
                text = " ".join(row["query"].split())
                if not about_python(text):
                    found.setdefault(text.lower(), Query(text, -1, BARE))
    questions = list(found.values())
    random.Random(seed).shuffle(questions)
    return questions[:limit]


def write_queries(queries: Sequence[Query], path: Path) -> None:
    lines = (json.dumps(asdict(query), ensure_ascii=False) for query in queries)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_queries(path: Path) -> list[Query]:
    with path.open(encoding="utf-8") as lines:
        return [Query(**json.loads(line)) for line in lines]

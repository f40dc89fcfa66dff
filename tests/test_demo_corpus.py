"""The demo's frozen corpus, and the program that made it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo_corpus.documentation import source_entries, topic_entries
from demo_corpus.judgements import Question, judge, read_questions
from demo_corpus.passages import MAX_WORDS, Passage, read_passages, split_text
from rerank_plugins.demo.collection import read_demo
from rerank_plugins.errors import DataFormatError

QUESTIONS = Path(__file__).parents[1] / "demo_corpus" / "questions.jsonl"


def test_the_corpus_has_thousands_of_passages_of_the_stated_length() -> None:
    lengths = np.array([len(passage.text.split()) for passage in read_demo().passages])
    assert len(lengths) > 4000
    assert np.median(lengths) > 30
    assert lengths.max() < 2 * MAX_WORDS


def test_a_passage_begins_with_its_title_and_is_named_after_what_it_documents() -> None:
    passages = read_demo().passages
    assert len({passage.id for passage in passages}) == len(passages)
    for passage in passages:
        assert passage.text.startswith(f"{passage.title}\n")
        symbol = passage.id.partition("#")[0].rpartition("+")[0] or passage.id.partition("#")[0]
        assert symbol.rpartition(".")[2] in passage.title


def test_most_passages_are_about_one_thing() -> None:
    passages = read_demo().passages
    several = [passage for passage in passages if "#" not in passage.id]
    assert len(several) < len(passages) / 4
    # A passage of several short entries names them all.
    for passage in several:
        assert passage.title.count(", ") == int(passage.id.rpartition("+")[2])


@pytest.mark.parametrize(
    ("symbol", "words"),
    [
        ("topics/with", "context manager"),  # the language reference
        ("pathlib.Path.rglob", "recursively"),  # Python source
        ("asyncio.gather", "aggregating results"),  # defined in asyncio.tasks
        ("str.split", "substrings"),  # C
        ("collections.deque", "endpoints"),  # C, in a module with source
        ("threading.local", "Thread-local objects"),  # the Python twin of something in C
    ],
)
def test_each_kind_of_documentation_is_there(symbol: str, words: str) -> None:
    found = [p.text for p in read_demo().passages if p.id.startswith((f"{symbol}#", f"{symbol}+"))]
    assert any(words.lower() in " ".join(text.split()).lower() for text in found)


def test_private_names_tests_and_windows_are_left_out() -> None:
    for passage in read_demo().passages:
        parts = passage.id.removeprefix("topics/").partition("#")[0].split(".")
        assert parts[0] == "__future__" or not any(part.startswith("_") for part in parts)
        assert parts[0] not in {"test", "idlelib", "tkinter", "turtle", "antigravity", "this"}


def test_every_question_has_an_answer_in_the_corpus() -> None:
    demo = read_demo()
    known = {passage.id for passage in demo.passages}
    assert len(demo.queries) == 138
    assert demo.queries.keys() == demo.qrels.keys()
    for judged in demo.qrels.values():
        assert judged.keys() <= known
        assert 2 in judged.values()
        assert set(judged.values()) <= {1, 2}
    assert list(demo.queries) == [question.query_id for question in read_questions(QUESTIONS)]


def test_questions_are_not_copies_of_what_answers_them() -> None:
    demo = read_demo()
    by_id = {passage.id: " ".join(passage.text.split()).lower() for passage in demo.passages}
    for query_id, query in demo.queries.items():
        words = query.lower().rstrip("?.").split()
        assert len(words) >= 4
        for doc_id, start in itertools.product(demo.qrels[query_id], range(len(words) - 5)):
            assert " ".join(words[start : start + 6]) not in by_id[doc_id], query


@pytest.mark.slow
def test_this_pythons_documentation_makes_a_corpus_like_the_frozen_one() -> None:
    frozen = {passage.id for passage in read_demo().passages}
    made = read_passages()
    assert len({passage.id for passage in made} & frozen) > 0.7 * len(frozen)
    qrels, _ = judge(read_questions(QUESTIONS), made)
    assert sum(2 in judged.values() for judged in qrels.values()) > 125


def test_a_paragraph_that_two_chapters_share_stays_in_one() -> None:
    paragraphs = [paragraph for entry in topic_entries() for paragraph in entry.text.split("\n\n")]
    long = [paragraph for paragraph in paragraphs if len(paragraph.split()) > 30]
    assert len(long) > 300
    assert len(set(long)) == len(long)


def test_reading_a_source_file_does_not_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "danger.py").write_text(
        '"""A module."""\nraise SystemExit\nif x:\n    def f(a: int, *b, c=1):\n        "Do f."\n'
        "class C:\n    def _hidden(self):\n        'No.'\n    def m(self, a):\n        'Do m.'\n"
    )
    monkeypatch.setattr("demo_corpus.documentation._root", lambda: tmp_path)
    entries = list(source_entries(tmp_path / "danger.py"))
    assert [(entry.symbol + entry.signature, entry.text) for entry in entries] == [
        ("danger", "A module."),
        ("danger.f(a, *b, c=1)", "Do f."),
        ("danger.C.m(a)", "Do m."),
    ]


@given(st.lists(st.lists(st.text("ab ", max_size=30), max_size=9), max_size=9))
def test_splitting_keeps_every_word_in_order(paragraphs: list[list[str]]) -> None:
    text = "\n\n".join("\n".join(lines) for lines in paragraphs)
    pieces = split_text(text)
    assert " ".join(pieces).split() == text.split()
    assert all(len(piece.split()) <= MAX_WORDS for piece in pieces)


def test_pieces_of_a_long_text_are_of_similar_length() -> None:
    text = "\n\n".join("word " * 20 for _ in range(19))
    assert [len(piece.split()) for piece in split_text(text)] == [120, 120, 140]


def test_a_judgement_is_of_the_passages_that_have_symbol_and_words() -> None:
    passages = [
        Passage("a#0", "a", ("a",), "Sorts a  list."),
        Passage("a#1", "a", ("a",), "See also b."),
        Passage("b+1", "b, c", ("b", "c"), "b\nJoins.\nc\nSplits."),
    ]
    relevant = {"a": 1, "a: sorts a LIST": 2, "c": 1, "b: nothing": 2}
    qrels, lacking = judge([Question("q", "how to sort", relevant)], passages)
    assert qrels == {"q": {"a#0": 2, "a#1": 1, "b+1": 1}}
    assert lacking == [("q", "b: nothing")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: JSONDecodeError"),
        ('{"query_id": "b", "query": "?"}', "line 2: KeyError"),
        ('{"query_id": "b", "query": "?", "relevant": {"x": 3}}', "'x' is 3, not 1 or 2"),
        ('{"query_id": "a", "query": "?", "relevant": {"x": 2}}', "'a' was there before"),
        ('{"query_id": "b", "query": "?", "relevant": {}}', "must map symbols"),
    ],
)
def test_a_malformed_question_is_named_by_file_and_line(
    tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "questions.jsonl"
    good = json.dumps({"query_id": "a", "query": "?", "relevant": {"x": 2}})
    path.write_text(f"{good}\n{line}\n")
    with pytest.raises(DataFormatError, match=message):
        read_questions(path)

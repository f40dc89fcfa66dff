"""The demo: its corpus, its judged questions, and the same answers in either framework."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_plugins.cli import main
from rerank_plugins.demo.corpus import MAX_WORDS, Passage, read_corpus, split_text
from rerank_plugins.demo.display import Display
from rerank_plugins.demo.documentation import source_entries, topic_entries
from rerank_plugins.demo.embedding import LatentSemanticEmbedding, SentenceTransformerEmbedding
from rerank_plugins.demo.frameworks import pipeline_class
from rerank_plugins.demo.judgements import Question, judge, questions_path, read_questions
from rerank_plugins.demo.pipeline import FRAMEWORKS, Answer, Hit, Pipeline
from rerank_plugins.demo.report import Report, measure
from rerank_plugins.errors import DataFormatError, MissingExtraError

TOP_K = 20


class SharedWords:
    """Scores a passage by how many of the query's words it has."""

    model, score_unit = "shared words", "logit"

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        words = set(query.lower().split())
        return [float(len(words & set(passage.lower().split()))) for passage in passages]

    async def ascore(self, query: str, passages: Sequence[str]) -> list[float]:
        return self.score(query, passages)


@pytest.fixture(scope="module")
def corpus() -> list[Passage]:
    return read_corpus()


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return read_questions()


@pytest.fixture(scope="module")
def pipelines(corpus: list[Passage]) -> list[Pipeline]:
    some = corpus[::4]
    texts = [passage.text for passage in some]
    embedding = LatentSemanticEmbedding(texts, n_dimensions=32)
    vectors = embedding.embed_documents(texts)
    return [
        pipeline_class(framework)(some, vectors, embedding, SharedWords(), TOP_K)
        for framework in FRAMEWORKS
    ]


def test_the_corpus_has_thousands_of_passages_of_the_stated_length(corpus: list[Passage]) -> None:
    lengths = np.array([len(passage.text.split()) for passage in corpus])
    assert len(corpus) > 2000
    assert np.mean((lengths >= 60) & (lengths <= MAX_WORDS + 20)) > 0.9
    assert lengths.max() < 2 * MAX_WORDS


def test_every_passage_is_named_after_what_it_documents(corpus: list[Passage]) -> None:
    assert len({passage.id for passage in corpus}) == len(corpus)
    for passage in corpus:
        first = passage.symbols[0]
        assert passage.id.startswith((f"{first}#", f"{first}+"))
        assert passage.text.startswith(first)


def test_the_corpus_is_the_same_at_every_reading(corpus: list[Passage]) -> None:
    assert read_corpus() == corpus


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
def test_each_kind_of_documentation_is_read(corpus: list[Passage], symbol: str, words: str) -> None:
    texts = [passage.text for passage in corpus if symbol in passage.symbols]
    assert any(words.lower() in " ".join(text.split()).lower() for text in texts)


def test_private_names_tests_and_windows_are_left_out(corpus: list[Passage]) -> None:
    for symbol in itertools.chain.from_iterable(passage.symbols for passage in corpus):
        parts = symbol.removeprefix("topics/").split(".")
        assert (
            not any(part.startswith("_") for part in parts)
            or symbol == "__future__"
            or (parts[0] == "__future__")
        ), symbol
        assert parts[0] not in {"test", "idlelib", "tkinter", "turtle", "antigravity", "this"}


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
    monkeypatch.setattr("rerank_plugins.demo.documentation._root", lambda: tmp_path)
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


def test_every_judged_symbol_is_in_this_pythons_documentation(
    corpus: list[Passage], questions: list[Question]
) -> None:
    qrels, lacking = judge(questions, corpus)
    assert lacking == []
    assert len(qrels) >= 80
    assert all(2 in judged.values() for judged in qrels.values())


def test_questions_are_not_copies_of_what_answers_them(
    corpus: list[Passage], questions: list[Question]
) -> None:
    qrels, _ = judge(questions, corpus)
    by_id = {passage.id: " ".join(passage.text.split()).lower() for passage in corpus}
    for question in questions:
        words = question.query.lower().rstrip("?.").split()
        assert len(words) >= 4
        for passage_id in qrels[question.query_id]:
            for start in range(len(words) - 5):
                assert " ".join(words[start : start + 6]) not in by_id[passage_id], question.query


def test_a_judgement_is_of_the_passages_that_have_symbol_and_words() -> None:
    passages = [
        Passage("a#0", ("a",), "a\nSorts a  list."),
        Passage("a#1", ("a",), "a\nSee also b."),
        Passage("b+1", ("b", "c"), "b\nJoins.\nc\nSplits."),
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


def test_the_questions_file_has_one_object_a_line() -> None:
    for line in questions_path().read_text("utf-8").splitlines():
        assert set(json.loads(line)) == {"query_id", "query", "relevant"}


def test_words_that_occur_together_are_close() -> None:
    texts = ["cats purr and meow", "dogs bark and growl", "a cat will purr", "the dogs growl"]
    embedding = LatentSemanticEmbedding(texts, n_dimensions=2)
    vectors = embedding.embed_documents(texts)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1.0] * 4, abs=1e-6)
    # "meow" stands in the first text only, and "purr" ties it to the third.
    scores = vectors @ embedding.embed_query("meow")[0]
    assert scores[2] > scores[3] + 0.5
    assert not embedding.embed_query("unheard").any()


def test_the_embedding_is_the_same_when_fitted_again(corpus: list[Passage]) -> None:
    texts = [passage.text for passage in corpus[:300]]
    first = LatentSemanticEmbedding(texts).embed_documents(texts)
    assert np.array_equal(first, LatentSemanticEmbedding(texts).embed_documents(texts))


def test_an_embedding_without_its_package_names_the_install_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rerank_plugins\[bench\]'"):
        SentenceTransformerEmbedding("some/model")


def test_both_frameworks_give_the_same_rankings(
    pipelines: list[Pipeline], questions: list[Question]
) -> None:
    langchain, llama_index = pipelines
    queries = [question.query for question in questions[:40]] + ["zzyzx"]
    for query in queries:
        first, second = langchain.answer(query), llama_index.answer(query)
        assert first.first_stage == second.first_stage
        assert first.reranked == second.reranked
        assert len(first.first_stage) == TOP_K


@pytest.mark.parametrize("number", [0, 1])
def test_reranking_orders_the_candidates_by_the_scorer(
    pipelines: list[Pipeline], number: int
) -> None:
    query = "remove a directory with all files in it"
    answer = pipelines[number].answer(query)
    # Best first, equal scores in first-stage order: what sorted() does with the scorer's own.
    expected = sorted(
        answer.first_stage, key=lambda hit: SharedWords().score(query, [hit.text])[0], reverse=True
    )
    assert [hit.id for hit in answer.reranked] == [hit.id for hit in expected]
    assert answer.first_stage == tuple(
        sorted(answer.first_stage, key=lambda hit: hit.score, reverse=True)
    )


def hits(*ids: str) -> tuple[Hit, ...]:
    return tuple(Hit(name, 1.0, f"{name}\ntext of {name}") for name in ids)


def test_measures_follow_the_order_shown_even_where_scores_tie() -> None:
    answers = {
        "one": Answer("?", hits("x", "a", "y"), hits("a", "x", "y"), 1.0, 10.0),
        "two": Answer("??", hits("x", "y", "b"), hits("x", "b", "y"), 3.0, 30.0),
    }
    qrels = {"one": {"a": 2}, "two": {"b": 1, "c": 2}}
    quality = measure(answers, qrels, depth=3)
    assert quality.values["first_stage"]["RR@10"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert quality.values["reranked"]["RR@10"] == pytest.approx((1 / 1 + 1 / 2) / 2)
    ideal = 2 + 1 / np.log2(3)
    ndcg = (1 + (1 / np.log2(3)) / ideal) / 2
    assert quality.values["reranked"]["nDCG@10"] == pytest.approx(ndcg)
    assert quality.retrieved_share == pytest.approx((1 + 1 / 2) / 2)
    assert (quality.retrieve_ms, quality.rerank_ms) == (2.0, 20.0)


def test_the_display_shows_rank_before_source_and_measures(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = Answer("how so?", hits("x#0", "a+2"), hits("a+2", "x#0"), 1.0, 10.0)
    report = Report("langchain", "fake", "cpu", "logit", 2, not_in_this_python=[("q", "gone.f")])
    report.quality = measure({"q": answer}, {"q": {"a+2": 2}}, depth=2)
    display = Display()
    display.answer(answer, {"a+2": 2})
    display.quality(report.quality, report)
    shown = capsys.readouterr().out
    for text in ("how so?", "● a+2", "text of x#0", "2 reranked in 10 ms", "1.000", "0.500"):
        assert text in shown
    assert "All 1 judged questions" in shown
    assert "gone.f" in shown


def test_the_demo_gives_the_same_data_in_either_framework(
    capsys: pytest.CaptureFixture[str],
) -> None:
    query = "count how often each word occurs"
    found = []
    for framework in FRAMEWORKS:
        options = ["--json", "--no-measures", "--framework", framework, "--device", "cpu"]
        assert main(["demo", "--query", query, *options]) == 0
        found.append(json.loads(capsys.readouterr().out))
    first, second = found
    assert (first["framework"], second["framework"]) == FRAMEWORKS
    assert first["model"] == "embedded"
    (answer,), (other,) = first["answers"], second["answers"]
    assert answer["query"] == query
    assert len(answer["reranked"]) == 50
    assert {hit["id"] for hit in answer["reranked"]} == {hit["id"] for hit in answer["first_stage"]}
    assert answer["first_stage"] == other["first_stage"]
    assert answer["reranked"] == other["reranked"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top-k", "0"], "--top-k must be at least 1, got 0"),
        (["--query", " "], "--query is empty"),
    ],
)
def test_unusable_options_are_named_before_anything_is_read(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", *options]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""

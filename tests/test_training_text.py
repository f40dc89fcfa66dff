"""What the recipe trains on: files of the reader's own, and nothing about Python."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from training.lists import by_share, matched
from training.passages import Files, Passage, build_passages, pair_passages
from training.queries import BARE, Query, bare_questions


def json_lines(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def built(files: Files, work: Path, *, held_out: bool = False) -> list[Passage]:
    return build_passages(
        work,
        files=files,
        sources=[],
        limit_per_source=0,
        limit_per_file=100,
        limits={},
        held_out=held_out,
    )


LONG = "A sentence that says what {0} is, at some length. " * 6


def test_nothing_about_python_is_trained_on(tmp_path: Path) -> None:
    pairs = json_lines(
        tmp_path / "pairs.jsonl",
        [
            {"query": "what is tea", "passage": LONG.format("tea")},
            {"query": "open a file in Python", "passage": LONG.format("a file")},
            {"query": "arrays", "passage": LONG.format("a NumPy array")},
        ],
    )
    passages = json_lines(
        tmp_path / "passages.jsonl",
        [{"passage": LONG.format("milk")}, {"passage": LONG.format("pip install")}],
    )
    found = built(Files(pairs=(pairs,), passages=(passages,)), tmp_path)
    assert {passage.text for passage in found} == {
        LONG.format("tea").strip(),
        LONG.format("milk").strip(),
    }
    questions = json_lines(tmp_path / "q.jsonl", [{"query": "python lists"}, {"query": "tea?"}])
    assert [query.text for query in bare_questions([questions], limit=9, seed=0)] == ["tea?"]


def test_held_out_sources_are_in_validation_alone(tmp_path: Path) -> None:
    rows = [
        {"query": "a", "passage": LONG.format("a psyche"), "source": "philschatz/psychology-book"},
        {"query": "b", "passage": LONG.format("a cell"), "source": "philschatz/biology-book"},
    ]
    files = Files(pairs=(json_lines(tmp_path / "books.jsonl", rows),))
    (trained,) = built(files, tmp_path)
    (held,) = built(files, tmp_path, held_out=True)
    assert (trained.questions, held.questions) == (("b",), ("a",))


def test_a_text_with_a_question_is_not_lost_to_the_same_text_without(tmp_path: Path) -> None:
    text = LONG.format("tea")
    pairs = json_lines(tmp_path / "pairs.jsonl", [{"query": "what is tea", "passage": text}])
    passages = json_lines(tmp_path / "passages.jsonl", [{"passage": text}])
    (found,) = built(Files(pairs=(pairs,), passages=(passages,)), tmp_path)
    assert found.questions == ("what is tea",)


def test_a_row_without_a_passage_is_named(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "pairs.jsonl", [{"query": "q", "text": "wrong name"}])
    with pytest.raises(ValueError, match=r"pairs\.jsonl, line 1 has no 'passage'"):
        list(pair_passages(path, random.Random(0)))


def test_a_bare_question_takes_the_nearest_passage_that_bm25_finds_too() -> None:
    queries = [Query("asked", -1, BARE), Query("alone", -1, BARE), Query("own", 7, "person")]
    dense = np.array([[4, 2, 9], [4, 2, 9], [4, 2, 9]])
    bm25 = np.array([[9, 2, 1], [5, 6, -1], [9, 2, 1]])
    assert [query.passage for query in matched(queries, bm25, dense)] == [2, 4, 7]


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_lists_have_the_share_of_general_text_asked_for(share: float) -> None:
    general = [Passage("file", "answer", "", f"g{n}", ("q",)) for n in range(60)]
    technical = [Passage("git-doc", "section", "", f"t{n}") for n in range(50)]
    passages = [*general, *technical]
    queries = [Query(f"q{n}", n, "keywords") for n in range(len(passages))]
    rows = np.arange(len(passages))
    query, candidates = by_share(
        rows, np.stack([rows, rows], 1), queries, passages, general=share, seed=0
    )
    assert np.mean(query < len(general)) == pytest.approx(share, abs=0.02)
    assert (candidates[:, 0] == query).all()
    alone, _ = by_share(rows[:60], rows[:60, None], queries, passages, general=share, seed=0)
    assert len(alone) == 60

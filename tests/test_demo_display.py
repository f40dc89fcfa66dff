"""What the demo shows: ranks in words, labels, marks, and figures with a word about each."""

from __future__ import annotations

import numpy as np
import pytest

from rerank_plugins.commands.demo import EVERY, _shown
from rerank_plugins.demo.collection import read_demo
from rerank_plugins.demo.display import (
    Display,
    best_sentence,
    changes,
    matched_label,
    remarks,
)
from rerank_plugins.demo.pipeline import FIRST_STAGE, FUSED, Answer, Found
from rerank_plugins.demo.quality import SystemQuality, qualities, retrieved_share


def ranking(ids: str) -> tuple[Found, ...]:
    return tuple(Found(name, f"{name}()", f"{name}()\nText of {name}.", 1.0) for name in ids)


def answer(first: str, **others: str) -> Answer:
    rankings = {FIRST_STAGE: ranking(first), **{n: ranking(ids) for n, ids in others.items()}}
    return Answer("how so?", rankings, dict.fromkeys(rankings, 3.0))


def test_what_changed_is_said_in_words() -> None:
    found = answer("xyab", up="axyb", down="xyba", same="yxab")
    said = changes(found, list(found.rankings), {"a": 2, "b": 1})
    assert said == [
        "up: the answer rises from 3 to 1.",
        "down: the answer falls from 3 to 4.",
        "same: the answer stays at 3.",
    ]
    assert changes(found, list(found.rankings), {"c": 2}) == [
        "No answer is among the 4 candidates."
    ]


def test_measures_follow_the_order_shown_even_where_scores_tie() -> None:
    answers = {"one": answer("xay", m="axy"), "two": answer("xyb", m="xby")}
    qrels = {"one": {"a": 2}, "two": {"b": 1, "c": 2}}
    first, model = qualities(answers, qrels, [FIRST_STAGE, "m"])
    assert first.figures["RR@10"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert model.figures["RR@10"] == pytest.approx((1 / 1 + 1 / 2) / 2)
    ideal = 2 + 1 / np.log2(3)
    assert model.figures["nDCG@10"] == pytest.approx((1 + (1 / np.log2(3)) / ideal) / 2)
    assert retrieved_share(answers, qrels) == pytest.approx((1 + 1 / 2) / 2)
    assert first.p_value is None
    # Of the four ways to swap two questions' values, two are as extreme as what was seen.
    assert model.p_value == pytest.approx(0.5, abs=0.05)
    assert (first.ms, model.ms) == (3.0, 3.0)


@pytest.mark.parametrize(
    ("title", "text", "label"),
    [
        ("list.sort(key=None)", "Sort the list.", "list.sort"),
        ("xml.etree.ElementTree.Element.iter(tag)", "Loop.", "Element.iter"),
        ("datetime.date: min, isspace", "Yes.", "date.isspace"),
        ("str: isalnum, isspace", "str.isalnum()\nYes.\nstr.isspace()\nOnly white.", "str.isspace"),
        ("topics/with", "The with statement.", "topics/with"),
    ],
)
def test_a_passage_is_labelled_by_what_the_question_meets(
    title: str, text: str, label: str
) -> None:
    found = Found("id", title, f"{title}\n{text}", 0.0)
    assert matched_label("does a string have only isspace characters", found) == label


def test_the_sentence_that_shares_most_words_is_shown_without_control_characters() -> None:
    found = Found("id", "t", "t\nIt does this. It sorts a\x1b list in place. It returns None.", 0.0)
    assert best_sentence("sort list in place", found) == "It sorts a\\x1b list in place."


@pytest.mark.parametrize("width", [80, 120])
def test_rankings_stand_side_by_side_within_the_window(
    width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("embedded", "a/very-long/name-of-a-model" * 2)
    alone = dict.fromkeys(names, "zyxba")
    together = {f"{names[0]} + first stage": "axyzb", f"{names[1]} + first stage": "bxyza"}
    found = answer("xyzab", **alone, **together)
    Display(width=width).answer(found, {"a": 2, "b": 1})
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= width
    assert "embedded + first stage: the answer rises from 4 to 1." in shown
    assert "● ↑3 a" in shown
    assert "○ ↑4 b" in shown


def systems(**figures: float) -> list[SystemQuality]:
    return [
        SystemQuality(
            name.replace("_", " "),
            {"nDCG@10": value, "RR@10": value},
            9.0,
            None if name == "first_stage" else 0.03,
        )
        for name, value in figures.items()
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_every_system_below_the_first_stage_is_named(
    width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found = systems(first_stage=0.5, weak=0.4, strong=0.6)
    below = [line for line in remarks(found) if "ranks worse than the first stage" in line]
    assert below == [
        "weak ranks worse than the first stage here (0.400 against 0.500): take a larger model, "
        "or add the first stage's scores (first_stage_weight)."
    ]
    Display(width=width).quality(found, n_queries=138, depth=50, share=0.85)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= width
    for text in ("All 138 judged questions", "FAISS' best 50", "0.600", "0.0300", "85%"):
        assert text in shown


def test_the_questions_shown_are_drawn_by_rule_with_the_first_that_falls() -> None:
    demo = read_demo()
    answers, names = {}, sorted(demo.queries)
    for name in demo.queries:
        relevant = next(doc_id for doc_id, relevance in demo.qrels[name].items() if relevance == 2)
        two = tuple(Found(doc_id, "", "", 0.0) for doc_id in (relevant, "other"))
        falls = name in (names[5], names[9])
        rankings = {FIRST_STAGE: two, "m": two[::-1] if falls else two, f"m{FUSED}": two}
        answers[name] = Answer(name, rankings, {})
    shown = [found.query for found in _shown(answers, demo.qrels, "m")]
    assert shown == [names[0], names[EVERY], names[2 * EVERY], names[5]]

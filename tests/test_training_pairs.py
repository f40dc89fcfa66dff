"""Training pairs from a run and judgements, worked out by hand from the small collection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from evaluation_files import small_collection, write_files

from rerank_plugins.errors import DataFormatError, InvalidArgumentError
from rerank_plugins.evaluation import read_collection, training_pairs

FOX, WHALE, GREY = "Fox a red animal", "the whale is blue", "Whale grey"
TEA, NOTHING = "Tea green leaves and water", "nothing of the kind"


def test_relevant_passages_and_the_best_of_the_others(tmp_path: Path) -> None:
    pairs = training_pairs(small_collection(tmp_path), negatives=1)
    assert list(zip(pairs["query"], pairs["passage"], pairs["label"], strict=True)) == [
        ("red fox", FOX, 1.0),
        ("red fox", NOTHING, 0.0),
        ("blue whale", WHALE, 1.0),
        ("blue whale", GREY, 1.0),
        ("blue whale", NOTHING, 0.0),
        ("green tea", TEA, 1.0),
        ("green tea", FOX, 0.0),
    ]


def test_the_top_candidates_can_be_left_out(tmp_path: Path) -> None:
    pairs = training_pairs(small_collection(tmp_path), negatives=1, skip=1)
    others = [p for p, label in zip(pairs["passage"], pairs["label"], strict=True) if not label]
    assert others == [WHALE]  # of the red fox; the two other queries have a single one each


def test_what_the_first_stage_missed_is_learnt_too(tmp_path: Path) -> None:
    run = "q1 Q0 d4 1 9.0 bm25\n"
    pairs = training_pairs(read_collection(**write_files(tmp_path, run=run)))
    assert pairs == {"query": ["red fox"] * 2, "passage": [FOX, NOTHING], "label": [1.0, 0.0]}


def test_a_relevant_document_that_is_not_there_is_named(tmp_path: Path) -> None:
    files = write_files(tmp_path, qrels={"q1": {"gone": 1}})
    with pytest.raises(DataFormatError, match="'gone' is not in"):
        training_pairs(read_collection(**files))


@pytest.mark.parametrize("wrong", [{"negatives": -1}, {"negatives": 1.5}, {"skip": -1}])
def test_a_wrong_number_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        training_pairs(small_collection(tmp_path), **wrong)

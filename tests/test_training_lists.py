"""Training lists from a run and judgements, worked out by hand from the small collection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from evaluation_files import small_collection, write_files

from rerank_plugins.errors import DataFormatError, InvalidArgumentError
from rerank_plugins.evaluation import read_collection, training_lists

FOX, WHALE, GREY = "Fox a red animal", "the whale is blue", "Whale grey"
TEA, NOTHING = "Tea green leaves and water", "nothing of the kind"


def test_relevant_passages_and_the_best_of_the_others(tmp_path: Path) -> None:
    assert training_lists(small_collection(tmp_path), negatives=1) == {
        "query": ["red fox", "blue whale", "green tea"],
        "passages": [[FOX, NOTHING], [WHALE, GREY, NOTHING], [TEA, FOX]],
        "labels": [[1.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0]],
    }


def test_the_top_candidates_can_be_left_out(tmp_path: Path) -> None:
    lists = training_lists(small_collection(tmp_path), negatives=1, skip=1)
    # The two later queries have a single other candidate each.
    assert lists["passages"] == [[FOX, WHALE], [WHALE, GREY], [TEA]]


def test_what_the_first_stage_missed_is_learnt_too(tmp_path: Path) -> None:
    files = write_files(tmp_path, run="q1 Q0 d4 1 9.0 bm25\n")
    assert training_lists(read_collection(**files))["passages"] == [[FOX, NOTHING]]


def test_a_relevant_document_that_is_not_there_is_named(tmp_path: Path) -> None:
    files = write_files(tmp_path, qrels={"q1": {"gone": 1}})
    with pytest.raises(DataFormatError, match="'gone' is not in"):
        training_lists(read_collection(**files))


@pytest.mark.parametrize("wrong", [{"negatives": 0}, {"negatives": 1.5}, {"skip": -1}])
def test_a_wrong_number_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        training_lists(small_collection(tmp_path), **wrong)

"""Order, ties, cut-offs, NaN and interpolation, with scorers of a few lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rerank_plugins import Ranked, arank, interpolate, rank
from rerank_plugins.errors import InvalidArgumentError, NonFiniteScoreError, ScoringError
from rerank_plugins.ranking import ScoreUnit


class Table:
    """Scores by look-up, and remembers what it was asked."""

    model = "table"
    score_unit: ScoreUnit = "logit"

    def __init__(self, scores: dict[str, Any]) -> None:
        self.scores = scores
        self.asked: list[list[str]] = []

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        self.asked.append(list(passages))
        return [self.scores[passage] for passage in passages]

    async def ascore(self, query: str, passages: Sequence[str]) -> list[float]:
        return self.score(query, passages)


SCORES = {"a": 1.0, "b": 3.0, "c": 1.0, "d": -2.0}


def test_best_first_and_ties_keep_first_stage_order() -> None:
    assert rank(Table(SCORES), "q", ["d", "c", "b", "a"]) == [
        Ranked(2, 3.0, 0),
        Ranked(1, 1.0, 1),
        Ranked(3, 1.0, 2),
        Ranked(0, -2.0, 3),
    ]


async def test_arank_is_rank() -> None:
    passages = list(SCORES)
    assert await arank(Table(SCORES), "q", passages, top_n=3) == rank(
        Table(SCORES), "q", passages, top_n=3
    )


def test_identical_passages_are_scored_once() -> None:
    table = Table(SCORES)
    ranking = rank(table, "q", ["a", "b", "a", "a"])
    assert table.asked == [["a", "b"]]
    assert [row.index for row in ranking] == [1, 0, 2, 3]


def test_no_passages_ask_nothing() -> None:
    table = Table({})
    assert rank(table, "q", []) == []
    assert table.asked == []


@pytest.mark.parametrize(("top_n", "kept"), [(None, 4), (1, 1), (4, 4), (99, 4)])
def test_top_n_keeps_that_many(top_n: int | None, kept: int) -> None:
    assert len(rank(Table(SCORES), "q", list(SCORES), top_n=top_n)) == kept


@pytest.mark.parametrize("top_n", [0, -1, True, 1.5, "3"])
def test_an_unusable_top_n_is_a_value_error(top_n: Any) -> None:
    with pytest.raises(ValueError, match="top_n"):
        rank(Table(SCORES), "q", list(SCORES), top_n=top_n)


def test_the_threshold_includes_its_own_value() -> None:
    kept = rank(Table(SCORES), "q", list(SCORES), threshold=1.0)
    assert [row.score for row in kept] == [3.0, 1.0, 1.0]
    assert rank(Table(SCORES), "q", list(SCORES), threshold=9.0) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_names_its_passage(value: float) -> None:
    with pytest.raises(NonFiniteScoreError, match=r"passages\[1\] is .*'bad'"):
        rank(Table({"a": 1.0, "bad": value}), "q", ["a", "bad"])


def test_too_few_scores_are_an_error_and_no_lost_passages() -> None:
    class Short(Table):
        def score(self, query: str, passages: Sequence[str]) -> list[float]:
            return [1.0]

    with pytest.raises(ScoringError, match="1 scores for 2 passages"):
        rank(Short({}), "q", ["a", "b"])


def test_numpy_scores_become_floats() -> None:
    ranking = rank(Table({"a": np.float32(0.25)}), "q", ["a"])
    assert type(ranking[0].score) is float


def test_a_list_for_a_score_is_named() -> None:
    with pytest.raises(ScoringError, match="one number"):
        rank(Table({"a": [0.1, 0.9]}), "q", ["a"])


def test_the_first_stage_can_turn_a_near_tie() -> None:
    scores = {"a": 1.0, "b": 1.1, "c": -3.0}
    table = Table(scores)
    assert [row.index for row in rank(table, "q", list(scores))] == [1, 0, 2]
    mixed = rank(table, "q", list(scores), first_stage_scores=[9.0, 1.0, 1.0])
    assert [row.index for row in mixed] == [0, 1, 2]
    assert [row.score for row in mixed] == sorted((row.score for row in mixed), reverse=True)


def test_the_threshold_is_on_the_scorers_own_score_also_when_interpolating() -> None:
    kept = rank(
        Table({"a": 1.0, "b": -1.0}), "q", ["a", "b"], threshold=0.0, first_stage_scores=[0.0, 9.0]
    )
    assert [row.index for row in kept] == [0]


@given(
    st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=20),
    st.floats(0, 3),
)
def test_interpolation_orders_by_the_sum_of_z_scores(
    pairs: list[tuple[float, float]], weight: float
) -> None:
    scores, other = (np.array(side) for side in zip(*pairs, strict=True))
    mixed = np.array(interpolate(scores.tolist(), other.tolist(), weight))
    assume(scores.std() > 1e-3)
    assume(other.std() > 1e-3)
    z_sum = (scores - scores.mean()) / scores.std() + weight * (other - other.mean()) / other.std()
    np.testing.assert_allclose((mixed - scores.mean()) / scores.std(), z_sum, atol=1e-6)


@pytest.mark.parametrize("first_stage", [[1.0], [1.0, math.nan]])
def test_unusable_first_stage_scores_are_named_before_the_model_runs(
    first_stage: list[float],
) -> None:
    table = Table(SCORES)
    with pytest.raises(InvalidArgumentError, match="first_stage_scores"):
        rank(table, "q", ["a", "b"], first_stage_scores=first_stage)
    assert table.asked == []

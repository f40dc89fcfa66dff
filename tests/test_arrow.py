"""A table of pairs in, the same table with scores out: what engines call on each block."""

from __future__ import annotations

from typing import Any

import pytest

from rerank_plugins import shared_scorer
from rerank_plugins.arrow import RerankScores
from rerank_plugins.dataset import Columns
from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError

pyarrow = pytest.importorskip("pyarrow")

PASSAGES = ["a bird has wings", "a stone is hard", "wings carry birds"]


def scored(passages: list[str], query: str = "how do birds fly") -> list[float]:
    return shared_scorer("embedded", device="cpu").score(query, passages)


def table(**columns: Any) -> Any:
    return pyarrow.table(columns)


def test_one_column_more_and_the_rows_as_they_were() -> None:
    given = table(query=["how do birds fly"] * 3, passage=PASSAGES, id=[7, 8, 9])
    found = RerankScores("embedded", device="cpu")(given)
    assert found.column_names == ["query", "passage", "id", "relevance_score"]
    assert found.drop(["relevance_score"]) == given
    assert found["relevance_score"].to_pylist() == scored(PASSAGES)


def test_named_columns_are_read_and_only_those_to_keep_come_back() -> None:
    names = Columns(query="q", passage="p", score="s")
    given = table(
        p=pyarrow.array(PASSAGES).dictionary_encode(), q=["how do birds fly"] * 3, id=[1] * 3
    )
    found = RerankScores("embedded", columns=names, keep=["id"], device="cpu")(given)
    assert found.column_names == ["id", "s"]
    assert found["s"].to_pylist() == scored(PASSAGES)


def test_a_text_that_is_null_gives_a_score_that_is_null_and_is_counted() -> None:
    scores = RerankScores("embedded", device="cpu")
    given = table(query=["how do birds fly", None, None], passage=[None, "a stone", None])
    assert scores(given)["relevance_score"].to_pylist() == [None] * 3
    assert scores.n_without_text == 3


def test_a_query_with_its_passages_gets_a_list_of_scores() -> None:
    passages = [[PASSAGES[0], None, PASSAGES[1]], [], None, [PASSAGES[2]], ["x"]]
    queries = ["how do birds fly"] * 4 + [None]
    scores = RerankScores("embedded", device="cpu")
    found = scores(table(query=queries, passage=passages))["relevance_score"].to_pylist()
    first, second, third = scored(PASSAGES)
    assert found[1:3] == [[], None]
    assert found[4] == [None]
    assert found[0][1] is None
    assert [found[0][0], found[0][2], found[3][0]] == pytest.approx(
        [first, second, third], abs=1e-5
    )
    assert scores.n_without_text == 2


def test_no_rows_give_no_scores_of_the_same_type() -> None:
    rows = table(query=["a"], passage=["b"]).slice(1)
    found = RerankScores("embedded", device="cpu")(rows)
    assert found.num_rows == 0
    assert found.schema.field("relevance_score").type == pyarrow.float64()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"query": ["a"]}, "no column 'passage'; the columns: query"),
        ({"query": ["a"], "passage": [1]}, "'passage' must hold strings, and is int64"),
        ({"query": [["a"]], "passage": ["b"]}, "'query' must hold strings, and is list"),
        ({"query": ["a"], "passage": [[1]]}, "'passage' must hold strings, and is int64"),
        (
            {"query": ["a"], "passage": ["b"], "relevance_score": [0.5]},
            "column 'relevance_score' already",
        ),
    ],
)
def test_a_table_that_cannot_be_scored_is_refused_by_its_column(
    columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        RerankScores("embedded", device="cpu")(table(**columns))


def test_an_unknown_option_is_refused_before_a_model_is_loaded() -> None:
    with pytest.raises(InvalidTypeError, match="'devise'; did you mean 'device'"):
        RerankScores("embedded", devise="cpu")

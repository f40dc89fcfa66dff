"""Numbers and containers of other packages, at the public functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

from rerank_plugins import interpolate, langchain, llama_index, rank
from rerank_plugins.errors import RerankError


class Length:
    model, score_unit = "length", "logit"

    def score(self, query: str, passages: Sequence[str]) -> list[float]:
        return [float(len(passage)) for passage in passages]

    async def ascore(self, query: str, passages: Sequence[str]) -> list[float]:
        return self.score(query, passages)


ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.sampled_from([np.int64(2), np.float32(0.5), np.bool_(True), np.float64("nan"), 10**400]),
    st.lists(st.one_of(st.floats(), st.integers(), st.text(max_size=2)), max_size=3),
)


@given(top_n=ANY, threshold=ANY, weight=ANY, first=ANY)
def test_rank_answers_or_raises_an_error_of_this_package(
    top_n: Any, threshold: Any, weight: Any, first: Any
) -> None:
    settings = {"first_stage_scores": first, "first_stage_weight": weight}
    try:
        found = rank(Length(), "q", ["a", "bb"], top_n=top_n, threshold=threshold, **settings)
    except RerankError:
        return
    assert all(type(one.score) is float and type(one.index) is int for one in found)


@pytest.mark.parametrize("as_given", [np.array, tuple, iter, lambda x: dict.fromkeys(x).keys()])
def test_any_ordered_iterable_of_strings_is_ranked(as_given: Any) -> None:
    assert [one.index for one in rank(Length(), "q", as_given(["a", "bb"]))] == [1, 0]


@pytest.mark.parametrize("passages", [{"a", "b"}, {"a": "b"}, b"a", "a", 3, [b"a"]])
def test_what_has_no_order_or_no_strings_is_refused(passages: Any) -> None:
    with pytest.raises(TypeError, match="must be a"):
        rank(Length(), "q", passages)


def test_first_stage_scores_of_numpy_give_python_floats() -> None:
    first = np.array([0.9, 0.1], dtype=np.float32)
    plain = interpolate([1.0, 2.0], [float(value) for value in first], 0.5)
    assert interpolate([1.0, 2.0], first, 0.5) == plain  # type: ignore[arg-type]
    ranked = rank(Length(), "q", ["a", "bb"], first_stage_scores=first)  # type: ignore[arg-type]
    json.dumps([one.score for one in ranked])


@pytest.mark.parametrize("cls", [langchain.CrossEncoderRerank, llama_index.CrossEncoderRerank])
def test_numbers_of_numpy_are_settings(cls: Any) -> None:
    rerank = cls(scorer=Length(), top_n=np.int64(1), score_threshold=np.float32(1.5))
    assert (type(rerank.top_n), type(rerank.score_threshold)) == (int, float)
    assert "model" in cls.model_json_schema()["properties"]


def test_what_comes_back_shares_nothing_with_what_was_given() -> None:
    document = Document("a", metadata={"tags": ["x"]})
    [copied] = langchain.CrossEncoderRerank(scorer=Length()).compress_documents([document], "q")
    copied.metadata["tags"].append("y")
    assert document.metadata == {"tags": ["x"]}
    node = TextNode(text="a", metadata={"tags": ["x"]})
    [kept] = llama_index.CrossEncoderRerank(scorer=Length()).postprocess_nodes(
        [NodeWithScore(node=node)], query_str="q"
    )
    kept.node.metadata["tags"].append("y")
    kept.node.set_content("changed")
    assert (node.metadata, node.text) == ({"tags": ["x"]}, "a")

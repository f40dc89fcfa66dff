"""Numbers and containers of other packages, at the public functions."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

from rerank_plugins import CrossEncoderScorer, interpolate, langchain, llama_index, rank
from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError, RerankError
from rerank_plugins.options import ScorerOptions
from rerank_plugins.testing import FakeScorer


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
    st.sampled_from(
        [np.int64(2), np.float32(0.5), np.bool_(True), np.float64("nan"), np.array([1, 2])]
    ),
    st.sampled_from([10**400, Fraction(1, 3), Decimal("0.5"), 1j, object()]),
    st.lists(
        st.one_of(st.floats(), st.integers(), st.text(max_size=2), st.just(10**400)), max_size=3
    ),
    st.lists(st.tuples(st.text(max_size=2), st.text(max_size=2)), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


class Text(str):
    """A string that is not quite one."""

    def __repr__(self) -> str:
        raise AssertionError


@pytest.fixture(scope="module")
def scorer() -> Iterator[CrossEncoderScorer]:
    with CrossEncoderScorer("embedded", device="cpu") as scorer:
        yield scorer


@given(name=st.sampled_from(("score", "truncated", "best_windows")), query=ANY, passages=ANY)
@settings(deadline=None)
def test_a_scorer_answers_any_texts_or_raises_an_error_of_this_package(
    scorer: CrossEncoderScorer, name: str, query: Any, passages: Any
) -> None:
    try:
        found = getattr(scorer, name)(query, passages)
    except RerankError:
        return
    assert len(found) == len(passages)


@given(pairs=ANY, max_length=ANY, timeout_s=ANY)
@settings(deadline=None)
def test_a_scorer_takes_any_numbers_or_raises_an_error_of_this_package(
    scorer: CrossEncoderScorer, pairs: Any, max_length: Any, timeout_s: Any
) -> None:
    calls: list[Callable[[], list[float]]] = [
        lambda: scorer.score_pairs(pairs),
        lambda: scorer.score("q", ["a"], max_length=max_length),
        lambda: scorer.score("q", ["a"], timeout_s=timeout_s),
        lambda: asyncio.run(scorer.ascore("q", ["a"], timeout_s=timeout_s)),
    ]
    for score in calls:
        with contextlib.suppress(RerankError):
            assert {type(one) for one in score()} <= {float}


@given(st.sampled_from([field.name for field in fields(ScorerOptions)]), ANY)
def test_options_are_of_python_or_an_error_of_this_package(name: str, value: Any) -> None:
    with contextlib.suppress(RerankError):
        kept = getattr(ScorerOptions(**{name: value}), name)
        assert type(kept) in (str, int, float, bool, tuple, type(None))


@pytest.mark.parametrize("pairs", [np.array([["q", "a"], ["q", "b"]]), iter([["q", "a"]] * 2)])
def test_pairs_may_be_any_ordered_iterable(scorer: CrossEncoderScorer, pairs: Any) -> None:
    assert len(scorer.score_pairs(pairs)) == 2


@pytest.mark.parametrize("pairs", ["ab", {"q": "a"}, {("q", "a")}, [{"q": 1, "a": 2}], [("q",)], 3])
def test_what_are_no_pairs_is_refused(scorer: CrossEncoderScorer, pairs: Any) -> None:
    with pytest.raises(InvalidTypeError, match="pairs"):
        scorer.score_pairs(pairs)


def test_texts_of_a_subclass_are_plain_strings_behind_the_border(
    scorer: CrossEncoderScorer,
) -> None:
    recorded = FakeScorer(lambda _: 0.0)
    query, passage = Text("q"), Text("a")
    rank(recorded, query, [passage])
    document = Document("a")
    document.page_content = passage
    langchain.CrossEncoderRerank(scorer=recorded).compress_documents([document], query)
    langchain.SharedCrossEncoder(scorer=recorded).score([(query, passage)])
    llama_index.CrossEncoderRerank(scorer=recorded).postprocess_nodes(
        [NodeWithScore(node=TextNode(text="a"))], query_str=query
    )
    asked = [text for _, query, texts in recorded.calls for text in (query, *texts)]
    assert {type(text) for text in asked} == {str}
    assert scorer.score(query, [passage]) == scorer.score_pairs([(query, passage)])
    assert type(ScorerOptions(Text("embedded"), dtype=Text("auto")).dtype) is str


def test_a_timeout_of_any_size_is_a_number_of_seconds(scorer: CrossEncoderScorer) -> None:
    assert scorer.score("q", ["a"], timeout_s=1e300) == scorer.score("q", ["a"])
    for huge in (10**400, -(10**5000)):  # the second has more digits than Python writes
        with pytest.raises(InvalidArgumentError, match="timeout_s must be at least 0 and finite"):
            scorer.score("q", ["a"], timeout_s=huge)


@given(top_n=ANY, threshold=ANY, weight=ANY, first=ANY)
def test_rank_answers_or_raises_an_error_of_this_package(
    top_n: Any, threshold: Any, weight: Any, first: Any
) -> None:
    stage = {"first_stage_scores": first, "first_stage_weight": weight}
    try:
        found = rank(Length(), "q", ["a", "bb"], top_n=top_n, threshold=threshold, **stage)
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

"""A dictionary as a filter means what plain Python says about the metadata."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document

from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError
from rerank_plugins.faiss_filter import compiled

METADATA: list[dict[str, Any]] = [
    {"page": 0, "tag": "a"},
    {"page": 1, "tag": "b"},
    {"page": 2.5, "tag": None},
    {"page": "7"},
    {"tag": "a", "names": ["x", "y"], "by": {"name": "z"}},
]
Rule = Callable[[dict[str, Any]], bool]


def passed(wanted: Any) -> list[int]:
    test = compiled(wanted)
    assert test is not None
    rows = [Document("", metadata=metadata) for metadata in METADATA]
    return [index for index, row in enumerate(rows) if test(row)]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"page": 1}, [1]),
        ({"page": 1, "tag": "a"}, []),
        ({"page": [0, "7"]}, [0, 3]),
        ({"names": {"$eq": ["x", "y"]}}, [4]),
        ({"by": {"name": "z"}}, [4]),
        ({"page": {"$gt": 0, "$lte": 2.5}}, [1, 2]),
        ({"page": {"$lt": "8"}}, [3]),
        ({"tag": {"$ne": "a"}}, [1, 2, 3]),
        ({"tag": {"$neq": "a"}}, [1, 2, 3]),
        ({"tag": None}, [2, 3]),
        ({"page": {"$in": [1, 7]}}, [1]),
        ({"page": {"$nin": (0, 1)}}, [2, 3, 4]),
        ({"$not": {"tag": "a"}}, [1, 2, 3]),
        ({"$and": []}, [0, 1, 2, 3, 4]),
        ({"$or": []}, []),
        ({"$or": [{"page": 0}, {"$and": [{"tag": "b"}, {"page": {"$gte": 1}}]}]}, [0, 1]),
        (lambda row: "names" in row.metadata, [4]),
    ],
)
def test_each_form(wanted: Any, expected: list[int]) -> None:
    assert passed(wanted) == expected


ORDER: dict[str, Callable[[int, int], bool]] = {
    "$eq": lambda value, other: value == other,
    "$ne": lambda value, other: value != other,
    "$gt": lambda value, other: value > other,
    "$gte": lambda value, other: value >= other,
    "$lt": lambda value, other: value < other,
    "$lte": lambda value, other: value <= other,
}


def leaf(key: str, name: str, operand: int) -> tuple[dict[str, Any], Rule]:
    return {key: {name: operand}}, lambda row: ORDER[name](row[key], operand)


def both(name: str, parts: list[tuple[dict[str, Any], Rule]]) -> tuple[dict[str, Any], Rule]:
    joined = all if name == "$and" else any
    return {name: [part for part, _ in parts]}, lambda row: joined(rule(row) for _, rule in parts)


CONDITIONS = st.recursive(
    st.builds(leaf, st.sampled_from("ab"), st.sampled_from(sorted(ORDER)), st.integers(-2, 2)),
    lambda inner: (
        st.builds(both, st.sampled_from(["$and", "$or"]), st.lists(inner, max_size=3))
        | inner.map(lambda part: ({"$not": part[0]}, lambda row: not part[1](row)))
    ),
    max_leaves=6,
)


@given(CONDITIONS, st.integers(-2, 2), st.integers(-2, 2))
def test_nested_conditions(condition: tuple[dict[str, Any], Rule], a: int, b: int) -> None:
    wanted, rule = condition
    test = compiled(wanted)
    assert test is not None
    assert test(Document("", metadata={"a": a, "b": b})) == rule({"a": a, "b": b})


@pytest.mark.parametrize("wanted", [{"$nor": []}, {"page": {"$near": 1}}, {"$and": [{"$xor": 1}]}])
def test_an_unknown_operator_is_named_beside_those_there_are(wanted: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"unsupported operator '\$.*\$eq, .*\$not"):
        compiled(wanted)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"page": {"$in": "ab"}}, "takes a list of values, got 'ab'"),
        ({"$or": {"page": 1}}, "takes a list of conditions"),
        ({"$not": [{"page": 1}]}, "takes dictionaries"),
        ({1: 2}, "names of metadata, got 1"),
        ("page == 1", "dictionary of conditions or a function"),
    ],
)
def test_another_type_is_named(wanted: Any, message: str) -> None:
    with pytest.raises(InvalidTypeError, match=message):
        compiled(wanted)


def test_a_function_gets_a_copy() -> None:
    document = Document("x", metadata={"names": ["a"]})

    def spoil(row: Document) -> bool:
        row.metadata["names"].append("b")
        return True

    test = compiled(spoil)
    assert test is not None
    assert test(document)
    assert document.metadata == {"names": ["a"]}

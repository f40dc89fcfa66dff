"""Which documents a FAISS search may find: a dictionary of conditions, or a function."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from langchain_core.documents import Document

from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError
from rerank_plugins.faiss_documents import copied

__all__ = ["Filter", "compiled"]

Filter = Mapping[str, Any] | Callable[[Document], bool]
_Test = Callable[[Mapping[str, Any]], bool]

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$neq": operator.ne,  # LangChain community's FAISS class calls it so
    "$in": lambda value, wanted: value in wanted,
    "$nin": lambda value, wanted: value not in wanted,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_LOGICAL = ("$and", "$or", "$not")


def compiled(wanted: Filter | None) -> Callable[[Document], bool] | None:
    """Return the test that ``wanted`` describes, or None if every document passes.

    A dictionary holds for a document when each of its entries does:

    - ``{"page": 1}``: the metadata under the key equals the value; a list means any of its values;
    - ``{"page": {"$gt": 1, "$lte": 9}}``: every operator holds. $eq, $ne, $in, $nin, $gt, $gte,
      $lt and $lte. What is not there counts as None; values that have no order (a string and a
      number, say) are neither greater nor less;
    - ``{"$and": [...]}``, ``{"$or": [...]}``, ``{"$not": {...}}`` of such dictionaries.

    A function gets a copy of each document. Raises `InvalidArgumentError` for an unknown operator.
    """
    if wanted is None:
        return None
    if isinstance(wanted, Mapping):
        test = _all_of(wanted)
        return lambda document: test(document.metadata)
    if callable(wanted):
        return lambda document: bool(wanted(copied(document)))
    raise InvalidTypeError(
        f"filter must be a dictionary of conditions or a function of a document, got {wanted!r:.60}"
    )


def _all_of(conditions: Mapping[str, Any]) -> _Test:
    tests = [_entry(key, value) for key, value in conditions.items()]
    return lambda metadata: all(test(metadata) for test in tests)


def _entry(key: str, value: Any) -> _Test:
    if not isinstance(key, str):
        raise InvalidTypeError(f"a filter's keys are names of metadata, got {key!r:.60}")
    if key == "$not":
        inverted = _all_of(_conditions(key, value))
        return lambda metadata: not inverted(metadata)
    if key in _LOGICAL:
        if not isinstance(value, (list, tuple)):
            raise InvalidTypeError(f"{key} takes a list of conditions, got {value!r:.60}")
        tests = [_all_of(_conditions(key, part)) for part in value]
        joined = all if key == "$and" else any
        return lambda metadata: joined(test(metadata) for test in tests)
    if key.startswith("$"):
        raise _unsupported(key)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return _comparison(key, "$in", value)
    if isinstance(value, Mapping) and any(str(name).startswith("$") for name in value):
        parts = [_comparison(key, name, operand) for name, operand in value.items()]
        return lambda metadata: all(test(metadata) for test in parts)
    return _comparison(key, "$eq", value)


def _conditions(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidTypeError(f"{name} takes dictionaries of conditions, got {value!r:.60}")
    return value


def _comparison(key: str, name: str, operand: Any) -> _Test:
    if name not in _COMPARISONS:
        raise _unsupported(name)
    if name in ("$in", "$nin"):
        if isinstance(operand, (str, bytes, Mapping)) or not isinstance(operand, Iterable):
            raise InvalidTypeError(f"{name} takes a list of values, got {operand!r:.60}")
        operand = list(operand)
    compare = _COMPARISONS[name]

    def test(metadata: Mapping[str, Any]) -> bool:
        try:
            return bool(compare(metadata.get(key), operand))
        except (TypeError, ValueError):  # no order between the two, or one is an array
            return False

    return test


def _unsupported(name: object) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"the filter holds the unsupported operator {name!r}; there are "
        f"{', '.join((*_COMPARISONS, *_LOGICAL))}"
    )

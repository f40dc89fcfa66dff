"""What callers hand in, checked once where it arrives, and made into Python's own values.

Every public function checks its numbers, choices and texts here. NumPy's numbers count as
numbers, True and False do not, and what comes back is always an ``int``, ``float`` or ``str``.
"""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Collection, Iterable, Mapping
from numbers import Real
from typing import Any

from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError

# No lists of things: a text is one thing, a set has no order, and a mapping's values are as likely
# meant as its keys.
_UNORDERED = (str, bytes, set, frozenset, Mapping)


def check_choice(name: str, value: object, choices: Collection[str]) -> str:
    """Return ``value`` if it is one of ``choices``, else raise `InvalidArgumentError`."""
    if not isinstance(value, str) or value not in choices:
        raise InvalidArgumentError(
            f"{name} must be one of {', '.join(choices)}; got {_text(value)}"
        )
    return str.__str__(value)


def check_whole_number(name: str, value: object, *, least: int, or_none: str = "") -> int:
    """Return ``value`` as an int of at least ``least``, else raise `InvalidArgumentError`.

    ``or_none`` says what None would mean, for the message alone.

    >>> check_whole_number("top_n", 0, least=1, or_none="to keep all")
    Traceback (most recent call last):
    rerank_plugins.errors.InvalidArgumentError: top_n must be at least 1, or None to keep all; got 0
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        none = " or None" if or_none else ""
        raise InvalidTypeError(f"{name} must be a whole number{none}, got {shown(value)}") from None
    if number < least:
        none = f", or None {or_none};" if or_none else ","
        raise InvalidArgumentError(f"{name} must be at least {least}{none} got {_text(number)}")
    return number


def check_number(name: str, value: object) -> float:
    """Return ``value`` as a finite float, else raise `InvalidArgumentError`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidTypeError(f"{name} must be a number, got {shown(value)}")
    number = _float(value)
    if not math.isfinite(number):
        raise InvalidArgumentError(f"{name} must be finite, got {shown(value)}")
    return number


def check_timeout(timeout_s: object) -> float | None:
    """Return ``timeout_s`` in seconds, or None, else raise `InvalidArgumentError`."""
    if timeout_s is None:
        return None
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, Real):
        raise InvalidTypeError(
            f"timeout_s must be a number of seconds or None, got {_text(timeout_s)}"
        )
    seconds = _float(timeout_s)
    if not 0 <= seconds < math.inf:
        raise InvalidArgumentError(
            f"timeout_s must be at least 0 and finite, got {_text(timeout_s)}; None waits without "
            "a limit"
        )
    return min(seconds, threading.TIMEOUT_MAX)  # Python's locks refuse more: 292 years


def check_numbers(name: str, values: object, *, or_booleans: bool = False) -> list[float]:
    """Return ``values``, any ordered iterable of finite numbers, as floats."""
    found = _listed(name, values, "numbers")
    if or_booleans:  # Python's and NumPy's
        found = [
            int(bool(one)) if type(one).__name__ in ("bool", "bool_") else one for one in found
        ]
    return [_finite(name, index, value) for index, value in enumerate(found)]


def check_texts(name: str, values: object) -> list[str]:
    """Return ``values``, any ordered iterable of strings, as a list."""
    texts = _listed(name, values, "strings")
    return [check_text(f"{name}[{index}]", text) for index, text in enumerate(texts)]


def _listed(name: str, values: object, what: str) -> list[Any]:
    if isinstance(values, _UNORDERED) or not isinstance(values, Iterable):
        raise InvalidTypeError(f"{name} must be a list of {what}, got {shown(values)}")
    try:
        items = iter(values)
    except TypeError:  # an array without a dimension calls itself iterable, and a class may
        raise InvalidTypeError(f"{name} must be a list of {what}, got {shown(values)}") from None
    return list(items)  # outside: what a generator raises is its caller's


def check_query(query: object) -> str:
    """Return ``query`` if it is a string, else raise `InvalidTypeError`."""
    return check_text("query", query)


def check_text(name: str, text: object) -> str:
    """Return ``text`` if it is a string, else raise `InvalidTypeError`."""
    if not isinstance(text, str):
        raise InvalidTypeError(f"{name} must be a string, got {shown(text)}")
    return str.__str__(text)


def check_passages(passages: object) -> list[str]:
    """Return ``passages``, any ordered iterable of strings, as a list, or raise `InvalidTypeError`.

    >>> check_passages(text for text in ("a", "b"))
    ['a', 'b']
    """
    if isinstance(passages, (str, bytes)):
        raise InvalidTypeError(
            f"passages must be a list of strings, got {shown(passages)}; "
            "put a single passage into a list: [passage]"
        )
    texts = _listed("passages", passages, "strings")
    for index, passage in enumerate(texts):
        if type(passage) is not str:
            if not isinstance(passage, str):
                raise InvalidTypeError(
                    f"passages[{index}] must be a string, got {shown(passage)}; "
                    "drop it or give its text before reranking"
                )
            texts[index] = str.__str__(passage)  # of a subclass, such as NumPy's
    return texts


def check_pairs(pairs: object) -> tuple[list[str], list[str]]:
    """Return the queries and the passages of ``pairs``, any ordered iterable of two strings each.

    >>> check_pairs([("a query", "a passage")])
    (['a query'], ['a passage'])
    """
    queries, passages = [], []
    for index, pair in enumerate(_listed("pairs", pairs, "(query, passage)")):
        texts = pair
        if type(pair) is not tuple:
            unusable = isinstance(pair, _UNORDERED) or not isinstance(pair, Iterable)
            texts = () if unusable else tuple(pair)
        if len(texts) != 2:
            raise InvalidTypeError(f"pairs[{index}] must be (query, passage), got {shown(pair)}")
        for name, text in zip(("query", "passage"), texts, strict=True):
            if not isinstance(text, str):
                raise InvalidTypeError(
                    f"the {name} of pairs[{index}] must be a string, got {shown(text)}"
                )
        queries.append(str.__str__(texts[0]))
        passages.append(str.__str__(texts[1]))
    return queries, passages


def utf8(text: str) -> bytes:
    """Return ``text`` in UTF-8, or raise `InvalidArgumentError` where it holds half a character."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 20) : error.start + 20]
        raise InvalidArgumentError(
            f"a text holds the lone surrogate {text[error.start]!r} at character {error.start} "
            f"(...{around!r}...), which is not a Unicode character; mend it with "
            "text.encode('utf-8', 'replace').decode()"
        ) from None


def shown(value: object) -> str:
    """Return ``value`` and its type for a message, cut short."""
    return f"{_text(value)} ({type(value).__name__})"


def _text(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # of a foreign type, or a number of more digits than Python writes
        text = "a value that cannot be shown"
    return text if len(text) <= 60 else text[:57] + "..."


def _float(value: Real) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]


def _finite(name: str, index: int, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidTypeError(f"{name}[{index}] must be a number, got {shown(value)}")
    number = _float(value)
    if not math.isfinite(number):
        raise InvalidArgumentError(f"{name}[{index}] is {_text(value)}; every value must be finite")
    return number

"""What callers hand in, checked once where it arrives, and made into Python's own values.

Every public function checks its numbers, choices and texts here. NumPy's numbers count as
numbers, True and False do not, and what comes back is always an ``int``, ``float`` or ``str``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Iterable, Mapping
from numbers import Real

from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError


def check_choice(name: str, value: object, choices: Collection[str]) -> str:
    """Return ``value`` if it is one of ``choices``, else raise `InvalidArgumentError`."""
    if not isinstance(value, str) or value not in choices:
        raise InvalidArgumentError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
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
        raise InvalidArgumentError(f"{name} must be at least {least}{none} got {number}")
    return number


def check_number(name: str, value: object) -> float:
    """Return ``value`` as a finite float, else raise `InvalidArgumentError`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidTypeError(f"{name} must be a number, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidArgumentError(f"{name} must be finite, got {shown(value)}")
    return number


def check_timeout(timeout_s: object) -> float | None:
    """Return ``timeout_s`` in seconds, or None, else raise `InvalidArgumentError`."""
    if timeout_s is None:
        return None
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, Real):
        raise InvalidTypeError(f"timeout_s must be a number of seconds or None, got {timeout_s!r}")
    if not (float(timeout_s) >= 0 and math.isfinite(timeout_s)):
        raise InvalidArgumentError(
            f"timeout_s must be at least 0 and finite, got {timeout_s}; None waits without a limit"
        )
    return float(timeout_s)


def check_numbers(name: str, values: object) -> list[float]:
    """Return ``values``, any ordered iterable of finite numbers, as floats."""
    if isinstance(values, (str, bytes, set, frozenset)) or not isinstance(values, Iterable):
        raise InvalidTypeError(f"{name} must be a list of numbers, got {shown(values)}")
    return [_finite(name, index, value) for index, value in enumerate(values)]


def check_query(query: object) -> str:
    """Return ``query`` if it is a string, else raise `InvalidTypeError`."""
    if not isinstance(query, str):
        raise InvalidTypeError(f"query must be a string, got {shown(query)}")
    return str.__str__(query)


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
    # A set has no order, and a mapping's values are as likely meant as its keys.
    if isinstance(passages, (set, frozenset, Mapping)) or not isinstance(passages, Iterable):
        raise InvalidTypeError(f"passages must be a list of strings, got {shown(passages)}")
    texts = list(passages)
    for index, passage in enumerate(texts):
        if type(passage) is not str:
            if not isinstance(passage, str):
                raise InvalidTypeError(
                    f"passages[{index}] must be a string, got {shown(passage)}; "
                    "drop it or give its text before reranking"
                )
            texts[index] = str.__str__(passage)  # of a subclass, such as NumPy's
    return texts


def shown(value: object) -> str:
    """Return ``value`` and its type for a message, cut short."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _finite(name: str, index: int, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidTypeError(f"{name}[{index}] must be a number, got {shown(value)}")
    if not math.isfinite(value):
        raise InvalidArgumentError(f"{name}[{index}] is {value}; every value must be finite")
    return float(value)

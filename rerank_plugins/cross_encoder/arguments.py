"""What callers hand in, checked where it arrives."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise `InvalidArgumentError` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise InvalidArgumentError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def check_count(name: str, value: object, *, least: int) -> None:
    """Raise `InvalidArgumentError` unless ``value`` is None or a whole number from ``least`` on."""
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidTypeError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise InvalidArgumentError(f"{name} must be at least {least}, got {value}")


def check_timeout(timeout_s: object) -> None:
    """Raise `InvalidArgumentError` unless ``timeout_s`` is None or a number of seconds."""
    if timeout_s is None:
        return
    if not isinstance(timeout_s, (int, float)) or isinstance(timeout_s, bool):
        raise InvalidTypeError(f"timeout_s must be a number of seconds or None, got {timeout_s!r}")
    if not (timeout_s >= 0 and math.isfinite(timeout_s)):
        raise InvalidArgumentError(
            f"timeout_s must be at least 0 and finite, got {timeout_s}; None waits without a limit"
        )


def unzipped(pairs: object) -> tuple[list[str], list[str]]:
    """Return the queries and the passages of ``pairs``, a sequence of two strings each."""
    if isinstance(pairs, (str, bytes)) or not isinstance(pairs, Sequence):
        raise InvalidTypeError(f"pairs must be a list of (query, passage), got {pairs!r:.60}")
    for index, pair in enumerate(pairs):
        if isinstance(pair, (str, bytes)) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise InvalidTypeError(f"pairs[{index}] must be (query, passage), got {pair!r:.60}")
        for name, text in zip(("query", "passage"), pair, strict=True):
            if not isinstance(text, str):
                raise InvalidTypeError(
                    f"the {name} of pairs[{index}] must be a string, got {text!r:.60}"
                )
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]

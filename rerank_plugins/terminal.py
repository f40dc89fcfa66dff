"""Text of other people on a terminal: nothing in it moves the cursor or changes what is shown."""

from __future__ import annotations

import re

__all__ = ["harmless"]

# Control characters, those that turn the direction of writing, line separators, half characters.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def harmless(text: str) -> str:
    r"""Return foreign text for one line of a terminal: control characters as their escapes.

    >>> print(harmless("a\x1b[2Jb\n"))
    a\x1b[2Jb\n
    """
    return _UNSAFE.sub(lambda match: ascii(match[0])[1:-1], text)

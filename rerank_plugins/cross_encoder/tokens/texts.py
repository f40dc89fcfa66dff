"""Texts in groups and in bytes, ids as shared arrays: what every encoder here does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rerank_plugins.cross_encoder.pairs import TokenIds

# Texts are encoded together up to this size: the fixed cost of a pass is shared, and what lies
# between text and ids stays small, for however many texts.
JOINT_CHARS = 65_536
# Longer texts are encoded this many characters at a time, as far as their first ids are asked for,
# and not remembered: they are few, and the most of each is cut off anyway.
LONG_TEXT_CHARS = 8_192


def joint_groups(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield ``texts`` in order, in lists of at most ``JOINT_CHARS`` or of a single text."""
    group: list[str] = []
    n_chars = 0
    for text in texts:
        n_chars += len(text)
        if group and n_chars > JOINT_CHARS:
            yield group
            group, n_chars = [], len(text)
        group.append(text)
    if group:
        yield group


def frozen(ids: TokenIds) -> TokenIds:
    """Make ``ids`` read-only: several callers may hold the same array."""
    ids.flags.writeable = False
    return ids

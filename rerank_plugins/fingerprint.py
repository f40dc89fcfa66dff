"""Who scored: plain data that tells whether earlier scores and new ones belong together."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rerank_plugins.errors import DataFormatError
from rerank_plugins.ranking import Scorer

__all__ = ["check_unchanged", "file_digest", "fingerprint", "same"]

# Attributes of a scorer, or of its options, that its scores depend on.
_NAMES = (
    "revision",
    "device",
    "dtype",
    "max_length",
    "long_documents",
    "query_prefix",
    "passage_prefix",
)
_PROBE = (
    "how do vaccines work",
    [
        "A vaccine trains the immune system to recognise a pathogen before it is met.",
        "How the tides work: the Moon pulls on the water of the oceans.",
        "work",
    ],
)


def fingerprint(scorer: Scorer) -> dict[str, Any]:
    """Return everything that the scores depend on, by name, so that a change can be named too."""
    found: dict[str, Any] = {"model": scorer.model, "score_unit": scorer.score_unit}
    for name in _NAMES:
        for owner in (scorer, getattr(scorer, "options", None)):
            if hasattr(owner, name):
                found[name] = getattr(owner, name)
                break
    # A model can change under its name; then these scores change. Further digits are rounding.
    return found | {"probe": [round(float(score), 3) for score in scorer.score(*_PROBE)]}


def check_unchanged(output: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise `DataFormatError` where ``output`` was begun with other settings than those of now.

    ``before`` was read from JSON. The error says of each setting what it was and what it is.
    """
    now = json.loads(json.dumps(now))  # as it would be read back: a tuple is a list there
    changed = [
        f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
        for name in {**before, **now}
        if not same(before.get(name), now.get(name))
    ]
    if changed:
        raise DataFormatError(
            f"{output} was begun with other settings: {'; '.join(changed)}. Give another output "
            "folder, or discard what is there with --restart (restart=True)"
        )


def file_digest(path: Path) -> str:
    """Return a short name of the content of a file."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def same(before: Any, now: Any) -> bool:
    """Compare two settings; scores may differ by what rounding to another dtype's digits does."""
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = list(zip(before, now, strict=True))
        if all(isinstance(value, (int, float)) for pair in pairs for value in pair):
            return all(
                math.isclose(left, right, rel_tol=0.01, abs_tol=0.02) for left, right in pairs
            )
    return bool(before == now)

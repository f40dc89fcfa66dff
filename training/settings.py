"""The two sizes of the recipe: the whole one, and a smoke test of every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from training.candidates import ListShape
from training.distillation import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How much of everything; ``None`` for ``sources`` takes them all.

    ``passages_of`` and ``queries_of`` bound single sources and single forms of query.
    """

    name: str
    sources: tuple[str, ...] | None
    passages_per_source: int
    passages_of: Mapping[str, int]
    queries_of: Mapping[str, int]
    schedule: Schedule
    shape: ListShape = field(default_factory=ListShape)
    bm25_depth: int = 100
    dense_depth: int = 20
    dense_shard: int = 12_000
    validation_lists_per_group: int = 200
    validation_depth: int = 30
    validate_every_s: float = 420.0
    seed: int = 0

    def lasting(self, minutes: float) -> Settings:
        """Return the same settings with another time for training."""
        return replace(self, schedule=replace(self.schedule, minutes=minutes))


FULL = Settings(
    name="full",
    sources=None,
    passages_per_source=1_000,
    passages_of={
        # Questions of people and their passages, if they are given: nearly all of them.
        "medquad": 9_000,
        "squad": 1_000_000,
        "selqa": 1_000_000,
        "dict-gcide": 9_000,
        "wordnet-base": 9_000,
        "dict-foldoc": 4_000,
        "dict-jargon": 1_500,
        "package descriptions": 6_000,
        # Reference manuals that say much the same on every page.
        "lilypond-doc-html": 400,
        "grass-doc": 500,
        "gimp-help-en": 800,
        "libreoffice-help-en-us": 900,
    },
    # The lists of one hour's training on two cores; more would not be seen.
    queries_of={
        "definition": 20_000,
        "pattern": 20_000,
        "keywords": 14_000,
        "heading": 12_000,
        "question words": 9_000,
        "summary": 4_000,
        "sentence": 2_500,
    },
    schedule=Schedule(lists=10_000_000, minutes=60.0),
)

SMOKE = Settings(
    name="smoke",
    sources=("dict-foldoc", "dict-jargon", "debian-reference-en", "git-doc"),
    passages_per_source=700,
    passages_of={},
    queries_of={"keywords": 1_500, "definition": 1_500, "question words": 500},
    schedule=Schedule(lists=4_000, minutes=1.5, average_steps=40),
    bm25_depth=50,
    dense_depth=10,
    dense_shard=2_000,
    validation_lists_per_group=60,
    validation_depth=20,
    validate_every_s=30.0,
)

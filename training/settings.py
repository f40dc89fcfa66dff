"""The two sizes of the recipe: the whole one, and a smoke test of every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from training.candidates import ListShape
from training.distillation import Schedule
from training.sources import UNSEEN_DOCUMENTATION


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How much of everything; ``None`` for ``sources`` takes them all.

    ``passages_of`` and ``queries_of`` bound single sources and single forms of query. ``runs`` are
    the lists that each run sees, in an order of its own; the model is their mean.
    """

    name: str
    sources: tuple[str, ...] | None
    passages_per_source: int
    passages_of: Mapping[str, int]
    queries_of: Mapping[str, int]
    schedule: Schedule
    runs: tuple[int, ...]
    shape: ListShape = field(default_factory=ListShape)
    bm25_depth: int = 100
    dense_depth: int = 20
    dense_shard: int = 12_000
    validation_lists_per_group: int = 200
    validation_depth: int = 30
    validate_every_s: float = 420.0
    seed: int = 0

    def lasting(self, minutes: float) -> Settings:
        """Return the same settings with another time for training, all runs together."""
        return replace(self, schedule=replace(self.schedule, minutes=minutes / len(self.runs)))


FULL = Settings(
    name="full",
    sources=None,
    passages_per_source=1_800,
    passages_of={
        # Questions of people and their passages, if they are given: all of them.
        "medquad": 1_000_000,
        "squad": 1_000_000,
        "selqa": 1_000_000,
        "dict-gcide": 15_000,
        "wordnet-base": 15_000,
        "dict-foldoc": 6_000,
        "dict-jargon": 2_000,
        "package descriptions": 9_000,
        # Reference manuals that say much the same on every page.
        "lilypond-doc-html": 500,
        "grass-doc": 700,
        "gimp-help-en": 1_000,
        "libreoffice-help-en-us": 1_200,
    },
    queries_of={
        "definition": 30_000,
        "pattern": 27_000,
        "keywords": 20_000,
        "heading": 17_000,
        "question words": 12_000,
        "summary": 6_000,
        "sentence": 3_000,
    },
    schedule=Schedule(),
    runs=(240_000, 85_000),
)

SMOKE = Settings(
    name="smoke",
    sources=("dict-foldoc", "dict-jargon", "debian-reference-en", "git-doc"),
    passages_per_source=700,
    passages_of={},
    queries_of={"keywords": 1_500, "definition": 1_500, "question words": 500},
    schedule=Schedule(minutes=0.75, average_steps=40),
    runs=(2_000, 2_000),
    bm25_depth=50,
    dense_depth=10,
    dense_shard=2_000,
    validation_lists_per_group=60,
    validation_depth=20,
    validate_every_s=30.0,
)

# No training: queries and passages of other packages, to compare models on.
UNSEEN = Settings(
    name="unseen",
    sources=tuple(UNSEEN_DOCUMENTATION),
    passages_per_source=500,
    passages_of={},
    queries_of={
        "heading": 500,
        "pattern": 400,
        "keywords": 250,
        "question words": 150,
        "sentence": 50,
    },
    schedule=Schedule(),
    runs=(),
    bm25_depth=60,
    validation_lists_per_group=2_000,
)

"""The two students, and the two sizes of the recipe: the whole one, and a smoke test of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from training.candidates import ListShape
from training.distillation import Schedule
from training.sources import UNSEEN_DOCUMENTATION


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """What one of the two models starts from, and how it learns.

    The targets are the cosine times 20, and the other teachers' scores with the same spread times
    their weights; the own passage gets ``own_bonus`` more. ``taught_share`` is what a model given
    with ``--teacher`` has of the target.
    """

    start: Literal["splade-tiny", "all-MiniLM-L6-v2"]
    shape: ListShape
    schedule: Schedule
    sparse_weight: float
    bm25_weight: float
    own_bonus: float
    int8: bool
    taught_share: float = 0.65


STUDENTS = {
    "embedded": Student(
        start="splade-tiny",
        shape=ListShape(),
        schedule=Schedule(),
        sparse_weight=1.0,
        bm25_weight=0.4,
        own_bonus=2.0,
        int8=False,
    ),
    # The rate and the frozen embeddings: 10 million weights that were well trained already.
    "embedded-l6": Student(
        start="all-MiniLM-L6-v2",
        shape=ListShape(bm25_top=1, bm25_rest=1, dense=3, random=2),
        schedule=Schedule(
            lists_per_step=8,
            learning_rate=1e-4,
            embedding_rate=0.0,
            max_length=96,
            long_share=0.08,
            stretched_share=0.0,
            offset_share=0.0,
            average_steps=300,
            tokens_at_once=2_048,
        ),
        sparse_weight=0.5,
        bm25_weight=0.2,
        own_bonus=2.0,
        int8=True,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How much of everything; ``None`` for ``sources`` takes them all.

    ``general_share`` is what the files of pairs, passages and questions have of the training lists,
    where any are given; what comes from public packages is technical.
    ``passages_of`` and ``queries_of`` bound single sources and single forms of query. ``runs`` are
    the lists that each run sees, in an order of its own; the model is their mean.
    """

    name: str
    sources: tuple[str, ...] | None
    passages_per_source: int
    passages_per_file: int
    passages_of: Mapping[str, int]
    queries_of: Mapping[str, int]
    runs: tuple[int, ...]
    minutes: float | None = None
    general_share: float = 0.8
    bare_questions: int = 9_000
    bm25_depth: int = 100
    dense_depth: int = 20
    dense_shard: int = 12_000
    validation_lists_per_group: int = 200
    validation_depth: int = 30
    validate_every_s: float = 420.0
    seed: int = 0

    def lasting(self, minutes: float) -> Settings:
        """Return the same settings with another time for training, all runs together."""
        return replace(self, minutes=minutes)


FULL = Settings(
    name="full",
    sources=None,
    passages_per_source=1_800,
    passages_per_file=12_000,
    passages_of={
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
    runs=(240_000, 85_000),
)

SMOKE = Settings(
    name="smoke",
    sources=("dict-foldoc", "dict-jargon", "debian-reference-en", "git-doc"),
    passages_per_source=500,
    passages_per_file=500,
    passages_of={},
    queries_of={"keywords": 1_500, "definition": 1_500, "question words": 500},
    runs=(1_000, 1_000),
    minutes=1.0,
    bare_questions=50,
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
    passages_per_file=500,
    passages_of={},
    queries_of={
        "heading": 500,
        "pattern": 400,
        "keywords": 250,
        "question words": 150,
        "sentence": 50,
    },
    runs=(),
    bm25_depth=60,
    validation_lists_per_group=2_000,
)

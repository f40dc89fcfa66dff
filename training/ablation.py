"""``python -m training.ablation``: which parts of the recipe pay, on the full recipe's own lists.

Every variant trains on the same number of lists, in the same order, from the same seed, and is
measured on the recipe's validation; one file a variant goes to ``training/results``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from transformers import BertForSequenceClassification

from training.distillation import Schedule, train
from training.lists import Lists
from training.passages import read_passages
from training.queries import Query, read_queries
from training.recipe import PASSAGE_TOKENS, QUERY_TOKENS
from training.sources import SPLADE_WHEEL, unpacked_wheel
from training.student import TokenStore, new_student, plain_tokenizer
from training.teachers import BM25_WEIGHT, mixed_targets
from training.validation import validate

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """The recipe with one part changed."""

    name: str
    what: str
    pretrained: bool = True
    teachers: tuple[str, ...] = ("dense", "sparse", "bm25")
    own_passage_weight: float = 0.3
    questions: bool = True


VARIANTS = (
    Variant(name="recipe", what="the recipe"),
    Variant(name="random", what="random weights instead of splade-tiny", pretrained=False),
    Variant(name="no_splade", what="teachers MiniLM and BM25 only", teachers=("dense", "bm25")),
    Variant(
        name="no_minilm", what="teachers splade-tiny and BM25 only", teachers=("sparse", "bm25")
    ),
    Variant(
        name="no_bm25", what="teachers MiniLM and splade-tiny only", teachers=("dense", "sparse")
    ),
    Variant(name="no_own", what="no cross-entropy on the own passage", own_passage_weight=0.0),
    Variant(name="no_people", what="no questions that people wrote", questions=False),
)


def variant_lists(variant: Variant, lists: Lists, scores: Path, queries: Sequence[Query]) -> Lists:
    """Return the lists with the variant's targets, and without what it leaves out."""
    with np.load(scores) as arrays:
        dense, sparse, bm25 = (arrays[name] for name in ("dense", "sparse", "bm25"))
    if "dense" not in variant.teachers:
        # The sparse scores take their spread from the dense ones, so these must stay something.
        spread = dense.std(axis=1, keepdims=True)
        centred = sparse - sparse.mean(axis=1, keepdims=True)
        dense = centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-6) * spread
    weight = 1.0 if set(variant.teachers) >= {"dense", "sparse"} else 0.0
    bm25_weight = BM25_WEIGHT if "bm25" in variant.teachers else 0.0
    targets = mixed_targets(dense, sparse, bm25, sparse_weight=weight, bm25_weight=bm25_weight)
    changed = Lists(lists.query, lists.candidates, targets, lists.own)
    if variant.questions:
        return changed
    rows = [row for row, query in enumerate(lists.query) if queries[int(query)].form != "person"]
    return changed[np.asarray(rows, dtype=np.int64)]


def run_variant(variant: Variant, *, folder: Path, work: Path, n_lists: int) -> dict[str, object]:
    """Train the variant and return its row of the table."""
    splade = unpacked_wheel(SPLADE_WHEEL, work)
    tokenizer = plain_tokenizer(splade)
    queries = read_queries(folder / "queries.jsonl")
    query_ids = TokenStore([query.text for query in queries], tokenizer, max_tokens=QUERY_TOKENS)
    texts = [passage.text for passage in read_passages(folder / "passages.jsonl")]
    passage_ids = TokenStore(texts, tokenizer, max_tokens=PASSAGE_TOKENS)
    held = Lists.load(folder / "validation.npz")
    n_person = sum(queries[int(index)].form == "person" for index in held.query)
    lists = Lists.load(folder / "lists_embedded.npz")
    schedule = Schedule(lists=n_lists, average_steps=100)

    def figures(student: BertForSequenceClassification) -> dict[str, float]:
        return validate(student, held, query_ids, passage_ids, n_person=n_person)

    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        student = train(
            new_student(splade, pretrained=variant.pretrained),
            variant_lists(variant, lists, folder / "scores_lists_embedded.npz", queries),
            query_ids,
            passage_ids,
            schedule=replace(schedule, own_passage_weight=variant.own_passage_weight),
            folder=Path(scratch),
            validate=lambda student: {},
            validate_every_s=1e9,
        )
    return {
        "what": variant.what,
        "lists": n_lists,
        "passages": len(texts),
        "minutes": (time.monotonic() - started) / 60,
        "final": figures(student),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    """Run every variant whose file is not there."""
    parser = argparse.ArgumentParser(prog="python -m training.ablation", description=__doc__)
    parser.add_argument("--lists", type=int, default=6_000, help="lists to train on (6000)")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--folder", default="full", help="the run whose lists are used")
    parser.add_argument("--variant", nargs="*", choices=[variant.name for variant in VARIANTS])
    options = parser.parse_args()
    console = Console()
    for variant in VARIANTS:
        path = HERE / "results" / f"ablation_{variant.name}.json"
        if path.exists() or (options.variant and variant.name not in options.variant):
            continue
        with console.status(variant.what):
            row = run_variant(
                variant,
                folder=options.work / options.folder,
                work=options.work,
                n_lists=options.lists,
            )
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(row, indent=1) + "\n", "utf-8")
        console.print(f"{variant.what}: {row['final']}")


if __name__ == "__main__":
    main()

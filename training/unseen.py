"""``python -m training.unseen NAME=FOLDER ...``: compare models on text of other packages.

No run has seen `UNSEEN_DOCUMENTATION`. The teachers give the targets there too, so no judgements
are needed: what counts is how well a model agrees with them where it cannot have learned a passage
by heart. Writes ``results/unseen.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from rerank_plugins import CrossEncoderScorer
from training.candidates import reciprocal_rank
from training.lists import Lists, validation_candidates
from training.passages import Passage
from training.queries import Query
from training.recipe import PASSAGE_TOKENS, Recipe
from training.settings import UNSEEN
from training.teachers import FloatArray, mixed_targets

HERE = Path(__file__).parent


def unseen_lists(recipe: Recipe) -> tuple[list[Passage], list[Query], Lists]:
    """Return the passages, the queries, and lists of an own passage and BM25's best."""
    passages = recipe.passages()
    queries = recipe.queries(passages)
    recipe.encode(passages, queries)
    query, candidates = validation_candidates(
        queries,
        np.load(recipe.folder / "bm25_top.npy").astype(np.int64),
        per_group=recipe.settings.validation_lists_per_group,
        depth=recipe.settings.validation_depth,
        chosen_from=lambda _: True,
    )
    targets = mixed_targets(*recipe.teacher_scores(query, candidates))
    own = np.ones(len(query), dtype=np.float32)
    return passages, queries, Lists(query, candidates, targets, own)


def agreement(scores: FloatArray, targets: FloatArray) -> dict[str, float]:
    """Return what scores (n_lists, size) have of the targets, and the own passages' RR@10.

    >>> same = np.array([[3.0, 1.0, 2.0]], dtype=np.float32)
    >>> agreement(same, same)
    {'correlation': 1.0, 'KL divergence': 0.0, 'RR@10': 1.0}
    """
    correlations = [
        np.corrcoef(row, target)[0, 1] for row, target in zip(scores, targets, strict=True)
    ]
    student, teacher = _log_softmax(scores), _log_softmax(targets)
    divergence = (np.exp(teacher) * (teacher - student)).sum(axis=1)
    return {
        "correlation": round(float(np.mean(correlations)), 4),
        "KL divergence": round(float(divergence.mean()), 4),
        "RR@10": round(float(reciprocal_rank(scores).mean()), 4),
    }


def _log_softmax(values: FloatArray) -> npt.NDArray[np.float64]:
    shifted = (values - values.max(axis=1, keepdims=True)).astype(np.float64)
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def main() -> None:
    """Score the lists with every model named, and write what they agree on."""
    parser = argparse.ArgumentParser(prog="python -m training.unseen", description=__doc__)
    parser.add_argument("models", nargs="+", metavar="NAME=FOLDER", help="or NAME=embedded")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    options = parser.parse_args()
    console = Console()
    passages, queries, lists = unseen_lists(Recipe(UNSEEN, work=options.work, console=console))
    pairs = [
        (queries[int(query)].text, passages[int(candidate)].text)
        for query, candidates in zip(lists.query, lists.candidates, strict=True)
        for candidate in candidates
    ]
    rows = {"the teachers' mix": agreement(lists.targets, lists.targets)}
    for model in options.models:
        name, _, folder = model.partition("=")
        with CrossEncoderScorer(folder, device="cpu", max_length=PASSAGE_TOKENS) as scorer:
            scores = np.asarray(scorer.score_pairs(pairs), np.float32)
        rows[name] = agreement(scores.reshape(lists.targets.shape), lists.targets)
        console.print(name, rows[name])
    result = {
        "unseen": sorted(UNSEEN.sources or ()),
        "lists": len(lists),
        "depth": lists.candidates.shape[1],
        "models": rows,
    }
    (HERE / "results" / "unseen.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

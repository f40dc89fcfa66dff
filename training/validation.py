"""The recipe's own validation: how high a model puts the passage a query was made from."""

from __future__ import annotations

import torch
from transformers import BertForSequenceClassification

from training.candidates import reciprocal_rank
from training.lists import Lists
from training.student import TokenStore, score_pairs


@torch.inference_mode()
def validate(
    student: BertForSequenceClassification,
    lists: Lists,
    queries: TokenStore,
    passages: TokenStore,
    *,
    n_person: int,
) -> dict[str, float]:
    """Return RR@10 of the own passages: of people's questions, of made queries, and the mean.

    The first ``n_person`` lists are people's questions.
    """
    parts = []
    for start in range(0, len(lists), 64):
        batch = lists[slice(start, start + 64)]
        pairs = [
            (queries[int(query)], passages[int(candidate)])
            for query, candidates in zip(batch.query, batch.candidates, strict=True)
            for candidate in candidates
        ]
        with torch.autocast(student.device.type, dtype=torch.bfloat16):
            scores = score_pairs(student, pairs, max_length=192)
        parts.append(scores.view(batch.candidates.shape).cpu())
    ranks = reciprocal_rank(torch.cat(parts).numpy())
    groups = {"person": ranks[:n_person], "made": ranks[n_person:]}
    figures = {f"RR@10 {name}": float(group.mean()) for name, group in groups.items() if len(group)}
    return {**figures, "RR@10": sum(figures.values()) / len(figures)}

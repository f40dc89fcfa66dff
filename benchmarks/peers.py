"""The scorers, each as a function from calls to scores, on the same model folder and max_length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from rerank_plugins.workloads import Call, ScoreCalls

MAX_LENGTH = 512


def ours(folder: str, *, dtype: str, device: str = "cpu") -> ScoreCalls:
    from rerank_plugins import CrossEncoderScorer

    scorer = CrossEncoderScorer(folder, device=device, dtype=dtype, max_length=MAX_LENGTH)

    def score(calls: Sequence[Call]) -> list[list[float]]:
        if len(calls) == 1:
            return [scorer.score(*calls[0])]
        flat = scorer.score_pairs([(query, p) for query, passages in calls for p in passages])
        return regrouped(flat, calls)

    return score


def sentence_transformers(
    folder: str, *, dtype: str, batch_size: int, device: str = "cpu"
) -> ScoreCalls:
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(
        folder,
        device=device,
        max_length=MAX_LENGTH,
        model_kwargs={"torch_dtype": getattr(torch, dtype)},
    )

    def score(calls: Sequence[Call]) -> list[list[float]]:
        pairs = [(query, passage) for query, passages in calls for passage in passages]
        flat = model.predict(pairs, batch_size=batch_size, show_progress_bar=False)
        return regrouped(flat.tolist(), calls)

    return score


def plain_transformers(folder: str, *, batch_size: int) -> ScoreCalls:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).train(False)

    def forward(queries: list[str], passages: list[str]) -> list[float]:
        inputs = tokenizer(
            queries,
            passages,
            padding=True,
            truncation=True,
            max_length=MAX_LENGTH,
            return_tensors="pt",
        )
        with torch.inference_mode():
            return [float(value) for value in model(**inputs).logits[:, 0]]

    return in_batches(forward, batch_size)


def regrouped(flat: list[float], calls: Sequence[Call]) -> list[list[float]]:
    rows, start = [], 0
    for _, passages in calls:
        rows.append(flat[start : start + len(passages)])
        start += len(passages)
    return rows


def in_batches(
    forward: Callable[[list[str], list[str]], list[float]], batch_size: int | None
) -> ScoreCalls:
    """Return a contestant that calls ``forward`` for ``batch_size`` pairs at a time, or for all."""

    def score(calls: Sequence[Call]) -> list[list[float]]:
        pairs = [(query, passage) for query, passages in calls for passage in passages]
        size = batch_size or len(pairs)
        flat: list[float] = []
        for start in range(0, len(pairs), size):
            batch = pairs[start : start + size]
            flat += forward([query for query, _ in batch], [passage for _, passage in batch])
        return regrouped(flat, calls)

    return score

"""What a reranker is trained with, from what it is evaluated with: a run and its judgements."""

from __future__ import annotations

from typing import TypedDict

from rerank_plugins.checks import check_whole_number
from rerank_plugins.errors import DataFormatError
from rerank_plugins.evaluation.collection import Collection

__all__ = ["TrainingLists", "training_lists"]


class TrainingLists(TypedDict):
    """One list a query; a label is 1.0 for a relevant passage and 0.0 for another."""

    query: list[str]
    passages: list[list[str]]
    labels: list[list[float]]


def training_lists(collection: Collection, *, negatives: int = 4, skip: int = 0) -> TrainingLists:
    """Return the columns that the listwise losses of sentence-transformers learn from.

    ``datasets.Dataset.from_dict`` of it is a training set for ``CrossEncoderTrainer`` with
    ``LambdaLoss`` and its like. Each query of the run that has judgements gives its relevant
    passages, found by the first stage or not, and its ``negatives`` best candidates that nobody
    judged relevant. Those are the hard ones: the first stage took them for answers. An unjudged
    candidate at the very top often is one, so ``skip`` leaves out so many of them.

    Raises `DataFormatError` where a passage is not in the corpus.
    """
    check_whole_number("negatives", negatives, least=1)
    check_whole_number("skip", skip, least=0)
    lists = TrainingLists(query=[], passages=[], labels=[])
    for query_id in collection.query_ids:
        grades = collection.qrels[query_id]
        relevant = [doc_id for doc_id, grade in grades.items() if grade > 0]
        candidates = collection.candidates(query_id)
        texts = dict(zip(candidates.doc_ids, collection.passages(candidates), strict=True))
        others = [doc_id for doc_id in texts if grades.get(doc_id, 0) <= 0][skip:][:negatives]
        lists["query"].append(collection.queries[query_id])
        lists["passages"].append(
            [*_passages(collection, relevant), *(texts[doc_id] for doc_id in others)]
        )
        lists["labels"].append([1.0] * len(relevant) + [0.0] * len(others))
    return lists


def _passages(collection: Collection, doc_ids: list[str]) -> list[str]:
    passages = []
    for doc_id, passage in zip(doc_ids, collection.corpus.passages(doc_ids), strict=True):
        if passage is None:
            raise DataFormatError(
                f"the relevant document {doc_id!r} is not in {collection.corpus.name}; "
                "qrels and corpus must be of the same data set"
            )
        passages.append(passage)
    return passages

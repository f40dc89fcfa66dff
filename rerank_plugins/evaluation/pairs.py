"""What a reranker is trained with, from what it is evaluated with: a run and its judgements."""

from __future__ import annotations

from typing import TypedDict

from rerank_plugins.checks import check_whole_number
from rerank_plugins.errors import DataFormatError
from rerank_plugins.evaluation.collection import Collection

__all__ = ["TrainingPairs", "training_pairs"]


class TrainingPairs(TypedDict):
    """Three columns of one length; ``label`` is 1.0 for a relevant passage and 0.0 for another."""

    query: list[str]
    passage: list[str]
    label: list[float]


def training_pairs(collection: Collection, *, negatives: int = 4, skip: int = 0) -> TrainingPairs:
    """Return the columns that sentence-transformers' ``CrossEncoderTrainer`` learns from.

    Each query of the run that has judgements gives its relevant passages, found by the first stage
    or not, and its ``negatives`` best candidates that nobody judged relevant. Those are the hard
    ones: the first stage took them for answers. An unjudged candidate at the very top often is one,
    so ``skip`` leaves out so many of them.

    Raises `DataFormatError` where a passage is not in the corpus.
    """
    check_whole_number("negatives", negatives, least=0)
    check_whole_number("skip", skip, least=0)
    pairs = TrainingPairs(query=[], passage=[], label=[])
    for query_id in collection.query_ids:
        grades = collection.qrels[query_id]
        relevant = [doc_id for doc_id, grade in grades.items() if grade > 0]
        candidates = collection.candidates(query_id)
        texts = dict(zip(candidates.doc_ids, collection.passages(candidates), strict=True))
        others = [doc_id for doc_id in texts if grades.get(doc_id, 0) <= 0]
        rows = [*_texts(collection, relevant), *(texts[id_] for id_ in others[skip:][:negatives])]
        pairs["query"] += [collection.queries[query_id]] * len(rows)
        pairs["passage"] += rows
        pairs["label"] += [float(at < len(relevant)) for at in range(len(rows))]
    return pairs


def _texts(collection: Collection, doc_ids: list[str]) -> list[str]:
    texts = []
    for doc_id, text in zip(doc_ids, collection.corpus.passages(doc_ids), strict=True):
        if text is None:
            raise DataFormatError(
                f"the relevant document {doc_id!r} is not in {collection.corpus.name}; "
                "qrels and corpus must be of the same data set"
            )
        texts.append(text)
    return texts

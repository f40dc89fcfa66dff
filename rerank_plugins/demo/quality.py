"""How good each system's rankings are, over all judged questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from rerank_plugins.demo.pipeline import FIRST_STAGE, Answer
from rerank_plugins.evaluation import holm, mean_values, parse_measures, randomisation_test
from rerank_plugins.evaluation.measures import query_values
from rerank_plugins.evaluation.trec import Candidates

MEASURES = ("nDCG@10", "RR@10")


@dataclass(frozen=True, slots=True)
class SystemQuality:
    """One system: ``figures`` by measure, median ``ms`` a question, retrieval included.

    ``p_value`` is of its nDCG@10 against the first stage's: a paired randomisation test, corrected
    by Holm for the number of systems. None for the first stage itself.
    """

    name: str
    figures: Mapping[str, float]
    ms: float
    p_value: float | None


def qualities(
    answers: Mapping[str, Answer], qrels: Mapping[str, Mapping[str, int]], systems: Sequence[str]
) -> list[SystemQuality]:
    """Return the quality of each system, by ir_measures, in exactly the order that was shown."""
    measures = parse_measures(MEASURES)
    judged = {query_id: dict(qrels[query_id]) for query_id in answers}
    values = {
        name: query_values(measures, judged, partial(_run, answers, name)) for name in systems
    }
    reranked = [name for name in systems if name != FIRST_STAGE]
    best = MEASURES[0]
    p_values = dict(
        zip(
            reranked,
            holm(
                [randomisation_test(values[n][best], values[FIRST_STAGE][best]) for n in reranked]
            ),
            strict=True,
        )
    )
    return [
        SystemQuality(
            name,
            mean_values(measures, values[name]),
            median(answer.ms[name] for answer in answers.values()),
            p_values.get(name),
        )
        for name in systems
    ]


def retrieved_share(answers: Mapping[str, Answer], qrels: Mapping[str, Mapping[str, int]]) -> float:
    """Return the share of a question's judged passages that the first stage found, on average."""
    shares = [
        len({found.id for found in answer.rankings[FIRST_STAGE]} & qrels[query_id].keys())
        / len(qrels[query_id])
        for query_id, answer in answers.items()
    ]
    return sum(shares) / len(shares)


def first_relevant(answer: Answer, system: str, judged: Mapping[str, int]) -> int | None:
    """Return the rank, from 1, of the first passage that is judged as answering (2); else None."""
    for rank, found in enumerate(answer.rankings[system], start=1):
        if judged.get(found.id, 0) >= 2:
            return rank
    return None


def _run(answers: Mapping[str, Answer], system: str, query_id: str) -> Candidates:
    ranking = answers[query_id].rankings[system]
    # By rank, not by score: tools break equal scores by id, a pipeline by first-stage order.
    ids = [found.id for found in ranking]
    return Candidates(ids, [-float(rank) for rank in range(len(ids))], list(range(1, len(ids) + 1)))

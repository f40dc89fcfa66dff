"""What one run of the demo found, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

from rerank_plugins.demo.judgements import Qrels
from rerank_plugins.demo.pipeline import Answer, Framework, Hit

MEASURES = ("nDCG@10", "RR@10")
STAGES = ("first_stage", "reranked")


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over all judged questions, of both stages' ``depth`` passages a question.

    ``retrieved_share`` is the share of the judged passages among them, averaged over the
    questions: what the first stage did not find, no reranker can bring back.
    """

    n_queries: int
    depth: int
    values: Mapping[str, Mapping[str, float]]
    retrieved_share: float
    retrieve_ms: float
    rerank_ms: float


@dataclass(slots=True)
class Report:
    """Everything that the demo shows."""

    framework: Framework
    model: str
    device: str
    score_unit: str
    top_k: int
    embedding: str = ""
    n_passages: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    quality: Quality | None = None
    not_in_this_python: list[tuple[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """Return the report as plain JSON data."""
        return asdict(self)


def measure(answers: Mapping[str, Answer], qrels: Qrels, depth: int) -> Quality:
    """Return ir_measures' values of both rankings, in exactly the order that was shown."""
    import ir_measures

    recall = f"R@{depth}"
    measures = [ir_measures.parse_measure(name) for name in (*MEASURES, recall)]
    values = {}
    for stage in STAGES:
        run = {query_id: _run(getattr(answer, stage)) for query_id, answer in answers.items()}
        means = ir_measures.calc_aggregate(measures, qrels, run)
        values[stage] = {str(key): float(value) for key, value in means.items()}
    retrieved_share = values["first_stage"][recall]
    return Quality(
        n_queries=len(qrels),
        depth=depth,
        values={stage: {name: values[stage][name] for name in MEASURES} for stage in STAGES},
        retrieved_share=retrieved_share,
        retrieve_ms=median(answer.retrieve_ms for answer in answers.values()),
        rerank_ms=median(answer.rerank_ms for answer in answers.values()),
    )


def _run(hits: Sequence[Hit]) -> dict[str, float]:
    # By rank, not by score: tools break equal scores by id, the pipeline by first-stage order.
    return {hit.id: -float(rank) for rank, hit in enumerate(hits)}

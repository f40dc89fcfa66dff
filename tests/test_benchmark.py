"""The workloads are what they say, and the published tables are what the raw results say."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import pytest

from benchmarks.report import FILES, ROOT, filled, tables
from rerank_plugins.benchmark import (
    BULK,
    BULK_SEEN,
    MS_MARCO_LENGTHS,
    Call,
    Texts,
    Timing,
    measure,
    quantile,
)


@pytest.mark.parametrize("name", FILES)
def test_published_tables_are_made_from_the_raw_results(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "<!-- table: " in text
    assert filled(text, tables()) == text, "run python -m benchmarks.report"


def test_lengths_follow_the_stated_distribution() -> None:
    assert [quantile(MS_MARCO_LENGTHS, share) for share in (0.0, 0.5, 0.95, 1.0)] == [
        27,
        101,
        159,
        232,
    ]
    words = [len(text.split()) for text in Texts(0, tokens_per_word=1.0).passages(BULK)]
    assert statistics.median(words) == pytest.approx(101 - 9, abs=15)


def test_every_repeat_has_new_text_and_seen_passages_come_back() -> None:
    for workload in (BULK, BULK_SEEN):
        asked: list[list[Call]] = []

        def score(calls: Sequence[Call], asked: list[list[Call]] = asked) -> list[list[float]]:
            asked.append(list(calls))
            return [[0.0] * len(passages) for _, passages in calls]

        (timing,) = measure({"one": score}, workload, repeats=2, seed=0)
        assert len(timing.seconds) == 2
        queries = {query for calls in asked for query, _ in calls}
        passages = {text for calls in asked for _, texts in calls for text in texts}
        assert len(queries) == 3 * workload.n_queries
        assert len(passages) == workload.n_pairs * (1 if workload.seen else 3)


def test_all_contestants_get_the_same_text_and_are_compared() -> None:
    asked: dict[str, list[object]] = {"a": [], "b": []}
    compared = []

    def contestant(name: str, value: float) -> object:
        def score(calls: Sequence[Call]) -> list[list[float]]:
            asked[name].append(list(calls))
            return [[value] * len(passages) for _, passages in calls]

        return score

    measure(
        {"a": contestant("a", 1.0), "b": contestant("b", 2.0)},  # type: ignore[dict-item]
        BULK,
        repeats=1,
        seed=0,
        check=lambda name, scores, first: compared.append((name, scores[0][0], first[0][0])),
    )
    assert asked["a"] == asked["b"]
    assert compared == [("a", 1.0, 1.0), ("b", 2.0, 1.0)]


def test_percentiles_are_of_calls_in_milliseconds() -> None:
    timing = Timing("one", "w", 100, [1.0, 2.0, 4.0], [0.001 * n for n in range(1, 101)])
    assert timing.docs_per_s == 50.0
    assert timing.percentile_ms(0.5) == pytest.approx(51.0)
    assert timing.percentile_ms(0.99) == pytest.approx(100.0)

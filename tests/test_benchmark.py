"""The workloads are what they say, and the published tables are what the raw results say."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import breakdown, floor, trace
from benchmarks.environment import RESULTS
from benchmarks.floor import Shape
from benchmarks.frameworks import overhead
from benchmarks.host import host_speed
from benchmarks.onnx_peers import installation_conflict
from benchmarks.report import FILES, ROOT, filled, tables
from benchmarks.run import CPU_PARTS, begun
from benchmarks.tables.host import host_table
from benchmarks.tables.ray import ray_table
from benchmarks.tables.results import PEER, TINY, Speed
from benchmarks.trace import Trace
from rerank_plugins.cross_encoder.checkpoint.hub import EMBEDDED_FOLDER
from rerank_plugins.workloads import (
    BULK,
    BULK_SEEN,
    CANDIDATES,
    MS_MARCO_LENGTHS,
    Call,
    Texts,
    Timing,
    Workload,
    measure,
    quantile,
)


@pytest.mark.parametrize("name", FILES)
def test_published_tables_are_made_from_the_raw_results(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "<!-- table: " in text
    assert filled(text, tables()) == text, "run python -m benchmarks.report"


def test_tables_of_parts_that_were_not_run_say_so(tmp_path: Path) -> None:
    shutil.copy(RESULTS / "speed_cpu.json", tmp_path)
    makers = tables(tmp_path)
    commands = {
        "load": "benchmarks.load",
        "serving": "benchmarks.serving",
        "cuda": "benchmarks.run --device cuda",
    }
    for name, command in commands.items():
        text = makers[name]()
        assert text.startswith("Not")
        assert f"`python -m {command}`" in text


def test_parts_that_are_measured_later_are_added_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "speed_cpu.json"
    fresh = {"environment": {"commit": "new"}}
    assert begun(path, fresh, ["memory"]) is fresh
    shutil.copy(RESULTS / "speed_cpu.json", path)
    raw = json.loads(path.read_text(encoding="utf-8"))
    assert begun(path, fresh, ["memory", "breakdown"]) == raw
    # Every caption says where and when the speed was measured.
    assert begun(path, fresh, ["memory", "speed"]) is fresh
    assert begun(path, fresh, None) is fresh
    later = {part: {"commit": part, "date": "today"} for part in CPU_PARTS if part != "speed"}
    path.write_text(json.dumps({**raw, "later_parts": later}), encoding="utf-8")
    makers = tables(tmp_path)
    for table, part in (
        ("breakdown", "breakdown"),
        ("growth", "first_call"),
        ("growth", "memory"),
        ("memory", "memory"),
        ("frameworks", "overhead"),
    ):
        assert f"after the rest, {part}: commit {part}, today." in makers[table]()


def test_the_table_of_load_is_made_from_its_results(tmp_path: Path) -> None:
    shutil.copy(RESULTS / "speed_cpu.json", tmp_path)
    run = {"p50_ms": 40.0, "p99_ms": 90.0}
    found: dict[str, Any] = {
        "environment": {"cpu": "a CPU", "threads": 2, "commit": "abc", "date": "2026-01-01"},
        "dtype": "float32",
        "repeats": 3,
        "throughput": {
            "n_candidates": 20,
            "runs": {
                "one bulk call": [{"docs_per_s": 9.0}],
                "clients": [{**run, "docs_per_s": rate} for rate in (10.0, 30.0, 20.0)],
                "a lock": [{**run, "docs_per_s": 5.0}],
            },
            "ratios": {"one bulk call": [1.0], "a lock": [4.0, 2.0, 6.0]},
        },
        "mixed": {"n_calls": 7, "wrong": 0, "largest_difference": 1e-7, "tolerance": 1e-5},
    }
    path = tmp_path / "load_cpu.json"
    path.write_text(json.dumps(found))
    makers = tables(tmp_path)
    text = makers["load"]()
    assert "| one bulk call | 9 |  |  | 1.00 (1.00-1.00) |" in text
    assert "| clients | 20 | 40 | 90 | 1 |" in text
    assert "| a lock | 5 | 40 | 90 | 4.00 (2.00-6.00) |" in text
    assert "7 calls from threads with different `max_length`: 0 differ" in text
    page = "<!-- table: load -->\nold\n<!-- /table -->"
    assert filled(filled(page, makers), makers) == filled(page, makers) != page


def test_the_host_alone_is_timed_on_every_workload(tmp_path: Path) -> None:
    workloads = [replace(CANDIDATES[1], n_queries=2), replace(BULK_SEEN, n_queries=2)]
    result = host_speed(str(EMBEDDED_FOLDER), 2, workloads)
    (tmp_path / "host.json").write_text(json.dumps(result))
    assert [timing["n_pairs"] for timing in result["timings"]] == [20, 200]
    table = host_table(tmp_path / "host.json")
    assert "| 10 candidates |" in table
    assert "| 2,000 pairs of passages seen before |" in table


def test_ray_is_charged_for_what_comes_with_the_rows_alone(tmp_path: Path) -> None:
    def job(n_rows: int, cpu_s: float, driver_cpu_s: float) -> dict[str, Any]:
        who = {"job": "rerank_files", "workers": 2, "rows_per_block": 100, "wall_s": 2.0}
        return {**who, "n_rows": n_rows, "cpu_s": cpu_s, "driver_cpu_s": driver_cpu_s}

    environment = {"cpu": "a CPU", "commit": "abc", "date": "2026-01-01"}
    raw = {"environment": environment, "ray": "2.60", "load_average": [1.0, 2.0]}
    raw["jobs"] = [job(50, 10.0, 3.0), job(1050, 11.0, 3.11)]
    (tmp_path / "ray.json").write_text(json.dumps(raw))
    # 1,000 rows more took a second more, and 11 blocks 0.11 s of the driver's.
    line = "| rerank_files, 2 workers | 100 | 525 | 10.0 | 1,000 | 10 |"
    assert line in ray_table(tmp_path / "ray.json")


def test_floor_counts_the_last_layer_for_cls_alone() -> None:
    # One layer of hidden 2 on 3 tokens: keys and values 2 * 2 * (2 * 2) * 3, attention of one
    # query 4 * 2 * 3. A layer before it: 2 * (4 * 4 + 2 * 2 * 5) * 3 and attention 4 * 2 * 9.
    one = Shape(layers=1, hidden=2, feed_forward=5, heads=1, vocabulary=9)
    assert one.flop_per_pair(3) == 48 + 24
    assert replace(one, layers=2).flop_per_pair(3) == 48 + 24 + 216 + 72


def test_a_step_is_timed_without_the_steps_inside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(now)))
    found = Trace()
    inner = found.wrap("inner", lambda: None)
    outer = found.wrap("outer", lambda: (inner(), inner()))
    whole = found.wrap("whole", lambda: outer())
    whole()
    # The clock ticks once a look: whole at 0 and 7, outer at 1 and 6, inner at 2-3 and 4-5.
    assert found.seconds == {"whole": 2.0, "outer": 3.0, "inner": 2.0}


def test_the_breakdown_names_every_step_and_counts_the_arithmetic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What is large, so that its rate is the machine's, may be small here.
    monkeypatch.setitem(floor.MATRIX_SIZE, "cpu", 64)
    monkeypatch.setattr(breakdown, "LARGE_COPY", 4096)
    folder = ROOT / "rerank_plugins" / "embedded"
    workload = Workload(name="few", n_queries=1, n_candidates=6)
    found = breakdown.breakdown(
        str(folder),
        "float32",
        tokens_per_word=1.2,
        tokens=100.0,
        repeats=1,
        times=1,
        tell=lambda what: None,
        workload=workload,
    )
    steps = {step["name"]: step for step in found["steps"]}
    assert set(trace.PRODUCTS) | {"attention", "embeddings", "norms"} < set(steps)
    # Columns times inner size of the four products at hidden 128 and feed-forward 512.
    unit = steps["attention output"]["flop"]
    products = [steps[name]["flop"] / unit for name in trace.PRODUCTS]
    assert products == [3.0, 1.0, 4.0, 4.0]
    assert all(step["limit_s"] >= step["bound_s"] for step in found["steps"])
    for name in ("norms", "embeddings", trace.LAST):
        assert steps[name]["operation_s"] > 0
    assert steps["attention"]["operation_s"] >= steps["attention"]["product_s"] > 0
    # Padding can only add to what the floor counts.
    assert sum(step["flop"] for step in found["steps"]) > 2 * 128 * 128 * 6 * 27 * 12
    assert all(
        step["bound_s"] == max(step["product_s"], step["bytes_s"]) for step in steps.values()
    )
    # Every second of every thread belongs to a step, save what taking the times takes.
    assert sum(step["seconds"] for step in steps.values()) <= found["wall_s"] * (1 + 1e-9)


def test_an_adapter_is_compared_with_the_scorer_repeat_by_repeat() -> None:
    found = overhead([1.5, 3.0, 1.0, 10.0], [1.0, 2.0, 1.0, 4.0])
    assert found == {"median": 0.5, "lower_quartile": 0.5, "upper_quartile": 1.5}


def test_the_reason_why_a_peer_cannot_be_installed_is_pips() -> None:
    output = """
The conflict is caused by:
    optimum-onnx 0.1.0 depends on transformers<4.58.0 and >=4.36
    optimum-onnx 0.0.3 depends on transformers<4.56.0 and >=4.36.0
    The user requested (constraint) transformers==5.23.0
"""
    assert installation_conflict(output) == (
        "optimum-onnx 0.1.0 depends on transformers<4.58.0 and >=4.36; this is transformers 5.23.0"
    )
    assert installation_conflict("ERROR: No matching distribution found") == ""


def test_ratios_are_of_the_same_repeat() -> None:
    speed = Speed(RESULTS / "speed_cpu.json")
    own = speed.timing(TINY, "bulk", "rerank_plugins float32")["seconds"]
    peer = speed.timing(TINY, "bulk", PEER)["seconds"]
    expected = sorted(b / a for a, b in zip(own, peer, strict=True))
    assert speed.ratios(TINY, "bulk", "rerank_plugins float32", PEER) == expected


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

"""The whole evaluation: its figures are ir_measures' own, and what it compares is what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import ir_measures
import pytest
from evaluation_files import QRELS, Overlap, many_queries, small_collection, write_files
from ir_measures import RR, P, nDCG

from rerank_plugins.errors import DataFormatError, InvalidArgumentError
from rerank_plugins.evaluation import (
    Shard,
    evaluate,
    holm,
    parse_measures,
    randomisation_test,
    read_collection,
)
from rerank_plugins.evaluation.interpolation import WEIGHTS, fit_weights
from rerank_plugins.evaluation.trec import TrecRun
from rerank_plugins.interpolation import interpolate

MEASURES = ["nDCG@10", "RR@10", "P(rel=2)@1"]


class FirstStageLike(Overlap):
    """Agrees with the first stage on nothing but the number of words."""

    def score(self, query: str, passages: object) -> list[float]:
        return [float(len(passage)) for passage in passages]  # type: ignore[attr-defined]


class TestFigures:
    def test_they_are_those_of_ir_measures_on_the_runs_written(self, tmp_path: Path) -> None:
        collection = small_collection(tmp_path)
        report = evaluate([Overlap()], collection, output=tmp_path / "out", measures=MEASURES)
        assert [system.name for system in report.systems] == ["first stage", "overlap"]
        for system in report.systems:
            run = list(ir_measures.read_trec_run(system.run_path))
            expected = ir_measures.calc([nDCG @ 10, RR @ 10, P(rel=2) @ 1], QRELS, run)
            assert system.figures == pytest.approx(
                {str(measure): value for measure, value in expected.aggregated.items()}
            )
            for metric in expected.per_query:
                value = system.values[str(metric.measure)][metric.query_id]
                assert value == pytest.approx(metric.value)
        # Worked by hand: the relevant documents stand at 2, 1 (and 3), 0; then at 1, 1 (and 2), 1.
        assert report.systems[0].figures["RR@10"] == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
        assert report.systems[1].figures["RR@10"] == 1.0

    def test_judged_queries_without_candidates_count_as_0(self, tmp_path: Path) -> None:
        files = write_files(tmp_path, run="q1 Q0 d1 1 1 x\nq4 Q0 d1 1 1 x\n")
        report = evaluate([Overlap()], read_collection(**files), output=tmp_path / "out")
        assert report.systems[0].figures["RR@10"] == pytest.approx(1 / 3)
        assert (report.queries, report.queries_without_candidates) == (3, 2)
        assert report.queries_without_judgements == 1
        assert "2 judged queries have no candidates" in report.caption()
        assert "1 queries of the run are not judged" in report.caption()

    def test_depth_cuts_the_first_stage_too(self, tmp_path: Path) -> None:
        collection = small_collection(tmp_path, depth=1)
        report = evaluate([Overlap()], collection, output=tmp_path / "out")
        assert report.systems[0].figures["RR@10"] == pytest.approx(1 / 3)
        assert report.systems[1].figures == report.systems[0].figures

    def test_started_again_it_gives_the_same_figures(self, tmp_path: Path) -> None:
        collection = many_queries(tmp_path, n_queries=12, n_candidates=9)
        queries = list(collection.queries.values())
        with pytest.raises(KeyboardInterrupt):
            evaluate([Overlap(stop_before=queries[7])], collection, output=tmp_path / "a")
        again = evaluate([Overlap()], collection, output=tmp_path / "a")
        once = evaluate([Overlap()], collection, output=tmp_path / "b")
        assert again.systems[1].values == once.systems[1].values
        assert again.comparisons == once.comparisons


class TestFiles:
    def test_every_per_query_value_is_written(self, tmp_path: Path) -> None:
        collection = small_collection(tmp_path)
        report = evaluate([Overlap()], collection, output=tmp_path / "out")
        head, *rows = (tmp_path / "out" / "per_query.tsv").read_text().splitlines()
        assert head == "system\tmeasure\tquery_id\tvalue"
        assert len(rows) == 2 * 2 * 3
        for row in rows:
            name, measure, query_id, value = row.split("\t")
            system = next(system for system in report.systems if system.name == name)
            assert system.values[measure][query_id] == float(value)

    def test_the_report_is_data(self, tmp_path: Path) -> None:
        collection = small_collection(tmp_path)
        report = evaluate([Overlap()], collection, output=tmp_path / "out")
        data = json.loads((tmp_path / "out" / "report.json").read_text())
        assert data["systems"][1]["figures"] == report.systems[1].figures
        speed = data["systems"][1]["speed"]
        assert speed["n_pairs"] == 8
        assert speed["docs_per_s"] == pytest.approx(8 / speed["seconds"])
        assert speed["p50_ms"] <= speed["p99_ms"]
        assert data["environment"]["packages"]["ir_measures"] == ir_measures.__version__

    def test_one_model_twice_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidArgumentError, match="'overlap' comes twice"):
            evaluate([Overlap(), Overlap()], small_collection(tmp_path), output=tmp_path / "out")

    def test_one_model_under_two_names_is_two_systems(self, tmp_path: Path) -> None:
        scorers = [("first", Overlap()), ("second", Overlap())]
        report = evaluate(scorers, small_collection(tmp_path), output=tmp_path / "out")
        assert [system.name for system in report.systems] == ["first stage", "first", "second"]
        assert (tmp_path / "out" / "second.run").exists()


class TestShards:
    def test_their_runs_concatenate_to_the_whole(self, tmp_path: Path) -> None:
        collection = many_queries(tmp_path, n_queries=11, n_candidates=5)
        whole = evaluate([Overlap()], collection, output=tmp_path / "whole")
        values: dict[str, float] = {}
        text = ""
        for index in (1, 2, 3):
            part = replace(collection, shard=Shard(index, 3))
            report = evaluate([Overlap()], part, output=tmp_path / str(index))
            values |= report.systems[1].values["nDCG@10"]
            text += (tmp_path / str(index) / "overlap.run").read_text()
        assert text == (tmp_path / "whole" / "overlap.run").read_text()
        assert values == whole.systems[1].values["nDCG@10"]

    def test_going_on_under_another_shard_is_refused(self, tmp_path: Path) -> None:
        collection = many_queries(tmp_path, n_queries=4, n_candidates=3)
        evaluate([Overlap()], replace(collection, shard=Shard(1, 2)), output=tmp_path / "o")
        with pytest.raises(DataFormatError, match="shard was '1/2' and is '2/2'"):
            evaluate([Overlap()], replace(collection, shard=Shard(2, 2)), output=tmp_path / "o")


class TestComparisons:
    def test_models_are_held_against_the_first_stage_and_each_other(self, tmp_path: Path) -> None:
        collection = many_queries(tmp_path, n_queries=10, n_candidates=8)
        scorers = [Overlap(), FirstStageLike(model="length"), Overlap(model="again")]
        report = evaluate(scorers, collection, output=tmp_path / "out", measures=["RR"])
        first, *models = report.systems
        rows = {(row.system, row.baseline): row for row in report.comparisons}
        assert len(rows) == 3 + 3
        p_values = [randomisation_test(m.values["RR"], first.values["RR"]) for m in models]
        for model, p, p_holm in zip(models, p_values, holm(p_values), strict=True):
            row = rows[model.name, "first stage"]
            assert (row.p, row.p_holm) == (p, p_holm)
            assert row.difference == model.figures["RR"] - first.figures["RR"]
        same = rows["overlap", "again"]
        assert (same.difference, same.p, same.p_holm) == (0.0, 1.0, 1.0)

    def test_scorers_are_taken_one_at_a_time(self, tmp_path: Path) -> None:
        collection, events = small_collection(tmp_path), list[str]()

        class Noted(Overlap):
            def score(self, query: str, passages: object) -> list[float]:
                events.append(self.model)
                return super().score(query, passages)  # type: ignore[arg-type]

        def scorers() -> Iterator[Noted]:
            for name in ("one", "two"):
                events.append(f"load {name}")
                yield Noted(model=name)
                events.append(f"close {name}")

        evaluate(scorers(), collection, output=tmp_path / "out")
        first, second = events.index("close one"), events.index("load two")
        assert second == first + 1
        assert set(events[1:first]) == {"one"}
        assert set(events[second + 1 : -1]) == {"two"}


class TestInterpolation:
    def test_each_half_is_ranked_with_the_weight_of_the_other(self, tmp_path: Path) -> None:
        collection = many_queries(tmp_path, n_queries=20, n_candidates=8)
        scorer = FirstStageLike()
        report = evaluate([scorer], collection, output=tmp_path / "out", interpolate=True)
        plain, added = report.systems[1:]
        assert added.name == "overlap + first stage"
        assert added.first_stage_weights is not None
        names = sorted(collection.query_ids)
        reranked, written = TrecRun(plain.run_path), TrecRun(added.run_path)
        means = {weight: ([], []) for weight in WEIGHTS}  # type: ignore[var-annotated]
        for place, name in enumerate(names):
            first, found = collection.candidates(name), reranked.candidates(name)
            scores = dict(zip(found.doc_ids, found.scores, strict=True))
            aligned = [scores[doc_id] for doc_id in first.doc_ids]
            for weight in WEIGHTS:
                sums = interpolate(aligned, first.scores, weight)
                order = sorted(range(len(sums)), key=lambda place: -sums[place])
                doc_ids = [first.doc_ids[i] for i in order]
                run = {name: {doc_id: -i for i, doc_id in enumerate(doc_ids)}}
                measured = ir_measures.calc_aggregate(
                    [nDCG @ 10], {name: collection.qrels[name]}, run
                )
                means[weight][place % 2].append(measured[nDCG @ 10])
                if weight == added.first_stage_weights[1 - place % 2]:
                    assert written.candidates(name).doc_ids == doc_ids
        for half in (0, 1):
            best = max(WEIGHTS, key=lambda weight: (round(sum(means[weight][half]), 9), -weight))
            assert added.first_stage_weights[half] == best

    def test_a_first_stage_that_is_right_gets_the_weight(self, tmp_path: Path) -> None:
        # The run is already perfect and the scorer knows nothing of relevance.
        documents = {f"d{i}": ("", "x" * (i + 1)) for i in range(6)}
        queries = {f"q{i}": "any" for i in range(8)}
        run = "".join(f"{q} Q0 d{i} {i + 1} {10 - i} x\n" for q in queries for i in range(6))
        files = write_files(
            tmp_path,
            queries=queries,
            documents=documents,
            qrels={q: {"d0": 1} for q in queries},
            run=run,
        )
        collection = read_collection(**files)
        report = evaluate([FirstStageLike()], collection, output=tmp_path / "o", interpolate=True)
        first, plain, added = (system.figures["nDCG@10"] for system in report.systems)
        assert plain < added == first == 1.0
        assert "each fitted on the other half" in report.caption()

    def test_a_single_query_cannot_be_halved(self, tmp_path: Path) -> None:
        collection = many_queries(tmp_path, n_queries=1, n_candidates=3)
        with pytest.raises(InvalidArgumentError, match="at least 2 queries, got 1"):
            fit_weights(collection, collection.run, parse_measures(["RR"])[0])


class TestMeasures:
    @pytest.mark.parametrize(
        "name", ["nDCG@10", "RR@10", "AP", "R@100", "P(rel=2)@5", "ERR@20", "Judged@10", "NumRet"]
    )
    def test_names_are_those_of_ir_measures(self, name: str) -> None:
        try:
            expected = ir_measures.parse_measure(name)
        except AttributeError:
            pytest.skip("this ir_measures cannot parse constants on this Python")
        try:
            ours = parse_measures([name])
        except InvalidArgumentError:
            assert not ir_measures.DefaultPipeline.supports(expected)
            return
        assert ours == [expected]

    def test_a_name_given_twice_counts_once(self) -> None:
        assert [str(measure) for measure in parse_measures(["RR", "AP", "RR"])] == ["RR", "AP"]

    @pytest.mark.parametrize(
        "name", ["", "nope", "nDCG@", "nDCG@ten", "nDCG(gain=1)", "1+1", "P", "[]"]
    )
    def test_an_unknown_name_is_refused(self, name: str) -> None:
        with pytest.raises(InvalidArgumentError, match=r"unknown measure .* Names are those of"):
            parse_measures([name])

    def test_no_name_is_refused(self) -> None:
        with pytest.raises(InvalidArgumentError, match="no measure named"):
            parse_measures([])

"""A run reranked: the same whether at once or in pieces, and never one query's worth too much."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest
from evaluation_files import QUERIES, RUN, Overlap, many_queries, small_collection, write_files

from rerank_plugins.errors import DataFormatError, InvalidArgumentError
from rerank_plugins.evaluation import read_collection, rerank_run, rerank_to_file
from rerank_plugins.progress import Advance

RERANKED = """\
q1 Q0 d1 1 2 overlap
q1 Q0 d4 2 0 overlap
q1 Q0 d2 3 -1.40129846e-45 overlap
q2 Q0 d2 1 2 overlap
q2 Q0 d5 2 1 overlap
q2 Q0 d4 3 0 overlap
q3 Q0 d3 1 2 overlap
q3 Q0 d1 2 0 overlap
"""


class Steps:
    """Keeps what it is told of a single step."""

    def step(self, what: str, total: int, unit: str = "", done: int = 0) -> Advance:
        self.total, self.n_before, self.n_done = total, done, 0

        def advance(n_units: int) -> None:
            self.n_done += n_units

        return advance


class TestInMemory:
    def test_candidates_are_ordered_anew_up_to_depth(self) -> None:
        run = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}}
        passages = {"a": "none", "b": "red", "c": "red fox"}
        found = rerank_run(Overlap(), run, queries={"q": "red fox"}, passages=passages, depth=2)
        assert list(found["q"].items()) == [("b", 1.0), ("a", 0.0)]

    def test_equal_scores_keep_first_stage_order(self) -> None:
        run = {"q": {"a": 1.0, "b": 2.0}}
        found = rerank_run(Overlap(), run, queries={"q": "x"}, passages={"a": "1", "b": "2"})
        assert list(found["q"]) == ["b", "a"]

    def test_a_missing_text_is_named(self) -> None:
        with pytest.raises(InvalidArgumentError, match="document 'a' of the run has no text"):
            rerank_run(Overlap(), {"q": {"a": 1.0}}, queries={"q": "x"}, passages={})
        with pytest.raises(InvalidArgumentError, match="query 'q' of the run has no text"):
            rerank_run(Overlap(), {"q": {"a": 1.0}}, queries={}, passages={"a": "x"})


def test_the_run_is_written_in_the_order_of_the_scores(tmp_path: Path) -> None:
    times = rerank_to_file(Overlap(), small_collection(tmp_path), tmp_path / "out" / "o.run")
    assert (tmp_path / "out" / "o.run").read_text() == RERANKED
    assert [(row.query_id, row.n_pairs) for row in times] == [("q1", 3), ("q2", 3), ("q3", 2)]
    assert all(row.seconds > 0 for row in times)


@pytest.mark.parametrize("stop_before", ["q1", "q2", "q3"])
def test_interrupted_and_started_again_it_goes_on(tmp_path: Path, stop_before: str) -> None:
    collection, path = small_collection(tmp_path), tmp_path / "o.run"
    with pytest.raises(KeyboardInterrupt):
        rerank_to_file(Overlap(stop_before=QUERIES[stop_before]), collection, path)
    left = [name for name in ("q1", "q2", "q3") if name >= stop_before]
    scorer, seen = Overlap(), Steps()
    times = rerank_to_file(scorer, collection, path, progress=seen)
    # The first of what is left is also asked once before the clock runs.
    assert scorer.asked[1:] == [QUERIES[name] for name in (left[0], *left)]
    assert path.read_text() == RERANKED
    assert [row.query_id for row in times] == ["q1", "q2", "q3"]
    n_before = sum(row.n_pairs for row in times if row.query_id < stop_before)
    assert (seen.total, seen.n_before, seen.n_done) == (8, n_before, 8 - n_before)


def test_what_is_finished_is_not_scored_again(tmp_path: Path) -> None:
    collection, path = small_collection(tmp_path), tmp_path / "o.run"
    first = rerank_to_file(Overlap(), collection, path)
    scorer = Overlap()
    assert rerank_to_file(scorer, collection, path) == first
    assert not set(scorer.asked) & set(QUERIES.values())


@pytest.mark.slow
def test_a_file_torn_at_any_byte_gives_the_same_run(tmp_path: Path) -> None:
    collection, path = small_collection(tmp_path), tmp_path / "o.run"
    notes = tmp_path / "o.run.progress.jsonl"
    rerank_to_file(Overlap(), collection, path)
    run, lines = path.read_bytes(), notes.read_bytes()
    for size in range(len(lines) + 1):
        path.write_bytes(run)
        notes.write_bytes(lines[:size])
        rerank_to_file(Overlap(), collection, path)
        assert path.read_bytes() == run
    # The machine lost the end of the run, and kept the note that it was there.
    for size in range(len(run) + 1):
        path.write_bytes(run[:size])
        notes.write_bytes(lines)
        rerank_to_file(Overlap(), collection, path)
        assert path.read_bytes() == run


class TestChangedSettings:
    def test_each_is_named_with_both_values(self, tmp_path: Path) -> None:
        path = tmp_path / "o.run"
        rerank_to_file(Overlap(), small_collection(tmp_path), path)
        before = path.read_text()
        with pytest.raises(DataFormatError, match=r"depth was 100 and is 2.*--restart"):
            rerank_to_file(Overlap(), small_collection(tmp_path, depth=2), path)
        with pytest.raises(DataFormatError, match="model was 'overlap' and is 'other'"):
            rerank_to_file(Overlap(model="other"), small_collection(tmp_path), path)
        changed = read_collection(**write_files(tmp_path, run=RUN.replace("9.0", "9.5")))
        with pytest.raises(DataFormatError, match="run was '"):
            rerank_to_file(Overlap(), changed, path)
        assert path.read_text() == before

    def test_other_weights_under_the_same_name_are_seen(self, tmp_path: Path) -> None:
        class Retrained(Overlap):
            def score(self, query: str, passages: Sequence[str]) -> list[float]:
                return [1.2 * score for score in super().score(query, passages)]

        rerank_to_file(Overlap(), small_collection(tmp_path), tmp_path / "o.run")
        was_and_is = r"probe was \[0\.0, 1\.0, 1\.0\] and is \[0\.0, 1\.2"
        with pytest.raises(DataFormatError, match=was_and_is):
            rerank_to_file(Retrained(), small_collection(tmp_path), tmp_path / "o.run")

    def test_restart_discards_what_is_there(self, tmp_path: Path) -> None:
        path = tmp_path / "o.run"
        rerank_to_file(Overlap(), small_collection(tmp_path, depth=1), path)
        rerank_to_file(Overlap(), small_collection(tmp_path), path, restart=True)
        assert path.read_text() == RERANKED


def test_a_file_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    collection = small_collection(tmp_path)
    mine = tmp_path / "mine.run"
    mine.write_text("precious")
    with pytest.raises(DataFormatError, match="is there already and was not written"):
        rerank_to_file(Overlap(), collection, mine)
    assert mine.read_text() == "precious"


@pytest.mark.parametrize("line", ["{}", "[]", "no JSON", json.dumps({"query_id": "q1"})])
def test_a_damaged_note_is_named(tmp_path: Path, line: str) -> None:
    collection, path = small_collection(tmp_path), tmp_path / "o.run"
    rerank_to_file(Overlap(), collection, path)
    notes = tmp_path / "o.run.progress.jsonl"
    first, _, rest = notes.read_text().partition("\n")
    notes.write_text(f"{first}\n{line}\n{rest}")
    with pytest.raises(DataFormatError, match=r"progress\.jsonl:2: not a line"):
        rerank_to_file(Overlap(), collection, path)


def test_memory_does_not_grow_with_the_run(tmp_path: Path) -> None:
    peaks = []
    for n_queries in (10, 160):
        folder = tmp_path / str(n_queries)
        folder.mkdir()
        collection = many_queries(folder, n_queries=n_queries, n_candidates=100)
        tracemalloc.start()
        rerank_to_file(Overlap(), collection, folder / "o.run")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 150 queries more, each of 100 candidates. What is kept of a query is its time.
    assert (tmp_path / "160" / "o.run").stat().st_size > 400_000
    assert peaks[1] - peaks[0] < 150 * 600

"""Runs and qrels: what is read, what is refused and where, and that order survives writing."""

from __future__ import annotations

import bz2
import gzip
import math
from itertools import pairwise
from pathlib import Path

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_plugins.errors import DataFormatError
from rerank_plugins.evaluation.trec import TrecRun, read_qrels, trec_lines


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "file"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


class TestRun:
    def test_candidates_are_ordered_by_score_then_rank(self, tmp_path: Path) -> None:
        run = TrecRun(written(tmp_path, "q Q0 a 3 1.5 x\nq Q0 b 2 1.5 x\nq Q0 c 1 -2 x\n"))
        found = run.candidates("q")
        assert (found.doc_ids, found.scores, found.lines) == (
            ["b", "a", "c"],
            [1.5, 1.5, -2.0],
            [2, 1, 3],
        )
        assert run.candidates("q", depth=1).doc_ids == ["b"]

    def test_lines_of_a_query_need_not_stand_together(self, tmp_path: Path) -> None:
        text = "q1 Q0 a 1 3 x\nq2 Q0 a 1 9 x\n\nq1 Q0 b 2 2 x\r\nq2 Q0 c 2 8 x"
        run = TrecRun(written(tmp_path, text))
        assert run.query_ids == ["q1", "q2"]
        assert run.candidates("q1").doc_ids == ["a", "b"]
        assert run.candidates("q2").lines == [2, 5]
        assert (run.first_line("q1"), run.first_line("q2")) == (1, 2)
        assert run.candidates("nobody").doc_ids == []

    @pytest.mark.parametrize(
        ("line", "complaint"),
        [
            ("q1 Q0 d 1 2.5", ":2: 5 fields, expected 6"),
            ("q1 Q0 d one 2.5 x", ":2: rank is 'one'"),
            ("q1 Q0 d 1 high x", ":2: score is 'high'"),
            ("q1 Q0 d 1 nan x", ":2: score is 'nan'"),
            ("q1 Q0 d 1 inf x", ":2: score is 'inf'"),
            ("q1 Q0 a 2 2.5 x", ":2: document 'a' is listed again for query 'q1', first on line 1"),
        ],
    )
    def test_a_bad_line_is_named(self, tmp_path: Path, line: str, complaint: str) -> None:
        path = written(tmp_path, f"q1 Q0 a 1 3 x\n{line}\n")
        with pytest.raises(DataFormatError) as error:
            TrecRun(path).candidates("q1")
        assert f"{path}{complaint}" in str(error.value)

    def test_bytes_that_are_no_text_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataFormatError, match=":2: not UTF-8"):
            TrecRun(written(tmp_path, b"q Q0 a 1 3 x\nq Q0 \xff 2 2 x\n"))

    def test_a_compressed_run_is_read_as_it_is(self, tmp_path: Path) -> None:
        text = b"q Q0 a 1 3 x\nq Q0 b 2 2 x\n"
        for suffix, compress in ((".gz", gzip.compress), (".bz2", bz2.compress)):
            path = tmp_path / f"run{suffix}"
            path.write_bytes(compress(text))
            steps: list[int] = []
            assert TrecRun(path, steps.append).candidates("q").lines == [1, 2]
            assert sum(steps) == path.stat().st_size
        (tmp_path / "torn.gz").write_bytes(gzip.compress(text)[:-9])
        with pytest.raises(DataFormatError, match=r"torn\.gz:.*damaged compressed data"):
            TrecRun(tmp_path / "torn.gz")

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataFormatError, match="nowhere cannot be read: No such file"):
            TrecRun(tmp_path / "nowhere")

    def test_the_digest_is_of_the_content(self, tmp_path: Path) -> None:
        first = TrecRun(written(tmp_path, "q Q0 a 1 3 x\n")).digest
        assert TrecRun(written(tmp_path, "q Q0 a 1 3 x\n")).digest == first
        assert TrecRun(written(tmp_path, "q Q0 a 1 4 x\n")).digest != first


class TestQrels:
    def test_trec_and_beir_forms_say_the_same(self, tmp_path: Path) -> None:
        trec = read_qrels(written(tmp_path, "q1 0 a 1\nq1 0 b 0\nq2 0 a -1\n"))
        assert trec == {"q1": {"a": 1, "b": 0}, "q2": {"a": -1}}
        beir = "query-id\tcorpus-id\tscore\nq1\ta\t1\nq1\tb\t0\nq2\ta\t-1\n"
        assert read_qrels(written(tmp_path, beir)) == trec

    @pytest.mark.parametrize(
        ("line", "complaint"),
        [
            ("q1 a 1", ":2: 3 fields, expected 4"),
            ("q1 0 b 0.5", ":2: relevance is '0.5'"),
            ("q1 0 b -11", ":2: relevance is '-11'"),
            ("q1 0 b 99999999999", ":2: relevance is '99999999999'"),
            ("q1 0 b 9223372036854775808", ":2: relevance is '9223372036854775808'"),
            ("q1 0 a 1", ":2: document 'a' is judged again for query 'q1'"),
            ("q9 0 a 1", ":2: query 'q9' is judged and is not among the queries"),
        ],
    )
    def test_a_bad_line_is_named(self, tmp_path: Path, line: str, complaint: str) -> None:
        path = written(tmp_path, f"q1 0 a 1\n{line}\n")
        with pytest.raises(DataFormatError) as error:
            read_qrels(path, queries={"q1": "text"})
        assert f"{path}{complaint}" in str(error.value)

    def test_an_empty_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataFormatError, match="holds no judgements"):
            read_qrels(written(tmp_path, "\n"))


scores = st.lists(
    st.one_of(
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from([0.0, -0.0, 1.0, 1.0 + 1e-12, 5e-324, -5e-324]),
    ),
    min_size=1,
    max_size=30,
).map(lambda values: sorted(values, reverse=True))


@settings(deadline=None)
@given(scores)
def test_order_survives_float32_and_any_tie_break(values: list[float]) -> None:
    """Tools read scores as float32 and break ties by document id, upwards or downwards."""
    doc_ids = [f"d{(i * 7919) % 1009:04}" for i in range(len(values))]
    text = trec_lines("q", doc_ids, values, tag="x")
    rows = list(ir_measures.read_trec_run(text + "\n"))
    read = [np.float32(row.score) for row in rows]
    assert all(math.isfinite(score) for score in read)
    assert all(left > right for left, right in pairwise(read))
    assert [row.doc_id for row in rows] == doc_ids
    # Each relevant document's place is the place it was given.
    for place, doc_id in enumerate(doc_ids, start=1):
        found = ir_measures.calc_aggregate([ir_measures.RR], {"q": {doc_id: 1}}, rows)
        assert found[ir_measures.RR] == pytest.approx(1 / place)


@settings(deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=30, unique=True))
def test_scores_are_written_to_float32_precision(values: list[float]) -> None:
    values.sort(reverse=True)
    text = trec_lines("q", [str(i) for i in range(len(values))], values, tag="x")
    read = [row.score for row in ir_measures.read_trec_run(text + "\n")]
    assert read == pytest.approx(values, rel=1e-5, abs=1e-30)

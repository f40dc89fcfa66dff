"""Corpus, queries, and what is refused where they do not fit together."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import ir_datasets
import pytest
from evaluation_files import DOCUMENTS, RUN, small_collection, write_files
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_plugins.errors import DataFormatError, InvalidArgumentError, MissingExtraError
from rerank_plugins.evaluation import read_collection, read_dataset
from rerank_plugins.evaluation.beir import JsonlCorpus, read_queries


class TestCorpus:
    def test_a_passage_is_title_and_text(self, tmp_path: Path) -> None:
        corpus = JsonlCorpus(write_files(tmp_path)["corpus"])
        assert len(corpus) == len(DOCUMENTS)
        assert corpus.passages(["d3", "d2", "d3", "nobody"]) == [
            "Tea green leaves and water",
            "the whale is blue",
            "Tea green leaves and water",
            None,
        ]
        assert corpus.known(["d3", "nobody", "d1"]) == [True, False, True]
        assert corpus.known([]) == []

    @settings(deadline=None)
    @given(st.dictionaries(st.text(max_size=5), st.text(max_size=20), min_size=1, max_size=20))
    def test_any_text_under_any_id_comes_back(self, texts: dict[str, str]) -> None:
        lines = [json.dumps({"_id": key, "text": text}) + "\n" for key, text in texts.items()]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "corpus"
            path.write_text("".join(lines), encoding="utf-8")
            corpus = JsonlCorpus(path)
            assert corpus.passages(list(texts)) == [text.strip() for text in texts.values()]

    @pytest.mark.parametrize(
        ("line", "complaint"),
        [
            ("{", ":3: not JSON"),
            ("[]", ":3: a JSON array, where an object"),
            ('{"_id": 7, "text": ""}', ':3: expected an object with the strings "_id"'),
            ('{"_id": "x"}', ':3: expected an object with the strings "_id" and "text"'),
            ('{"_id": "x", "text": "", "title": 3}', ':3: "title" is 3, not a string'),
            ('{"_id": "b", "text": ""}', ":3: document 'b' comes again, first on line 2"),
        ],
    )
    def test_a_bad_line_is_named(self, tmp_path: Path, line: str, complaint: str) -> None:
        path = tmp_path / "corpus.jsonl"
        path.write_text(f'{{"_id": "a", "text": ""}}\n{{"_id": "b", "text": ""}}\n{line}\n')
        with pytest.raises(DataFormatError) as error:
            JsonlCorpus(path)
        assert f"{path}{complaint}" in str(error.value)

    def test_an_empty_corpus_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "empty").write_text("\n")
        with pytest.raises(DataFormatError, match="holds no passages"):
            JsonlCorpus(tmp_path / "empty")

    def test_reading_reports_every_byte(self, tmp_path: Path) -> None:
        path = write_files(tmp_path)["corpus"]
        steps: list[int] = []
        JsonlCorpus(path, steps.append)
        assert sum(steps) == path.stat().st_size


class TestQueries:
    def test_a_query_that_comes_twice_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "q").write_text('{"_id": "1", "text": "a"}\n{"_id": "1", "text": "b"}\n')
        with pytest.raises(DataFormatError, match=r"q:2: query '1' comes again"):
            read_queries(tmp_path / "q")

    def test_no_queries_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "q").write_text("")
        with pytest.raises(DataFormatError, match="holds no queries"):
            read_queries(tmp_path / "q")


class TestTogether:
    def test_queries_without_judgements_are_left_out(self, tmp_path: Path) -> None:
        collection = small_collection(tmp_path)
        assert collection.query_ids == ["q1", "q2", "q3"]
        assert collection.check() == 8

    def test_depth_cuts_the_candidates(self, tmp_path: Path) -> None:
        collection = small_collection(tmp_path, depth=2)
        assert collection.check() == 6
        assert collection.candidates("q1").doc_ids == ["d4", "d1"]
        with pytest.raises(InvalidArgumentError, match="depth must be at least 1, got 0"):
            small_collection(tmp_path, depth=0)

    def test_a_document_without_a_passage_is_named(self, tmp_path: Path) -> None:
        files = write_files(tmp_path, run=RUN + "q3 Q0 d77 3 1.0 bm25\n")
        collection = read_collection(**files)
        with pytest.raises(DataFormatError) as error:
            collection.check()
        assert f"{files['run']}:10: document 'd77' is not in {files['corpus']}" in str(error.value)

    def test_a_query_of_the_run_without_text_is_named(self, tmp_path: Path) -> None:
        files = write_files(tmp_path, run=RUN + "q9 Q0 d1 3 1.0 bm25\n")
        with pytest.raises(DataFormatError, match=":10: query 'q9' is not among the queries"):
            read_collection(**files).check()

    def test_a_bad_line_anywhere_is_found_before_a_model_runs(self, tmp_path: Path) -> None:
        files = write_files(tmp_path, run=RUN + "q3 Q0 d3 3 1.0 bm25\n")
        with pytest.raises(DataFormatError, match=":10: document 'd3' is listed again"):
            read_collection(**files).check()

    def test_a_run_of_other_queries_is_refused(self, tmp_path: Path) -> None:
        files = write_files(tmp_path, run="q4 Q0 d1 1 1.0 bm25\n")
        with pytest.raises(DataFormatError, match="none of its 1 queries has judgements"):
            read_collection(**files).check()


class TestDataset:
    def toy(self, folder: Path, **parts: Any) -> Any:
        (folder / "docs.tsv").write_text("d1\ta red animal\nd2\tthe whale is blue\n")
        (folder / "queries.tsv").write_text("q1\tred fox\n")
        (folder / "qrels").write_text("q1 0 d1 1\n")
        return ir_datasets.create_dataset(
            str(folder / "docs.tsv"), str(folder / "queries.tsv"), str(folder / "qrels")
        )

    def test_a_data_set_gives_queries_passages_and_judgements(self, tmp_path: Path) -> None:
        name = f"rerank-plugins-toy/{tmp_path.name}"
        ir_datasets.registry.register(name, self.toy(tmp_path))
        run = tmp_path / "run"
        run.write_text("q1 Q0 d2 1 2.0 x\nq1 Q0 d1 2 1.0 x\n")
        collection = read_dataset(name, run=run, scored_path=tmp_path / "scored")
        assert collection.queries == {"q1": "red fox"}
        assert collection.qrels == {"q1": {"d1": 1}}
        assert collection.check() == 2
        candidates = collection.candidates("q1")
        assert collection.passages(candidates) == ["the whale is blue", "a red animal"]
        run.write_text("q1 Q0 d9 1 2.0 x\n")
        collection = read_dataset(name, run=run, scored_path=tmp_path / "scored")
        with pytest.raises(DataFormatError, match=r"run:1: document 'd9' is not in ir_datasets"):
            collection.passages(collection.candidates("q1"))
        with pytest.raises(InvalidArgumentError, match="no scoreddocs; give a first-stage run"):
            read_dataset(name, run=None, scored_path=tmp_path / "scored")

    def test_its_own_run_is_written_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dataset = self.toy(tmp_path)
        scored = [ir_datasets.formats.GenericScoredDoc("q1", f"d{i}", float(i)) for i in (1, 2)]
        monkeypatch.setattr(dataset, "scoreddocs_iter", lambda: iter(scored), raising=False)
        monkeypatch.setattr(dataset, "has_scoreddocs", lambda: True, raising=False)
        name = f"rerank-plugins-scored/{tmp_path.name}"
        ir_datasets.registry.register(name, dataset)
        monkeypatch.setattr(ir_datasets, "load", lambda _: dataset)
        collection = read_dataset(name, run=None, scored_path=tmp_path / "out" / "scored.run")
        assert collection.candidates("q1").doc_ids == ["d2", "d1"]

    def test_an_unknown_data_set_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidArgumentError, match="no data set 'nobody/knows'; list them"):
            read_dataset("nobody/knows", run=None, scored_path=tmp_path / "scored")

    def test_without_the_library_the_install_line_is_given(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "ir_datasets", ModuleType("ir_datasets"))
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(MissingExtraError, match=r"pip install 'rerank_plugins\[datasets\]'"):
            read_dataset("beir/scifact/test", run=None, scored_path=tmp_path / "scored")

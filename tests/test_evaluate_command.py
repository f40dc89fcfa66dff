"""``rerank-plugins evaluate`` and ``rerank-plugins models``: what is typed and what comes out."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import ir_measures
import pytest
from evaluation_files import QUERIES, Overlap, write_files
from ir_measures import RR, nDCG

from rerank_plugins.commands import evaluate
from rerank_plugins.errors import InvalidArgumentError

loaded: list[tuple[str, dict[str, Any]]] = []
stop_before: list[str] = []


class Loaded(Overlap):
    closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _scorers_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded.clear()
    stop_before.clear()

    def shared_scorer(model: str, **options: Any) -> Loaded:
        loaded.append((model, options))
        return Loaded(model=model, stop_before=stop_before[0] if stop_before else None)

    monkeypatch.setattr(evaluate, "shared_scorer", shared_scorer)


def run(command: Any, *words: str) -> int:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    status: int = command.run(parser.parse_args(words))
    return status


def data(folder: Path) -> list[str]:
    files = write_files(folder)
    return [word for name, path in files.items() for word in (f"--{name}", str(path))]


def test_the_printed_figures_are_those_of_the_run_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*data(tmp_path), "--output", str(tmp_path / "out"), "--model", "someone/model"]
    assert run(evaluate, *words, "--measure", "nDCG@10", "RR@10") == 0
    printed = capsys.readouterr().out
    figures = ir_measures.calc_aggregate(
        [nDCG @ 10, RR @ 10],
        ir_measures.read_trec_qrels(str(tmp_path / "qrels")),
        ir_measures.read_trec_run(str(tmp_path / "out" / "someone_model.run")),
    )
    row = next(line for line in printed.splitlines() if "someone/model" in line)
    assert f"{figures[nDCG @ 10]:.4f}" in row
    assert f"{figures[RR @ 10]:.4f}" in row
    assert "3 judged queries, 100 candidates a query at most" in printed


def test_several_models_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*data(tmp_path), "--output", str(tmp_path / "out"), "--dtype", "float32"]
    assert run(evaluate, *words, "--model", "a", "b", "--max-length", "64", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [system["name"] for system in report["systems"]] == ["first stage", "a", "b"]
    assert report["measures"] == ["nDCG@10", "RR@10"]
    options = {"dtype": "float32", "max_length": 64}
    assert loaded == [("a", options), ("b", options)]


def test_interrupted_it_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*data(tmp_path), "--output", str(tmp_path / "out")]
    stop_before.append(QUERIES["q3"])
    assert run(evaluate, *words) == 130
    assert "the same command goes on" in capsys.readouterr().err
    stop_before.clear()
    assert run(evaluate, *words, "--json") == 0
    again = json.loads(capsys.readouterr().out)
    once = [*words[:-1], str(tmp_path / "other")]
    assert run(evaluate, *once, "--json") == 0
    figures = [system["figures"] for system in json.loads(capsys.readouterr().out)["systems"]]
    assert [system["figures"] for system in again["systems"]] == figures


def test_plots_are_written_where_they_are_wanted(tmp_path: Path) -> None:
    words = [*data(tmp_path), "--output", str(tmp_path / "out"), "--plot", str(tmp_path / "plots")]
    assert run(evaluate, *words, "--interpolate", "--plot-query", "q2") == 0
    assert (tmp_path / "plots" / "quality_speed.svg").exists()
    assert (tmp_path / "plots" / "ranks_embedded.png").exists()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    words = data(tmp_path)
    with pytest.raises(InvalidArgumentError, match="--queries, --qrels, --run missing"):
        run(evaluate, *words[:2])
    with pytest.raises(InvalidArgumentError, match="leave out --corpus, --queries, --qrels"):
        run(evaluate, *words, "--dataset", "beir/scifact/test")
    with pytest.raises(InvalidArgumentError, match="unknown measure 'quality'"):
        run(evaluate, "--measure", "quality")
    with pytest.raises(InvalidArgumentError, match="--plot-query says which query"):
        run(evaluate, *words, "--plot-query", "q1")
    with pytest.raises(InvalidArgumentError, match="'q4' is not a judged query"):
        run(evaluate, *words, "--plot", str(tmp_path / "plots"), "--plot-query", "q4")
    with pytest.raises(InvalidArgumentError, match="depth must be at least 1"):
        run(evaluate, *words, "--depth", "0")

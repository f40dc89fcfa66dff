"""The pictures: what they show, that nothing covers anything, that they are the same each time."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from evaluation_files import Overlap, many_queries, small_collection
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.transforms import Bbox

from rerank_plugins.errors import InvalidArgumentError
from rerank_plugins.evaluation import evaluate
from rerank_plugins.evaluation.plots import (
    Point,
    gain_loss_figure,
    quality_speed_figure,
    rank_change_figure,
    save,
    write_plots,
)
from rerank_plugins.models import known_models

PUBLISHED = [
    Point(model.model.rsplit("/", 1)[-1], model.speed.docs_per_s, model.quality[0].value / 100)
    for model in known_models()
    if model.speed
]


def boxes(figure: Figure) -> tuple[dict[str, Bbox], Bbox]:
    """Return where each text inside the axes stands, and the axes' own frame."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()  # type: ignore[no-untyped-call]
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    axes = figure.axes[0]
    texts = {t.get_text(): t for t in axes.texts if t.get_text()}
    return (
        {name: text.get_window_extent(renderer) for name, text in texts.items()},
        axes.get_window_extent(renderer),
    )


def overlapping(found: dict[str, Bbox]) -> list[tuple[str, str]]:
    return [(a, b) for a, b in combinations(found, 2) if Bbox.intersection(found[a], found[b])]


class TestQualitySpeed:
    def test_every_point_has_a_number_and_every_number_a_name(self) -> None:
        figure = quality_speed_figure(PUBLISHED, measure="nDCG@10", first_stage=0.506)
        numbers = {
            int(number) for text in figure.axes[0].texts for number in text.get_text().split(",")
        }
        assert numbers == set(range(1, len(PUBLISHED) + 1))
        listed = "\n".join(text.get_text() for text in figure.texts)
        for number, point in enumerate(PUBLISHED, start=1):
            assert f"{number}  {point.label}  {point.quality:.3f}" in listed
        assert "first stage  0.506" in listed

    def test_points_that_fall_together_share_one_label(self) -> None:
        points = [Point(f"a model called {i}", 1000.0, 0.7) for i in range(6)]
        axes = quality_speed_figure(points, measure="RR@10").axes[0]
        assert [text.get_text() for text in axes.texts] == ["1, 2, 3, 4, 5, 6"]

    def test_a_small_difference_looks_small(self) -> None:
        points = [Point("a", 100.0, 0.700), Point("b", 1000.0, 0.701)]
        axes = quality_speed_figure(points, measure="RR@10").axes[0]
        low, high = axes.get_ylim()
        assert high - low >= 0.2
        assert f"axis begins at {low:.2f}" in axes.get_ylabel()

    def test_the_interval_of_a_mean_is_drawn(self) -> None:
        points = [Point("a", 100.0, 0.7, interval=0.3)]
        low, high = quality_speed_figure(points, measure="RR@10").axes[0].get_ylim()
        assert low <= 0.4
        assert high >= 1.0

    def test_axes_have_titles_with_their_units(self) -> None:
        axes = quality_speed_figure(PUBLISHED[:1], measure="nDCG@10").axes[0]
        assert axes.get_xlabel() == "passages per second (log scale)"
        assert axes.get_ylabel().startswith("nDCG@10")
        assert axes.get_xscale() == "log"

    def test_points_stand_where_the_figures_say(self) -> None:
        axes = quality_speed_figure(PUBLISHED, measure="nDCG@10").axes[0]
        offsets: Any = axes.collections[0].get_offsets()
        drawn = [tuple(row) for row in offsets.tolist()]
        assert drawn == [(point.docs_per_s, point.quality) for point in PUBLISHED]

    def test_nothing_to_plot_is_refused(self) -> None:
        with pytest.raises(InvalidArgumentError, match="no model to plot"):
            quality_speed_figure([], measure="RR")


class TestGainLoss:
    def test_one_bar_a_query_sorted_and_counted(self) -> None:
        changes = {"a": -0.5, "b": 0.25, "c": 0.0, "d": 0.5, "e": 0.25}
        axes = gain_loss_figure(changes, measure="RR@10", system="embedded").axes[0]
        heights = [bar.get_height() for bar in axes.patches]  # type: ignore[attr-defined]
        assert heights == [0.5, 0.25, 0.25, 0.0, -0.5]
        said = [text.get_text() for text in axes.texts]
        assert said == ["3 better", "1 worse", "1 unchanged", "mean +0.1000"]
        assert axes.get_ylabel() == "change of RR@10 against first stage"

    def test_nothing_to_plot_is_refused(self) -> None:
        with pytest.raises(InvalidArgumentError, match="no query to plot"):
            gain_loss_figure({}, measure="RR", system="x")


class TestRankChange:
    def figure(self) -> Figure:
        before = [f"doc{i}" for i in range(1, 31)]
        after = [*before[19:23], *before[:19], *before[23:]]
        relevant = {"doc20", "doc21", "doc22", "doc1", "doc2", "doc30", "elsewhere"}
        return rank_change_figure(
            before, after, relevant=relevant, query="why? " * 60, system="embedded"
        )

    def test_relevant_documents_are_named_with_both_ranks(self) -> None:
        texts = {text.get_text() for text in self.figure().axes[0].texts}
        assert texts >= {"doc20  20", "1  doc20", "doc1  1", "5  doc1", "doc30  30", "30  doc30"}
        assert not any("doc7" in text or "elsewhere" in text for text in texts)

    def test_no_name_covers_another(self) -> None:
        found, _ = boxes(self.figure())
        assert len(found) == 12
        assert overlapping(found) == []

    def test_lines_go_from_one_rank_to_the_other(self) -> None:
        lines = [list(line.get_ydata()) for line in self.figure().axes[0].get_lines()]  # type: ignore[arg-type]
        assert [20, 1] in lines
        assert [30, 30] in lines
        assert [10, 14] in lines
        # Neither relevant nor among the first ten of a side.
        assert [15, 19] not in lines

    def test_a_query_without_a_relevant_candidate_says_so(self) -> None:
        figure = rank_change_figure(["a", "b"], ["b", "a"], relevant={"c"}, query="q", system="s")
        said = [text.get_text() for text in figure.axes[0].texts]
        assert ["no relevant document is among the 2 candidates" in text for text in said] == [True]

    def test_siblings_have_the_same_scale(self) -> None:
        limits = {
            rank_change_figure(["a", "b"], after, relevant={"a"}, query="q", system="s", lowest=100)
            .axes[0]
            .get_ylim()
            for after in (["a", "b"], ["b", "a"])
        }
        assert len(limits) == 1
        reaches = {
            gain_loss_figure({"q": change}, measure="m", system="s", reach=0.9).axes[0].get_ylim()
            for change in (0.1, -0.8)
        }
        assert len(reaches) == 1

    def test_what_does_not_fit_together_is_refused(self) -> None:
        with pytest.raises(InvalidArgumentError, match="must hold the same documents"):
            rank_change_figure(["a"], ["b"], relevant=set(), query="q", system="s")
        with pytest.raises(InvalidArgumentError, match="no candidates"):
            rank_change_figure([], [], relevant=set(), query="q", system="s")


class TestFiles:
    def test_both_forms_are_written_the_same_each_time(self, tmp_path: Path) -> None:
        first, second = (
            save(quality_speed_figure(PUBLISHED, measure="RR"), tmp_path / name, "speed")
            for name in ("one", "two")
        )
        assert [path.name for path in first] == ["speed.svg", "speed.png"]
        assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
        image = imread(first[1])
        assert image.shape[1] > 1500  # about twice the width of a README
        assert b"<svg" in first[0].read_bytes()

    def test_a_report_gives_every_picture(self, tmp_path: Path) -> None:
        collection = many_queries(tmp_path, n_queries=12, n_candidates=15)
        report = evaluate([Overlap()], collection, output=tmp_path / "out", interpolate=True)
        paths = write_plots(report, collection, tmp_path / "plots")
        names = {path.name for path in paths}
        assert names == {
            f"{name}.{form}"
            for form in ("svg", "png")
            for name in (
                "quality_speed",
                "gain_loss_overlap",
                "gain_loss_overlap.interpolated",
                "ranks_overlap",
                "ranks_overlap.interpolated",
            )
        }
        assert all((tmp_path / "plots" / name).stat().st_size > 1000 for name in names)

    def test_an_unknown_query_is_named(self, tmp_path: Path) -> None:
        collection = small_collection(tmp_path)
        report = evaluate([Overlap()], collection, output=tmp_path / "out")
        with pytest.raises(
            InvalidArgumentError, match=r"'q4' is not a judged query.* that is: 'q1'"
        ):
            write_plots(report, collection, tmp_path, query_id="q4")


def test_pyplot_is_not_touched() -> None:
    """Importing pyplot would choose a backend for the whole process."""
    code = "import rerank_plugins.evaluation.plots, sys; print('matplotlib.pyplot' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"

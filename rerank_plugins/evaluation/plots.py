"""Pictures of an evaluation, as SVG and PNG: quality against speed, gain and loss, ranks.

Drawn without pyplot, so that nothing global is changed and no display is needed. 8 inches wide:
readable at the width of a README.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection as Container
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank_plugins.errors import InvalidArgumentError, require_extra

require_extra("matplotlib", extra="evaluation", purpose="plotting")

import matplotlib  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.text import Text  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: E402

from rerank_plugins.evaluation.plot_labels import label_ends, label_points  # noqa: E402
from rerank_plugins.evaluation.report import FIRST_STAGE  # noqa: E402
from rerank_plugins.written_files import whole_file  # noqa: E402

if TYPE_CHECKING:
    from rerank_plugins.evaluation import Collection, Report, System

__all__ = [
    "Point",
    "check_query_id",
    "gain_loss_figure",
    "quality_speed_figure",
    "rank_change_figure",
    "save",
    "write_plots",
]

# Blue and orange stay apart for colour-blind readers, and in grey.
_BETTER, _WORSE, _PLAIN = "#1f6fb4", "#d9690b", "#9aa0a6"
_WIDTH, _HEIGHT, _DPI = 8.0, 4.8, 200
_RANK_TICKS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True, slots=True)
class Point:
    """One model in the plot of quality against speed."""

    label: str
    docs_per_s: float
    quality: float


def quality_speed_figure(
    points: Sequence[Point], *, measure: str, first_stage: float | None = None, title: str = ""
) -> Figure:
    """Return the scatter of models: passages a second (log scale) against a measure."""
    if not points:
        raise InvalidArgumentError("there is no model to plot; measure at least one")
    figure, axes = _figure(title or f"{measure} against speed")
    speeds = [point.docs_per_s for point in points]
    values = [point.quality for point in points] + ([] if first_stage is None else [first_stage])
    axes.set_xscale("log")
    axes.set_xlim(min(speeds) / 2.5, max(speeds) * 2.5)
    margin = max(0.25 * (max(values) - min(values)), 0.01)
    axes.set_ylim(min(values) - margin, max(values) + margin)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("passages per second (log scale)")
    axes.set_ylabel(measure)
    axes.scatter(speeds, [point.quality for point in points], s=42, color=_BETTER, zorder=3)
    keep_free: list[Text] = []
    if first_stage is not None:
        axes.axhline(first_stage, color=_PLAIN, linestyle="--", linewidth=1.2)
        name = axes.annotate(
            f"{FIRST_STAGE} {first_stage:.3f}",
            (0.0, first_stage),
            xycoords=("axes fraction", "data"),
            xytext=(5, 4),
            textcoords="offset points",
            color="#5f6368",
            fontsize=9,
        )
        keep_free.append(name)
    places = [(point.docs_per_s, point.quality) for point in points]
    label_points(axes, [point.label for point in points], places, keep_free)
    return figure


def gain_loss_figure(
    differences: Mapping[str, float], *, measure: str, system: str, baseline: str = FIRST_STAGE
) -> Figure:
    """Return one bar for each query: how much ``system`` changed ``measure``, sorted."""
    if not differences:
        raise InvalidArgumentError("there is no query to plot")
    values = sorted(differences.values(), reverse=True)
    gains = sum(value > 0 for value in values)
    losses = sum(value < 0 for value in values)
    figure, axes = _figure(f"{system}: change by query")
    colours = [_BETTER if value > 0 else _WORSE for value in values]
    axes.bar(range(1, len(values) + 1), values, width=1.0, color=colours)
    axes.axhline(0.0, color="#3c4043", linewidth=0.8)
    axes.set_xlim(0.5, len(values) + 0.5)
    reach = max(max(abs(value) for value in values), 0.05) * 1.1
    axes.set_ylim(-reach, reach)
    axes.set_xlabel(f"queries, sorted by change ({len(values)})")
    axes.set_ylabel(f"change of {measure} against {baseline}")
    mean = sum(values) / len(values)
    # Sorted from gain to loss, the upper right is always free.
    lines = (
        (f"{gains} better", _BETTER),
        (f"{losses} worse", _WORSE),
        (f"{len(values) - gains - losses} unchanged", "#5f6368"),
        (f"mean {mean:+.4f}", "#202124"),
    )
    for row, (text, colour) in enumerate(lines):
        axes.text(
            0.985, 0.95 - 0.075 * row, text, color=colour, ha="right", va="top",
            transform=axes.transAxes,
        )  # fmt: skip
    return figure


def rank_change_figure(
    before: Sequence[str],
    after: Sequence[str],
    *,
    relevant: Container[str],
    query: str,
    system: str,
    top: int = 10,
) -> Figure:
    """Return the ranks of one query's documents before and after, both best first.

    Every document is drawn that is in the ``top`` of either side or is relevant; relevant ones are
    in colour and named. The rank axis is logarithmic: where it matters, a rank is wide.
    """
    if sorted(before) != sorted(after):
        raise InvalidArgumentError("before and after must hold the same documents")
    if not before:
        raise InvalidArgumentError("the query has no candidates to plot")
    title = "\n".join(textwrap.wrap(query, 80, max_lines=2, placeholder=" …"))
    figure, axes = _figure(title, height=5.4)
    places = {doc_id: rank for rank, doc_id in enumerate(after, start=1)}
    moves = [(doc_id, rank, places[doc_id]) for rank, doc_id in enumerate(before, start=1)]
    ends = [move for move in moves if move[0] in relevant]
    drawn = ends + [move for move in moves if move[0] not in relevant and min(move[1:]) <= top]
    for doc_id, rank, new in drawn:
        if doc_id in relevant:
            style: dict[str, Any] = {"color": _BETTER if new <= rank else _WORSE, "zorder": 3}
            style |= {"linewidth": 2.4, "markersize": 6}
        else:
            style = {"color": _PLAIN, "alpha": 0.55, "linewidth": 1.0, "markersize": 3}
        axes.plot((0, 1), (rank, new), marker="o", **style)
    lowest = max(rank for _, *both in drawn for rank in both)
    axes.set_yscale("log")
    axes.set_ylim(lowest * 1.25, 0.8)
    ticks = [rank for rank in _RANK_TICKS if rank <= lowest]
    axes.set_yticks(ticks, [str(rank) for rank in ticks])
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", which="minor", length=0)
    axes.set_xlim(-0.62, 1.62)
    axes.set_xticks((0, 1), (FIRST_STAGE, system))
    axes.set_ylabel("rank (1 is best, log scale)")
    axes.grid(visible=False, axis="x")
    names = [doc_id if len(doc_id) <= 30 else "…" + doc_id[-29:] for doc_id, _, _ in ends]
    label_ends(axes, names, [rank for _, rank, _ in ends], x=0.0, align="right")
    label_ends(axes, names, [rank for _, _, rank in ends], x=1.0, align="left")
    axes.set_xlabel("relevant documents in colour, with id and rank; others in grey", fontsize=9)
    return figure


def save(figure: Figure, folder: str | Path, name: str) -> list[Path]:
    """Write ``name``.svg and ``name``.png; the same figure gives the same bytes."""
    paths = [Path(folder) / f"{name}.svg", Path(folder) / f"{name}.png"]
    with matplotlib.rc_context({"svg.hashsalt": name}):
        with whole_file(paths[0]) as file:
            figure.savefig(file, format="svg", metadata={"Date": None})
        with whole_file(paths[1]) as file:
            figure.savefig(file, format="png", dpi=_DPI)
    return paths


def check_query_id(collection: Collection, query_id: str | None) -> None:
    """Raise `InvalidArgumentError` unless the ranks of this query can be plotted."""
    if query_id is not None and query_id not in collection.query_ids:
        raise InvalidArgumentError(
            f"{query_id!r} is not a judged query of the run; one that is: "
            f"{next(iter(collection.query_ids), None)!r}"
        )


def write_plots(
    report: Report, collection: Collection, folder: str | Path, *, query_id: str | None = None
) -> list[Path]:
    """Write every picture of a report into ``folder`` and return the paths.

    ``query_id`` is the query of the rank plots; by default, for each system, the one whose first
    measure changed most.
    """
    from rerank_plugins.evaluation import TrecRun

    measure = report.measures[0]
    first, *systems = report.systems
    check_query_id(collection, query_id)
    points = [
        Point(_short(system), system.speed.docs_per_s, system.figures[measure])
        for system in systems
        if system.speed and not system.first_stage_weights
    ]
    speed = quality_speed_figure(
        points,
        measure=measure,
        first_stage=first.figures[measure],
        title=f"{measure} against speed, {report.queries} queries",
    )
    paths = save(speed, folder, "quality_speed")
    for system in systems:
        changes = {
            name: value - first.values[measure][name]
            for name, value in system.values[measure].items()
        }
        name = Path(system.run_path).stem
        paths += save(
            gain_loss_figure(changes, measure=measure, system=_short(system)),
            folder,
            f"gain_loss_{name}",
        )
        shown = query_id or max(collection.query_ids, key=lambda name: abs(changes[name]))
        figure = rank_change_figure(
            collection.candidates(shown).doc_ids,
            TrecRun(system.run_path).candidates(shown).doc_ids,
            relevant={doc for doc, grade in collection.qrels[shown].items() if grade > 0},
            query=collection.queries[shown],
            system=_short(system),
        )
        paths += save(figure, folder, f"ranks_{name}")
    return paths


def _short(system: System) -> str:
    return system.name.rsplit("/", 1)[-1]


def _figure(title: str, height: float = _HEIGHT) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=12, loc="left")
    axes.grid(visible=True, color="#e0e3e7", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes

"""Pictures of an evaluation, as SVG and PNG: quality against speed, gain and loss, ranks.

Drawn without pyplot, so that nothing global is changed and no display is needed. 8 inches wide:
readable at the width of a README.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection as Container
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10
from pathlib import Path
from statistics import stdev
from typing import TYPE_CHECKING, Any, Literal

from rerank_plugins.errors import InvalidArgumentError, require_extra

require_extra("matplotlib", extra="evaluation", purpose="plotting")

import matplotlib  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: E402

from rerank_plugins.evaluation.report import FIRST_STAGE  # noqa: E402
from rerank_plugins.written_files import locked_folder, whole_file  # noqa: E402

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
_NEAR = 14  # pixels between two points whose numbers would cover each other
_BEHIND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
_WITH_LIST: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.1}
_RANK_TICKS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True, slots=True)
class Point:
    """One system in the plot of quality against speed; ``interval`` is half of its 95% interval."""

    label: str
    docs_per_s: float
    quality: float
    interval: float = 0.0


def quality_speed_figure(
    points: Sequence[Point],
    *,
    measure: str,
    first_stage: float | None = None,
    title: str = "",
    setting: str = "",
) -> Figure:
    """Return the scatter of systems: passages a second (log scale) against a measure.

    Points are numbered, and a list beside the plot names them: nothing can cover a name.
    """
    if not points:
        raise InvalidArgumentError("there is no model to plot; measure at least one")
    figure, axes = _figure(title or f"{measure} against speed", setting)
    speeds = [point.docs_per_s for point in points]
    values = [point.quality for point in points]
    axes.set_xscale("log")
    axes.set_xlim(min(speeds) / 2.5, max(speeds) * 2.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("passages per second (log scale)")
    axes.scatter(speeds, values, s=42, color=_BETTER, zorder=3)
    intervals = [point.interval for point in points]
    if any(intervals):
        axes.errorbar(
            speeds, values, yerr=intervals, fmt="none", ecolor=_BETTER, alpha=0.45, capsize=3
        )
    ends = [value + sign * half for value, half in zip(values, intervals, strict=True)
            for sign in (-1, 1)]  # fmt: skip
    if first_stage is not None:
        ends.append(first_stage)
        axes.axhline(first_stage, color=_PLAIN, linestyle="--", linewidth=1.2)
    low, high = _wide_enough(min(ends), max(ends))
    axes.set_ylim(low, high)
    axes.set_ylabel(f"{measure} (axis begins at {low:.2f})" if low > 0 else measure)
    for numbers, (speed, value) in _together(axes, list(zip(speeds, values, strict=True))):
        axes.annotate(
            ", ".join(map(str, numbers)), (speed, value), xytext=(6, 4), fontsize=9,
            textcoords="offset points", bbox=_BEHIND,
        )  # fmt: skip
    names = [
        f"{number}  {point.label}  {point.quality:.3f}" for number, point in enumerate(points, 1)
    ]
    if first_stage is not None:
        names.append(f"- -  {FIRST_STAGE}  {first_stage:.3f}")
    if any(intervals):
        names += ["", "bars: 95% interval of the mean over queries"]
    columns = (
        [names]
        if len(names) < 9
        else [names[: (len(names) + 1) // 2], names[(len(names) + 1) // 2 :]]
    )
    for index, column in enumerate(columns):
        figure.text(0.02 + 0.5 * index, -0.02, "\n".join(column), va="top", fontsize=9)
    return figure


def _wide_enough(low: float, high: float) -> tuple[float, float]:
    """Return limits with some room, at least 0.2 apart: a small difference is to look small."""
    room = max(0.05 * (high - low), (0.2 - (high - low)) / 2, 0.01)
    return max(0.0, low - room), high + room


def _together(
    axes: Axes, places: Sequence[tuple[float, float]]
) -> list[tuple[list[int], tuple[float, float]]]:
    """Return the numbers of points, those that nearly coincide in one list, and where they are."""
    groups: list[tuple[list[int], tuple[float, float]]] = []
    for number, place in enumerate(places, start=1):
        x, y = axes.transData.transform(place)
        for numbers, other in groups:
            other_x, other_y = axes.transData.transform(other)
            if abs(x - other_x) < _NEAR and abs(y - other_y) < _NEAR:
                numbers.append(number)
                break
        else:
            groups.append(([number], place))
    return groups


def gain_loss_figure(
    differences: Mapping[str, float],
    *,
    measure: str,
    system: str,
    baseline: str = FIRST_STAGE,
    reach: float | None = None,
    setting: str = "",
) -> Figure:
    """Return one bar for each query: how much ``system`` changed ``measure``, sorted.

    ``reach`` is the largest change on the axis, for pictures that are held side by side.
    """
    if not differences:
        raise InvalidArgumentError("there is no query to plot")
    values = sorted(differences.values(), reverse=True)
    gains = sum(value > 0 for value in values)
    losses = sum(value < 0 for value in values)
    figure, axes = _figure(f"{system}: change by query", setting)
    colours = [_BETTER if value > 0 else _WORSE for value in values]
    axes.bar(range(1, len(values) + 1), values, width=1.0, color=colours)
    axes.axhline(0.0, color="#3c4043", linewidth=0.8)
    axes.set_xlim(0.5, len(values) + 0.5)
    reach = 1.1 * max(reach or 0.0, max(abs(value) for value in values), 0.05)
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
    lowest: int = 1,
    setting: str = "",
) -> Figure:
    """Return the ranks of one query's documents before and after, both best first.

    Every document is drawn that is in the ``top`` of either side or is relevant; relevant ones are
    in colour and named. The rank axis is logarithmic: where it matters, a rank is wide. It reaches
    to ``lowest`` at least, for pictures that are held side by side. Where no relevant document is
    among the candidates, the picture says so: no reranker can help there.
    """
    if sorted(before) != sorted(after):
        raise InvalidArgumentError("before and after must hold the same documents")
    if not before:
        raise InvalidArgumentError("the query has no candidates to plot")
    title = "\n".join(textwrap.wrap(query, 80, max_lines=2, placeholder=" …"))
    figure, axes = _figure(title, setting, height=5.4)
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
    lowest = max([lowest, *(rank for _, *both in drawn for rank in both)])
    axes.set_yscale("log")
    axes.set_ylim(lowest * 1.5, 0.8)
    ticks = [rank for rank in _RANK_TICKS if rank <= lowest]
    axes.set_yticks(ticks, [str(rank) for rank in ticks])
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", which="minor", length=0)
    axes.set_xlim(-0.62, 1.62)
    axes.set_xticks((0, 1), (FIRST_STAGE, system))
    axes.set_ylabel("rank (1 is best, log scale)")
    axes.grid(visible=False, axis="x")
    if not ends:
        axes.text(
            0.5, 0.5, f"no relevant document is among the {len(before)} candidates:\n"
            "reranking cannot change the measure of this query",
            ha="center", va="center", transform=axes.transAxes, bbox=_BEHIND, zorder=4,
        )  # fmt: skip
    names = [doc_id if len(doc_id) <= 30 else "…" + doc_id[-29:] for doc_id, _, _ in ends]
    _label_ends(axes, names, [rank for _, rank, _ in ends], x=0.0, align="right")
    _label_ends(axes, names, [rank for _, _, rank in ends], x=1.0, align="left")
    axes.set_xlabel("relevant documents in colour, with id and rank; others in grey", fontsize=9)
    return figure


def save(figure: Figure, folder: str | Path, name: str) -> list[Path]:
    """Write ``name``.svg and ``name``.png; the same figure gives the same bytes."""
    paths = [Path(folder) / f"{name}.svg", Path(folder) / f"{name}.png"]
    with matplotlib.rc_context({"svg.hashsalt": name}):
        # What is beside the axes, such as the list of names, belongs to the picture.
        with whole_file(paths[0]) as file:
            figure.savefig(file, format="svg", metadata={"Date": None}, **_WITH_LIST)
        with whole_file(paths[1]) as file:
            figure.savefig(file, format="png", dpi=_DPI, **_WITH_LIST)
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
    setting = f"{report.queries} queries of {collection.run.path.name}, best {report.depth}"
    machine = f"{report.environment.get('processor')}, {report.environment.get('cpu_cores')} cores"
    points = [
        Point(
            f"{_short(system)}{f' ({system.dtype})' if system.dtype else ''}",
            system.speed.docs_per_s,
            system.figures[measure],
            _half_interval(list(system.values[measure].values())),
        )
        for system in systems
        if system.speed
    ]
    speed = quality_speed_figure(
        points,
        measure=measure,
        first_stage=first.figures[measure],
        setting=f"{setting}; {machine}",
    )
    with locked_folder(folder):
        paths = save(speed, folder, "quality_speed")
        changes = {
            system.name: {
                name: value - first.values[measure][name]
                for name, value in system.values[measure].items()
            }
            for system in systems
        }
        reach = max(abs(value) for by_query in changes.values() for value in by_query.values())
        for system in systems:
            name = Path(system.run_path).stem
            by_query = changes[system.name]
            shown = query_id or max(collection.query_ids, key=lambda name: abs(by_query[name]))
            figure = gain_loss_figure(
                by_query, measure=measure, system=_short(system), reach=reach, setting=setting
            )
            paths += save(figure, folder, f"gain_loss_{name}")
            candidates = collection.candidates(shown).doc_ids
            figure = rank_change_figure(
                candidates,
                TrecRun(system.run_path).candidates(shown).doc_ids,
                relevant={doc for doc, grade in collection.qrels[shown].items() if grade > 0},
                query=collection.queries[shown],
                system=_short(system),
                lowest=len(candidates),
                setting=f"query {shown} of {collection.run.path.name}, best {report.depth}",
            )
            paths += save(figure, folder, f"ranks_{name}")
    return paths


def _half_interval(values: Sequence[float]) -> float:
    """Return half of the 95% interval of the mean, by its standard error."""
    return 1.96 * stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def _label_ends(
    axes: Axes,
    names: Sequence[str],
    ranks: Sequence[int],
    *,
    x: float,
    align: Literal["left", "right"],
) -> None:
    """Name the ends of lines at ``x``, each below the last one where two ranks are near."""
    low, high = sorted(axes.get_ylim())
    row = (log10(high) - log10(low)) / 23  # the height of a line of text on the rank axis
    below = -row
    for rank, name in sorted(zip(ranks, names, strict=True)):
        below = max(log10(rank), below + row)
        text = f"{name}  {rank}" if align == "right" else f"{rank}  {name}"
        end = (x - 0.04 if align == "right" else x + 0.04, 10**below)
        axes.text(*end, text, ha=align, va="center", fontsize=9)
        if below > log10(rank) + row / 2:
            line = {"arrowstyle": "-", "color": _PLAIN, "linewidth": 0.8, "shrinkB": 3}
            axes.annotate("", (x, rank), xytext=end, arrowprops=line)


def _short(system: System) -> str:
    return system.name.rsplit("/", 1)[-1]


def _figure(title: str, setting: str = "", height: float = _HEIGHT) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    wrapped = "\n".join(textwrap.wrap(setting, 100))
    axes.set_title(wrapped, fontsize=9, loc="left", color="#5f6368")
    figure.suptitle(title, fontsize=12, x=0.02, ha="left")
    axes.grid(visible=True, color="#e0e3e7", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes

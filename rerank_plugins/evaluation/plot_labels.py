"""Names beside points: where none hides another, and a line where one had to move away.

Offsets are in points, not pixels, so that a figure looks the same at every resolution.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

__all__ = ["label_ends", "label_points"]

_SIZE = 9
_LINE = "#9aa0a6"
# Where a name may stand: beside its point first, then further and further away.
_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_BESIDE = 7
_PLACES = [
    (dx * reach, dy * reach) for reach in (_BESIDE, 14, 22, 32, 44, 58, 74) for dx, dy in _SIDES
]
_ALIGN = {1: ("left", "bottom"), 0: ("center", "center"), -1: ("right", "top")}
# What is placed first has the choice, so several orders are tried; more of them gain nothing.
_ORDERS = 40

Box = tuple[float, float, float, float]


def label_points(
    axes: Axes,
    names: Sequence[str],
    places: Sequence[tuple[float, float]],
    keep_free: Sequence[Text],
) -> None:
    """Name each point where no name, no point, no line, nor the frame is in the way.

    ``places`` are in data coordinates; what stands in ``keep_free`` is not covered.
    """
    renderer = _renderer(axes)
    per_pixel = 72 / renderer.dpi
    frame = _box(axes.get_window_extent(renderer), per_pixel)
    taken = [_box(text.get_window_extent(renderer), per_pixel) for text in keep_free]
    sizes = []
    for name in names:
        label = axes.annotate(name, (0, 0), xycoords="axes fraction", fontsize=_SIZE)
        box = _box(label.get_window_extent(renderer), per_pixel)
        sizes.append((box[2] - box[0] + 2, box[3] - box[1] + 2))
        label.remove()
    centres = [tuple(axes.transData.transform(place) * per_pixel) for place in places]
    shuffled = random.Random(0)
    order = sorted(range(len(names)), key=lambda index: -places[index][1])
    found: list[tuple[float, dict[int, tuple[int, int]]]] = []
    for _ in range(_ORDERS):
        found.append(_placed(order, centres, sizes, frame, taken))
        if found[-1][0] <= _BESIDE * len(names):
            break
        order = shuffled.sample(order, len(order))
    for index, offset in min(found, key=lambda attempt: attempt[0])[1].items():
        axes.annotate(
            names[index],
            places[index],
            xytext=offset,
            textcoords="offset points",
            ha=_ALIGN[_sign(offset[0])][0],
            va=_ALIGN[_sign(offset[1])][1],
            fontsize=_SIZE,
        )
        if _length(offset) > _BESIDE:
            _join(axes, places[index], offset)


def _placed(
    order: Sequence[int],
    centres: Sequence[tuple[float, ...]],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    keep_free: Sequence[Box],
) -> tuple[float, dict[int, tuple[int, int]]]:
    """Return how bad it is, and an offset for each name, placing one after the other."""
    dots = [(x - 4, y - 4, x + 4, y + 4) for x, y in centres]
    boxes, lines = list(keep_free), list[list[tuple[float, float]]]()
    offsets: dict[int, tuple[int, int]] = {}
    total = 0.0
    for index in order:
        best: tuple[float, tuple[int, int], Box, list[tuple[float, float]]] | None = None
        others = dots[:index] + dots[index + 1 :]
        for offset in _PLACES:
            box = _moved(centres[index], sizes[index], offset)
            line = _line(centres[index], offset) if _length(offset) > _BESIDE else []
            cost = _length(offset) + _outside(box, frame)
            cost += 10 * sum(_common(box, other) for other in (*boxes, *dots))
            cost += 1000 * sum(_crosses(line, other) for other in (*boxes, *others))
            cost += 1000 * sum(_crosses(other, box) for other in lines)
            if best is None or cost < best[0]:
                best = cost, offset, box, line
            if cost <= _BESIDE:
                break
        assert best is not None
        total += best[0]
        offsets[index] = best[1]
        boxes.append(best[2])
        lines.append(best[3])
    return total, offsets


def label_ends(
    axes: Axes,
    names: Sequence[str],
    ranks: Sequence[int],
    *,
    x: float,
    align: Literal["left", "right"],
) -> None:
    """Name points one under the other at ``x``, best rank first, moved apart where they touch."""
    renderer = _renderer(axes)
    row = _SIZE * 1.25
    below = None
    for rank, name in sorted(zip(ranks, names, strict=True)):
        y = float(axes.transData.transform((x, rank))[1]) * 72 / renderer.dpi
        # The rank axis points down, so a later name may not stand higher than the last one.
        below = y if below is None else min(y, below - row)
        offset = (-10.0 if align == "right" else 10.0, below - y)
        axes.annotate(
            f"{name}  {rank}" if align == "right" else f"{rank}  {name}",
            (x, rank),
            xytext=offset,
            textcoords="offset points",
            ha=align,
            va="center",
            fontsize=_SIZE,
        )
        if y - below > row / 2:
            _join(axes, (x, rank), offset)


def _renderer(axes: Axes) -> RendererAgg:
    figure = axes.figure
    assert isinstance(figure, Figure)
    assert isinstance(figure.canvas, FigureCanvasAgg)
    figure.canvas.draw()  # type: ignore[no-untyped-call]  # the layout is known once it was drawn
    return figure.canvas.get_renderer()  # type: ignore[no-untyped-call, no-any-return]


def _join(axes: Axes, place: tuple[float, float], offset: tuple[float, float]) -> None:
    line = {"arrowstyle": "-", "color": _LINE, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 3}
    axes.annotate("", place, xytext=offset, textcoords="offset points", arrowprops=line)


def _box(extent: Bbox, per_pixel: float) -> Box:
    x0, y0, x1, y1 = (float(value) * per_pixel for value in extent.extents)
    return x0, y0, x1, y1


def _moved(centre: Sequence[float], size: tuple[float, float], offset: tuple[int, int]) -> Box:
    """Return where a name of this size stands, aligned as its offset says."""
    low = [
        middle + move + (0.0 if move > 0 else -length if move < 0 else -length / 2)
        for middle, move, length in zip(centre, offset, size, strict=True)
    ]
    return low[0], low[1], low[0] + size[0], low[1] + size[1]


def _line(centre: Sequence[float], offset: tuple[int, int]) -> list[tuple[float, float]]:
    """Return points along the line from a point to its name, without its ends."""
    return [
        (centre[0] + offset[0] * step / 10, centre[1] + offset[1] * step / 10)
        for step in range(1, 10)
    ]


def _crosses(line: Sequence[tuple[float, float]], box: Box) -> bool:
    return any(box[0] < x < box[2] and box[1] < y < box[3] for x, y in line)


def _common(box: Box, other: Box) -> float:
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def _outside(box: Box, frame: Box) -> float:
    area = (box[2] - box[0]) * (box[3] - box[1])
    hidden = area - _common(box, frame)
    return 10 * hidden if hidden > 1e-6 else 0.0


def _length(offset: tuple[int, int]) -> int:
    return max(abs(offset[0]), abs(offset[1]))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)

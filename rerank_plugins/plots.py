"""The pictures of an evaluation under a short name; they live in `rerank_plugins.evaluation`."""

from rerank_plugins.evaluation.plots import (
    Point,
    check_query_id,
    gain_loss_figure,
    quality_speed_figure,
    rank_change_figure,
    save,
    write_plots,
)

__all__ = [
    "Point",
    "check_query_id",
    "gain_loss_figure",
    "quality_speed_figure",
    "rank_change_figure",
    "save",
    "write_plots",
]

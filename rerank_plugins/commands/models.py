"""``rerank-plugins models``: the known models, with their shapes and published figures."""

from __future__ import annotations

import argparse

from rich.table import Table

from rerank_plugins.commands.display import print_json, wide_console
from rerank_plugins.models import CARDS, PUBLISHED_SOURCE, ModelCard

HELP = "list the known models with their published figures"
DESCRIPTION = """\
List the known models: the fifteen of the published comparison and the embedded one, with what
decides their cost (layers, hidden size, parameters) and how their scores are made.

The figures are as published, with other candidates and another machine than yours. Measure your
own: rerank-plugins evaluate --help

Any other cross-encoder with one or two labels works too, by its Hub id or as a local folder.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION
    parser.add_argument("--json", action="store_true", help="print the cards as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the table, or the same as data."""
    if arguments.json:
        print_json([card.as_dict() for card in CARDS])
        return 0
    wide_console().print(_table())
    return 0


def _table() -> Table:
    table = Table(
        caption="Published: nDCG@10 on TREC Deep Learning 2019, RR@10 on MS MARCO dev (both times "
        f"100), passages a second on a V100. Source: {PUBLISHED_SOURCE}",
        caption_justify="left",
    )
    table.add_column("model", overflow="fold")
    for name in ("layers", "hidden", "parameters"):
        table.add_column(name, justify="right")
    table.add_column("score", no_wrap=True)
    for name in ("nDCG@10", "RR@10", "docs/s"):
        table.add_column(name, justify="right")
    for card in CARDS:
        table.add_row(*_cells(card))
    return table


def _cells(card: ModelCard) -> list[str]:
    shape, published = card.shape, card.published
    cells = [card.model, str(shape.layers), str(shape.hidden), f"{card.parameters / 1e6:.1f} M"]
    cells.append(card.head.rule)
    if published is None:
        return [*cells, "", "", ""]
    return [
        *cells,
        f"{published.ndcg_at_10:.2f}",
        f"{published.rr_at_10:.2f}",
        f"{published.docs_per_second:,}",
    ]

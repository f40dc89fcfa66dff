"""``rerank-plugins models``: the known models, and when to take which."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from dataclasses import asdict

from rerank_plugins.commands.display import print_json, write_out
from rerank_plugins.models import KnownModel, known_models

HELP = "list the known models, their published quality and when to take which"
DESCRIPTION = """\
List the known models: when to take which, what decides their cost, and their published quality.

Figures are as published, times 100, each on the data it names: two of different data cannot be
compared, and yours will differ. Measure on your own: rerank-plugins evaluate --help

Any other cross-encoder with one or two labels works too, by its Hub id or as a local folder.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION
    parser.add_argument(
        "-j", "--json", action="store_true", help="print everything that is known, with sources"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the list, or the same as data."""
    if arguments.json:
        print_json([asdict(model) for model in known_models()])
        return 0
    width = max(60, min(100, shutil.get_terminal_size((80, 24)).columns))
    write_out("\n".join(_lines(model, width) for model in known_models()) + "\n")
    write_out("\nSources of the figures: rerank-plugins models --json\n")
    return 0


def _lines(model: KnownModel, width: int) -> str:
    size = f"{model.parameters / 1e6:,.1f} M" if model.parameters else ""
    facts = [
        f"{model.max_length:,} tokens" if model.max_length else "",
        " ".join(model.languages or ()),
        model.licence or "",
        model.note or "",
    ]
    figures = [f"{row.measure} {row.value:.2f} ({row.data})" for row in model.quality]
    if model.speed:
        figures.append(f"{model.speed.docs_per_s:,.0f} docs/s ({model.speed.machine})")
    parts = [
        f"take this when: {model.take_when}",
        ", ".join(fact for fact in facts if fact),
        ", ".join(figures),
    ]
    lines = [f"{model.model:<{width - 11}} {size:>10}".rstrip()]
    for part in parts:
        if part:
            lines += textwrap.wrap(
                part,
                width,
                initial_indent="    ",
                subsequent_indent="        ",
                break_on_hyphens=False,
            )
    return "\n".join(lines)

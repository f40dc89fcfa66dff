"""Fields of options as arguments of a command, and those of a scorer: how the models run."""

from __future__ import annotations

import argparse
from dataclasses import Field, fields
from typing import Any

from rerank_plugins.options import ScorerOptions, is_repeated

__all__ = ["add_option", "add_scorer_options", "scorer_options"]

# A command names its models itself, its calls do not compete, and a secret does not belong into
# the list of processes: HF_TOKEN, or `hf auth login`, has the token.
_OPTIONS = [
    option
    for option in fields(ScorerOptions)
    if option.name not in ("model", "token", "max_queued_pairs")
]


def add_scorer_options(parser: argparse.ArgumentParser) -> None:
    """Add one argument for each option of a scorer."""
    group = parser.add_argument_group("how the model runs")
    for option in _OPTIONS:
        short = ["-d"] if option.name == "device" else []
        add_option(group, option, option.metadata["help"], *short)


def add_option(parser: Any, option: Field[Any], text: str, *short: str) -> None:
    """Add the argument of a field of options, None where it is not given; ``text`` is its help."""
    kind = str(option.type)
    keywords: dict[str, Any] = {"default": None, "help": text}
    if kind == "bool":
        keywords["action"] = "store_true"
    else:
        keywords["metavar"] = option.metadata["metavar"]
        if is_repeated(option):
            keywords["action"] = "append"
        elif kind.startswith(("int", "float")):
            keywords["type"] = int if kind.startswith("int") else float
    parser.add_argument(*short, "--" + option.name.replace("_", "-"), **keywords)


def scorer_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options that were given, as keywords of `shared_scorer`."""
    given = {option.name: getattr(arguments, option.name) for option in _OPTIONS}
    return {name: value for name, value in given.items() if value is not None}

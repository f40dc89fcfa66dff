"""How the models run: the options of a scorer as arguments of a command."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from rerank_plugins.options import ScorerOptions

__all__ = ["add_scorer_options", "scorer_options"]

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
        names = ["-d"] if option.name == "device" else []
        names.append("--" + option.name.replace("_", "-"))
        keywords: dict[str, Any] = {"default": None, "help": option.metadata["help"]}
        kind = str(option.type)
        if kind == "bool":
            keywords["action"] = "store_true"
        else:
            keywords["metavar"] = option.metadata["metavar"]
            if option.name == "device":
                keywords["action"] = "append"
            elif kind.startswith("int"):
                keywords["type"] = int
        group.add_argument(*names, **keywords)


def scorer_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options that were given, as keywords of `shared_scorer`."""
    given = {option.name: getattr(arguments, option.name) for option in _OPTIONS}
    return {name: value for name, value in given.items() if value is not None}

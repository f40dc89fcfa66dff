"""``rerank-plugins serve``: the scorer over HTTP."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import Field, fields
from functools import partial
from typing import Any

from rerank_plugins.commands.scorer import add_option
from rerank_plugins.errors import InvalidArgumentError, require_extra
from rerank_plugins.options import checked_options
from rerank_plugins.registry import shared_scorer

HELP = "serve models over HTTP, for every client that knows a rerank API"
DESCRIPTION = """\
Serve rerank models over HTTP, in the shapes of Cohere, Jina, Voyage, vLLM and Text Embeddings
Inference. Every option can be set by the environment variable that its help names; what the
command line says comes first. One process serves: run several behind a proxy to use more machines.
"""
EXAMPLES = """\
examples
  rerank-plugins serve
  rerank-plugins serve --model embedded --api-key "$KEY" --host 0.0.0.0
  curl -s localhost:8000/v1/rerank -H 'content-type: application/json' \\
    -d '{"query": "how do birds fly", "documents": ["A bird has wings.", "A stone is hard."]}'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    require_extra("fastapi", "uvicorn", "prometheus_client", extra="serve", purpose="serve")
    from rerank_plugins.serving.options import SCORER_FIELDS, ServerOptions

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    for option in fields(ServerOptions):
        _add(parser, option)
    parser.add_argument("--quiet", action="store_true", help="no line a request on standard error")
    models = parser.add_argument_group("how the models run")
    for option in SCORER_FIELDS:
        _add(models, option)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    from rerank_plugins.serving.options import SCORER_FIELDS, ServerOptions, from_environment
    from rerank_plugins.serving.server import serve

    given = from_environment(os.environ)
    for option in (*fields(ServerOptions), *SCORER_FIELDS):
        value = getattr(arguments, option.name)
        if value is not None:
            given[option.name] = tuple(value) if isinstance(value, list) else value
    scorer = {each.name: given.pop(each.name) for each in SCORER_FIELDS if each.name in given}
    options = ServerOptions(**given)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    level = logging.WARNING if arguments.quiet else logging.INFO
    logging.getLogger("rerank_plugins.serving").setLevel(level)
    return serve(served_models(options, scorer), options)


def served_models(options: Any, scorer: dict[str, Any]) -> list[Any]:
    """Return the models that ``options`` name, each with its aliases, not yet loaded.

    Raises `InvalidArgumentError` for what `ScorerOptions` does not take, before anything listens.
    """
    from rerank_plugins.serving.options import SCORER_DEFAULTS
    from rerank_plugins.serving.served_models import ServedModel

    aliases: dict[str, list[str]] = {model: [] for model in options.model}
    for alias in options.served_model_name:
        name, equals, model = alias.partition("=")
        model = model if equals else options.model[0]
        if (not equals and len(aliases) > 1) or model not in aliases:
            raise InvalidArgumentError(
                f"served_model_name={alias!r} names no model of {', '.join(aliases)}; "
                "write NAME=MODEL"
            )
        aliases[model].append(name)
    return [
        ServedModel(
            model,
            partial(
                shared_scorer, **checked_options(**{"model": model, **SCORER_DEFAULTS, **scorer})
            ),
            tuple(names),
        )
        for model, names in aliases.items()
    ]


def _add(parser: Any, option: Field[Any]) -> None:
    from rerank_plugins.serving.options import default_of, environment_name

    default = default_of(option)
    told = f"default {', '.join(default) if isinstance(default, tuple) else default}"
    if default is None or default in ((), ""):
        told = "no default"
    elif option.type == "bool":
        told = "off"
    add_option(parser, option, f"{option.metadata['help']} ({told}; {environment_name(option)})")

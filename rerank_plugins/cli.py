"""The command line: ``rerank-plugins demo | rerank | evaluate | bench | serve | models``.

Each command is a module of `rerank_plugins.commands` with ``configure(parser)`` and
``run(arguments) -> int``, imported when it is chosen and not before.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from rerank_plugins import __version__
from rerank_plugins.errors import RerankError
from rerank_plugins.terminal import harmless

COMMANDS = {
    "demo": "answer questions about Python from Python's own documentation",
    "rerank": "order passages by how well they answer a question",
    "rerank-dataset": "score many pairs from files into files, in shares if wanted",
    "evaluate": "compare models on a test collection: quality, speed, significance",
    "bench": "measure a model's speed on this machine",
    "models": "list the known models, their published quality and when to take which",
    "serve": "serve models over HTTP, for every client that knows a rerank API",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 1 after an error, 130 after Ctrl-C.

    Wrong usage ends with status 2, as argparse has it.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser(given).parse_args(given)
    try:
        return int(arguments.run(arguments))
    except RerankError as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # of a file that is written: a full disk, no permission
        where = f"{error.filename}: " if error.filename else ""
        return _failed(f"{where}{error.strerror or error}")


def _failed(message: str) -> int:
    """Say it in one line, whatever foreign text is in it."""
    sys.stderr.write(f"rerank-plugins: {harmless(message)}\n")
    return 1


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rerank-plugins",
        description="Rerank what a first stage retrieved, with one shared cross-encoder.",
    )
    parser.add_argument("--version", action="version", version=f"rerank_plugins {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    chosen = next((argument for argument in given if not argument.startswith("-")), None)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if name == chosen:
            module = importlib.import_module(f"rerank_plugins.commands.{name.replace('-', '_')}")
            module.configure(command)
            command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())

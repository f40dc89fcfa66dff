"""``python -m training``: make an embedded cross-encoder."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

import torch
from rich.console import Console

from training.export import copy_model
from training.passages import Files
from training.recipe import Recipe
from training.settings import FULL, SMOKE, STUDENTS

HERE = Path(__file__).parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument(
        "--model",
        choices=[*STUDENTS],
        default=next(iter(STUDENTS)),
        help="which of the two to make (embedded)",
    )
    parser.add_argument(
        "--teacher",
        metavar="MODEL",
        help="a cross-encoder that teaches too: the folder of a model made before",
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="the whole recipe on a small sample, in minutes; fails if nothing was learned",
    )
    parser.add_argument(
        "--pairs",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="JSON lines with a query and a passage that answers it, for training too",
    )
    parser.add_argument(
        "--passages",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="JSON lines with a passage: queries are made from them, and they are rivals",
    )
    parser.add_argument(
        "--questions",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="JSON lines with a query alone, which is matched to the passages",
    )
    parser.add_argument(
        "--device", default="cpu", help="where to train: cpu or cuda, in bfloat16 on both (cpu)"
    )
    parser.add_argument(
        "--work", type=Path, default=HERE / "work", help="where everything is kept (training/work)"
    )
    parser.add_argument("--minutes", type=float, help="how long to train")
    parser.add_argument(
        "--install", type=Path, metavar="FOLDER", help="copy the finished model there"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def main() -> int:
    """Run the recipe; return 1 if the model is no better than its own start."""
    options = arguments()
    console = Console()
    torch.set_num_threads(options.threads)
    settings = SMOKE if options.smoke else FULL
    if options.minutes:
        settings = settings.lasting(options.minutes)
    for option in ("pairs", "passages", "questions"):
        for path in getattr(options, option):
            if not path.is_file():
                console.print(f"--{option}: {path} is not a file; give JSON lines")
                return 2
    files = Files(tuple(options.pairs), tuple(options.passages), tuple(options.questions))
    if options.smoke:
        # What is cached would prove nothing; the downloads stay.
        shutil.rmtree(options.work / settings.name, ignore_errors=True)
    outcome = Recipe(
        settings,
        work=options.work,
        student=options.model,
        files=files,
        device=options.device,
        teacher=options.teacher,
        console=console,
    ).run()
    console.print_json(json.dumps({"start": outcome.start, "final": outcome.final}))
    if outcome.final["RR@10"] <= outcome.start["RR@10"]:
        console.print("The model is no better than its start: nothing was learned.")
        return 1
    if options.install:
        copy_model(outcome.model, options.install)
    console.print(f"The model is in {options.install or outcome.model}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

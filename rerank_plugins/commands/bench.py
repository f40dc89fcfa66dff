"""``rerank-plugins bench``: how fast a model is here, and how sentence-transformers compares."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec

from rich.table import Table

from rerank_plugins.commands.display import CommandProgress, print_json, wide_console
from rerank_plugins.errors import InvalidArgumentError
from rerank_plugins.models import EMBEDDED_MODEL
from rerank_plugins.terminal import harmless
from rerank_plugins.workloads import (
    BULK,
    BULK_SEEN,
    CANDIDATES,
    LONG,
    Call,
    ScoreCalls,
    Timing,
    measure,
)

HELP = "measure a model's speed on this machine"
DESCRIPTION = """\
Measure docs/s and latency on made-up English text in the lengths of MS MARCO, on any model and
device. Where sentence-transformers is installed it runs beside it, on the same text in turn, and
the scores of both are compared first.

  rerank-plugins bench
  rerank-plugins bench --model cross-encoder/ms-marco-MiniLM-L6-v2 --dtype bfloat16 --repeats 3
"""
WORKLOADS = {workload.name: workload for workload in (BULK, BULK_SEEN, LONG, *CANDIDATES)}
PEER = "sentence-transformers"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION
    parser.add_argument(
        "-m", "--model", default=EMBEDDED_MODEL, help="Hub id, folder or 'embedded'"
    )
    parser.add_argument(
        "-d", "--device", help="cpu, cuda, cuda:1, mps (default: the best there is)"
    )
    parser.add_argument("--dtype", default="auto", help="float32, float16, bfloat16 or int8")
    parser.add_argument("--max-length", type=int, help="tokens a pair (default: the model's)")
    parser.add_argument("-r", "--repeats", type=int, default=5, metavar="N")
    parser.add_argument(
        "--workload", nargs="+", choices=sorted(WORKLOADS), default=list(WORKLOADS), metavar="NAME"
    )
    parser.add_argument("--alone", action="store_true", help="leave sentence-transformers out")
    parser.add_argument("-j", "--json", action="store_true", help="print the raw timings as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Measure, with progress on standard error, and print one table or JSON."""
    from rerank_plugins.registry import shared_scorer

    if arguments.repeats < 1:
        raise InvalidArgumentError(f"--repeats must be at least 1, got {arguments.repeats}")
    scorer = shared_scorer(
        arguments.model,
        device=arguments.device,
        dtype=arguments.dtype,
        max_length=arguments.max_length,
    )
    ours = f"rerank_plugins {scorer.dtype}"

    def score(calls: Sequence[Call]) -> list[list[float]]:
        if len(calls) == 1:
            return [scorer.score(*calls[0])]
        pairs = [(query, passage) for query, passages in calls for passage in passages]
        return _regrouped(scorer.score_pairs(pairs), calls)

    contestants: dict[str, ScoreCalls] = {ours: score}
    if find_spec("sentence_transformers") is not None and not arguments.alone:
        contestants[PEER] = _peer(arguments, scorer.device.split(",")[0], scorer.max_length)
    timings: list[Timing] = []
    differences: list[float] = []

    def compare(name: str, scores: list[list[float]], reference: list[list[float]]) -> None:
        if name == PEER:
            differences.extend(
                abs(a - b)
                for row, other in zip(scores, reference, strict=True)
                for a, b in zip(row, other, strict=True)
            )

    with CommandProgress() as progress:
        for name in arguments.workload:
            timings += measure(
                contestants,
                WORKLOADS[name],
                repeats=arguments.repeats,
                seed=0,
                progress=progress,
                check=compare,
            )
    largest = max(differences, default=None)
    if arguments.json:
        report = {
            "model": arguments.model,
            "device": scorer.device,
            "dtype": scorer.dtype,
            "max_length": scorer.max_length,
            "repeats": arguments.repeats,
            "largest_score_difference": largest,
            "timings": [timing.as_dict() for timing in timings],
        }
        print_json(report)
        return 0
    console = wide_console()
    console.print(_table(arguments.model, scorer.device, timings, ours))
    if largest is not None:
        console.print(f"largest difference of scores to {PEER} (float32): {largest:.1e}")
    return 0


def _peer(arguments: argparse.Namespace, device: str, max_length: int) -> ScoreCalls:
    from sentence_transformers import CrossEncoder

    embedded = str(files("rerank_plugins") / EMBEDDED_MODEL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = CrossEncoder(
            embedded if arguments.model == EMBEDDED_MODEL else arguments.model,
            device=device,
            max_length=max_length,
        )

    def score(calls: Sequence[Call]) -> list[list[float]]:
        pairs = [(query, passage) for query, passages in calls for passage in passages]
        return _regrouped(model.predict(pairs, show_progress_bar=False).tolist(), calls)

    return score


def _regrouped(flat: list[float], calls: Sequence[Call]) -> list[list[float]]:
    scores = iter(flat)
    return [[next(scores) for _ in passages] for _, passages in calls]


def _table(model: str, device: str, timings: list[Timing], ours: str) -> Table:
    table = Table(title=f"{harmless(model)} on {device}: medians")
    for column in ("workload", "contestant", "pairs", "docs/s", "p50 ms", "p99 ms", "ratio"):
        table.add_column(
            column, justify="left" if column in ("workload", "contestant") else "right"
        )
    mine = {timing.workload: timing for timing in timings if timing.contestant == ours}
    for timing in timings:
        own = timing.contestant == ours
        table.add_row(
            timing.workload,
            timing.contestant,
            str(timing.n_pairs),
            f"{timing.docs_per_s:,.0f}",
            f"{timing.percentile_ms(0.5):.2f}",
            f"{timing.percentile_ms(0.99):.2f}",
            "" if own else f"{mine[timing.workload].docs_per_s / timing.docs_per_s:.1f}x slower",
        )
    return table

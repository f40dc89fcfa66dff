"""``rerank-plugins evaluate``: compare models on your own data and your own machine."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rerank_plugins.commands.display import CommandProgress, print_json, wide_console
from rerank_plugins.commands.scorer import add_scorer_options, scorer_options
from rerank_plugins.errors import InvalidArgumentError, require_extra
from rerank_plugins.models import EMBEDDED_MODEL
from rerank_plugins.ranking import Scorer
from rerank_plugins.registry import shared_scorer
from rerank_plugins.shards import WHOLE, Shard

if TYPE_CHECKING:
    from rerank_plugins.evaluation import Collection, Report

HELP = "compare models on a test collection: quality, speed, significance"
DESCRIPTION = """\
Rerank a first-stage run with each model and compare them: quality by ir_measures, passages a
second, latency of a query, and whether a difference is more than chance.

input
  --run       TREC run of the first stage: query_id Q0 doc_id rank score tag
  --qrels     TREC qrels: query_id 0 doc_id relevance (or BEIR's TSV with its header)
  --corpus    JSON lines {"_id": ..., "title": ..., "text": ...}; the passage is title + " " + text
  --queries   JSON lines {"_id": ..., "text": ...}
  --dataset   an ir_datasets id instead of the last three (its own run where --run is left out)

output, in the folder --output
  MODEL.run             the reranked run in TREC's form; equal scores are written as the next
                        smaller ones, so that every tool sees the same order
  MODEL.interpolated.run  with --interpolate: the first stage's scores added
  per_query.tsv         system, measure, query_id, value
  report.json           the table as data, with the machine and the versions

Only the best --depth candidates of each query count, for the first stage too. Latency is one
query at a time: its texts in, its ranking out. p: paired randomisation test against the first
stage, Holm's correction over the models. Interrupted? The same command goes on where it stopped.
"""
EXAMPLES = """\
examples
  rerank-plugins evaluate --corpus corpus.jsonl --queries queries.jsonl --qrels qrels.txt \\
      --run bm25.run --model embedded --depth 100 --measure nDCG@10 RR@10
  rerank-plugins evaluate ... --model embedded cross-encoder/ms-marco-MiniLM-L6-v2 --plot plots
  rerank-plugins evaluate --dataset beir/scifact/test --run bm25.run --interpolate
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    data = parser.add_argument_group("data")
    data.add_argument("--corpus", type=Path, metavar="JSONL")
    data.add_argument("--queries", type=Path, metavar="JSONL")
    data.add_argument("--qrels", type=Path, metavar="FILE")
    data.add_argument("--run", type=Path, metavar="FILE", dest="first_stage_run")
    data.add_argument(
        "--dataset", metavar="ID", help="an ir_datasets id, such as beir/scifact/test"
    )
    what = parser.add_argument_group("what to measure")
    what.add_argument(
        "-m",
        "--model",
        nargs="+",
        action="extend",
        metavar="MODEL",
        help=f"Hub ids, local folders or '{EMBEDDED_MODEL}' (default: {EMBEDDED_MODEL})",
    )
    what.add_argument(
        "--measure",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="ir_measures names; the first is the one that is plotted and fitted "
        "(default: nDCG@10 RR@10)",
    )
    what.add_argument(
        "--depth", type=int, default=100, metavar="N", help="candidates a query (default: 100)"
    )
    what.add_argument(
        "--interpolate",
        action="store_true",
        help="add a row for each model plus the first stage's scores, the weight fitted on one "
        "half of the queries and used on the other, both ways round",
    )
    add_scorer_options(parser)
    out = parser.add_argument_group("output")
    out.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("evaluation"),
        metavar="FOLDER",
        help="(default: evaluation)",
    )
    out.add_argument(
        "--shard",
        metavar="I/N",
        help="rerank and measure only the I-th of N shares of the queries, into a folder of its "
        "own in --output; the shares' runs concatenate to the whole",
    )
    out.add_argument("--restart", action="store_true", help="discard what was reranked before")
    out.add_argument(
        "-j", "--json", action="store_true", help="print the report as JSON, not as a table"
    )
    out.add_argument(
        "--plot",
        type=Path,
        metavar="FOLDER",
        help="write SVG and PNG: quality against speed, gain and loss by query, ranks of one query",
    )
    out.add_argument(
        "--plot-query",
        metavar="ID",
        help="the query of the rank plot (default: the one with the largest change)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print the table and say where everything was written."""
    require_extra("ir_measures", extra="evaluation", purpose="rerank-plugins evaluate")
    if arguments.plot:
        from rerank_plugins.evaluation.plots import check_query_id
    from rerank_plugins.evaluation import DEFAULT_MEASURES, evaluate, parse_measures

    if arguments.plot_query and not arguments.plot:
        raise InvalidArgumentError("--plot-query says which query --plot FOLDER shows; give both")
    # What can be wrong in the command is found before anything large is read.
    measures = arguments.measure or DEFAULT_MEASURES
    parse_measures(measures)
    shard = Shard.parsed(arguments.shard) if arguments.shard else WHOLE
    if shard != WHOLE:
        arguments.output /= shard.folder_name
    console = wide_console()
    with CommandProgress() as progress:
        try:
            collection = _collection(arguments, progress)
            collection = replace(collection, shard=shard)
            if arguments.plot:
                check_query_id(collection, arguments.plot_query)
            report = evaluate(
                _scorers(arguments),
                collection,
                output=arguments.output,
                measures=measures,
                interpolate=arguments.interpolate,
                restart=arguments.restart,
                progress=progress,
            )
        except KeyboardInterrupt:
            progress.console.print(
                f"interrupted; what is done is in {arguments.output}; the same command goes on"
            )
            return 130
    if arguments.json:
        print_json(report.as_dict())
    else:
        console.print(report.table())
        between = report.models_table()
        if between:
            console.print(between)
    progress.console.print(f"runs, per_query.tsv and report.json: {arguments.output}")
    if arguments.plot:
        _plot(report, collection, arguments)
        progress.console.print(f"plots: {arguments.plot}")
    return 0


def _collection(arguments: argparse.Namespace, progress: CommandProgress) -> Collection:
    from rerank_plugins.evaluation import read_collection, read_dataset

    files = {name: getattr(arguments, name) for name in ("corpus", "queries", "qrels")}
    run_path: Path | None = arguments.first_stage_run
    if arguments.dataset:
        given = [f"--{name}" for name, path in files.items() if path]
        if given:
            raise InvalidArgumentError(
                f"--dataset brings its own corpus, queries and qrels; leave out {', '.join(given)}"
            )
        return read_dataset(
            arguments.dataset,
            run=run_path,
            scored_path=arguments.output / "first_stage.scoreddocs.run",
            depth=arguments.depth,
        )
    missing = [f"--{name}" for name, path in files.items() if not path]
    if run_path is None:
        missing.append("--run")
    if missing or run_path is None:
        raise InvalidArgumentError(
            f"{', '.join(missing)} missing; give --corpus, --queries, --qrels and "
            "--run, or --dataset"
        )
    return read_collection(**files, run=run_path, depth=arguments.depth, progress=progress)


def _scorers(arguments: argparse.Namespace) -> Iterator[Scorer]:
    """Yield one scorer after the other, each closed before the next is loaded."""
    options = scorer_options(arguments)
    for model in arguments.model or [EMBEDDED_MODEL]:
        scorer = shared_scorer(model, **options)
        try:
            yield scorer
        finally:
            scorer.close()


def _plot(report: Report, collection: Collection, arguments: argparse.Namespace) -> None:
    from rerank_plugins.evaluation.plots import write_plots

    write_plots(report, collection, arguments.plot, query_id=arguments.plot_query)

"""``rerank-plugins rerank-dataset``: score many pairs from files into files."""

from __future__ import annotations

import argparse
from pathlib import Path

from rerank_plugins.commands.display import CommandProgress
from rerank_plugins.commands.scorer import add_scorer_options, scorer_options
from rerank_plugins.dataset import Columns, Rows, Summary, rerank_rows
from rerank_plugins.dataset_files import RunRows, rows_of
from rerank_plugins.errors import InvalidArgumentError, require_extra
from rerank_plugins.models import EMBEDDED_MODEL
from rerank_plugins.progress import Progress
from rerank_plugins.registry import shared_scorer
from rerank_plugins.shards import WHOLE, Shard

HELP = "score many pairs from files into files, in shares if wanted"
DESCRIPTION = """\
Score every row of IN: JSON lines (.jsonl, also .gz) or Parquet with a query, a passage and whatever
ids there are; or the candidates of --run with --corpus and --queries. Into --out go part files with
the ids and the score, the texts left out, and _manifest.json, which says what scored what.

Interrupted? The same command goes on where it stopped. Several processes or machines: give each its
--shard I/N; the parts of all shards, sorted by name, are those of a single process. A text that is
null gives a null score.

--engine ray writes the same files by workers on all machines of a Ray cluster, which see inputs and
output under the same paths; without --address on this machine alone.
"""
EXAMPLES = """\
examples
  rerank-plugins rerank-dataset pairs-*.parquet --out scores
  rerank-plugins rerank-dataset pairs.jsonl --out scores --shard "$SLURM_ARRAY_TASK_ID/8"
  rerank-plugins rerank-dataset pairs-*.parquet --out scores --engine ray --address auto
  rerank-plugins rerank-dataset --run bm25.run.gz --corpus c.jsonl --queries q.jsonl --out scores
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    parser.add_argument("inputs", nargs="*", type=Path, metavar="IN", help="files of pairs")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--run", type=Path, metavar="FILE", dest="first_stage_run")
    parser.add_argument("--corpus", type=Path, metavar="JSONL")
    parser.add_argument("--queries", type=Path, metavar="JSONL")
    parser.add_argument("--depth", type=int, default=100, metavar="N", help="of --run: candidates")
    defaults = Columns()
    for name in ("query", "passage", "score"):
        default = getattr(defaults, name)
        parser.add_argument(
            f"--{name}-column", default=default, metavar="NAME", help=f"(default: {default})"
        )
    parser.add_argument("--shard", metavar="I/N", help="the I-th of N shares of the rows")
    parser.add_argument("--restart", action="store_true", help="discard what was scored before")
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--address", metavar="ADDRESS", help="of a Ray cluster; auto: the one here")
    parser.add_argument("--workers", type=int, metavar="N", help="(default: what the CPUs allow)")
    parser.add_argument("--cpus-per-worker", type=int, metavar="N", help="(default: 1; of a GPU 2)")
    parser.add_argument("--gpus-per-worker", type=float, metavar="N", help="(default: 0)")
    parser.add_argument("-m", "--model", default=EMBEDDED_MODEL, help="Hub id, folder, 'embedded'")
    add_scorer_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Score, and say what came out."""
    shard = Shard.parsed(arguments.shard) if arguments.shard else WHOLE
    columns = Columns(
        query=arguments.query_column,
        passage=arguments.passage_column,
        score=arguments.score_column,
    )
    with CommandProgress() as progress:
        score = _by_ray if arguments.engine == "ray" else _here
        summary = score(arguments, columns, shard, progress)
    said = f"{summary.n_rows:,} rows in {summary.folder}"
    if summary.n_earlier:
        said += f", {summary.n_earlier:,} of them by an earlier run"
    if summary.n_without_text:
        said += f"; {summary.n_without_text:,} without text have no score"
    progress.console.print(said)
    return 0


def _here(
    arguments: argparse.Namespace, columns: Columns, shard: Shard, progress: Progress
) -> Summary:
    for name in ("address", "workers", "cpus_per_worker", "gpus_per_worker"):
        if getattr(arguments, name) is not None:
            raise InvalidArgumentError(f"--{name.replace('_', '-')} needs --engine ray")
    rows = _rows(arguments, columns)
    return rerank_rows(
        shared_scorer(arguments.model, **scorer_options(arguments)),
        rows,
        arguments.out,
        columns=columns,
        shard=shard,
        restart=arguments.restart,
        progress=progress,
    )


def _by_ray(
    arguments: argparse.Namespace, columns: Columns, shard: Shard, progress: Progress
) -> Summary:
    require_extra("ray", "pyarrow", extra="ray", purpose="--engine ray")
    import ray

    from rerank_plugins.ray import Workers, rerank_files

    arguments.inputs = [path.absolute() for path in arguments.inputs]
    for name in ("first_stage_run", "corpus", "queries"):
        if (path := getattr(arguments, name)) is not None:
            setattr(arguments, name, path.absolute())
    rows = _rows(arguments, columns)
    if not ray.is_initialized():
        try:
            ray.init(address=arguments.address)
        except ConnectionError as error:
            raise InvalidArgumentError(
                f"--address {arguments.address}: {error}; start a cluster with `ray start --head`"
            ) from error
    return rerank_files(
        rows,
        arguments.out,
        arguments.model,
        columns=columns,
        shard=shard,
        restart=arguments.restart,
        progress=progress,
        workers=Workers(
            n=arguments.workers,
            cpus=arguments.cpus_per_worker,
            gpus=arguments.gpus_per_worker or 0,
        ),
        **scorer_options(arguments),
    )


def _rows(arguments: argparse.Namespace, columns: Columns) -> Rows:
    parts = {
        "--run": arguments.first_stage_run,
        "--corpus": arguments.corpus,
        "--queries": arguments.queries,
    }
    missing = [name for name, path in parts.items() if path is None]
    if arguments.inputs and len(missing) < len(parts):
        raise InvalidArgumentError("give files of pairs, or --run with --corpus and --queries")
    if arguments.inputs:
        return rows_of(arguments.inputs, columns)
    if missing:
        raise InvalidArgumentError(
            f"{', '.join(missing)} missing; give files of pairs, or --run with --corpus and "
            "--queries"
        )
    run, corpus, queries = parts.values()
    return RunRows(run, corpus, queries, arguments.depth, columns)

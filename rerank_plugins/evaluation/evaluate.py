"""The whole evaluation: first stage and models over one collection, with speed and significance."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rerank_plugins.errors import InvalidArgumentError
from rerank_plugins.evaluation.collection import Collection
from rerank_plugins.evaluation.interpolation import fit_weights, write_interpolated
from rerank_plugins.evaluation.measures import (
    DEFAULT_MEASURES,
    mean_values,
    parse_measures,
    query_values,
)
from rerank_plugins.evaluation.report import (
    FIRST_STAGE,
    Report,
    Speed,
    System,
    compared,
    environment,
)
from rerank_plugins.evaluation.rerank import rerank_to_file
from rerank_plugins.evaluation.trec import TrecRun
from rerank_plugins.progress import Progress, Silent
from rerank_plugins.ranking import Scorer
from rerank_plugins.written_files import locked_folder, write_text

__all__ = ["evaluate", "run_name"]


def evaluate(
    scorers: Iterable[Scorer | tuple[str, Scorer]],
    collection: Collection,
    *,
    output: str | Path,
    measures: Sequence[str] = DEFAULT_MEASURES,
    interpolate: bool = False,
    restart: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Rerank the collection's run with each scorer and compare it with the first stage.

    Into the folder ``output`` go, for each model, its run and how far it came (an interrupted
    evaluation goes on there), ``per_query.tsv`` and ``report.json``. The figures are ir_measures'
    own on the runs as written. With ``interpolate`` there is a second row for each model, with the
    first stage's scores added as in `rerank_plugins.interpolate`: the weight is fitted on one half
    of the queries by the first measure and used on the other half, both ways round.

    ``scorers`` is consumed one by one, so a generator can close one before it loads the next. One
    model in several settings needs names: ``[("float32", scorer), ("int8", other)]``. Raises
    `OutputInUseError` where another process is writing into ``output``.
    """
    parsed = parse_measures(measures)
    with locked_folder(output):
        return _evaluated(
            scorers, collection, Path(output), parsed, interpolate, restart, progress or Silent()
        )


def _evaluated(
    scorers: Iterable[Scorer | tuple[str, Scorer]],
    collection: Collection,
    output: Path,
    parsed: Sequence[Any],
    interpolate: bool,
    restart: bool,
    progress: Progress,
) -> Report:
    judgements, query_ids = collection.judgements, collection.query_ids
    judged = len(judgements)
    advance = progress.step("checking the run", len(query_ids), "queries")
    collection.check(advance=advance)

    def system(name: str, run: TrecRun, depth: int | None, **rest: Any) -> System:
        advance = progress.step(f"measuring {name}", judged, "queries")
        values = query_values(
            parsed,
            judgements,
            lambda query_id: run.candidates(query_id, depth),
            advance=advance,
        )
        figures = mean_values(parsed, values)
        return System(name=name, figures=figures, values=values, run_path=str(run.path), **rest)

    systems = [system(FIRST_STAGE, collection.run, collection.depth)]
    paths: set[Path] = set()
    for entry in scorers:
        name, scorer = entry if isinstance(entry, tuple) else (entry.model, entry)
        path = output / f"{run_name(name)}.run"
        if path in paths:
            raise InvalidArgumentError(
                f"the model {name!r} comes twice; give it once, or each under a name of its own"
            )
        paths.add(path)
        times = rerank_to_file(scorer, collection, path, restart=restart, progress=progress)
        reranked, speed = TrecRun(path), Speed.of(times)
        dtype = getattr(scorer, "dtype", None)
        systems.append(system(name, reranked, None, speed=speed, dtype=dtype))
        if interpolate:
            advance = progress.step("fitting the weight", len(query_ids), "queries")
            weights = fit_weights(collection, reranked, parsed[0], advance=advance)
            path = path.with_suffix(".interpolated.run")
            write_interpolated(collection, reranked, weights, path, tag="interpolated")
            systems.append(
                system(
                    f"{name} + {FIRST_STAGE}",
                    TrecRun(path),
                    None,
                    speed=speed,
                    dtype=dtype,
                    first_stage_weights=(weights.fitted_on_first, weights.fitted_on_second),
                )
            )
    report = Report(
        queries=judged,
        queries_without_candidates=judged - len(query_ids),
        queries_without_judgements=sum(
            query_id not in collection.qrels for query_id in collection.run.query_ids
        ),
        depth=collection.depth,
        measures=[str(measure) for measure in parsed],
        systems=systems,
        comparisons=compared(systems, [str(measure) for measure in parsed]),
        environment=environment(),
    )
    report.write_values(output / "per_query.tsv")
    write_text(output / "report.json", json.dumps(report.as_dict(), indent=2) + "\n")
    return report


def run_name(model: str) -> str:
    """Return a file name for a model: its id or path with every other character a ``_``.

    >>> run_name("cross-encoder/ms-marco-TinyBERT-L2-v2")
    'cross-encoder_ms-marco-TinyBERT-L2-v2'
    """
    return re.sub(r"[^\w.-]+", "_", model.strip("/")) or "model"

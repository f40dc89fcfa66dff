"""The whole evaluation: first stage and models over one collection, with speed and significance."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from rerank_plugins.errors import InvalidArgumentError
from rerank_plugins.evaluation.collection import Collection
from rerank_plugins.evaluation.interpolation import fit_weights, write_interpolated
from rerank_plugins.evaluation.measures import (
    DEFAULT_MEASURES,
    mean_values,
    parse_measures,
    query_values,
)
from rerank_plugins.evaluation.progress import QueryTime
from rerank_plugins.evaluation.report import (
    FIRST_STAGE,
    Report,
    Speed,
    System,
    compared,
    environment,
)
from rerank_plugins.evaluation.rerank import rerank_to_file
from rerank_plugins.evaluation.trec import Advance, TrecRun
from rerank_plugins.ranking import Scorer

__all__ = ["Watcher", "evaluate", "run_name"]


class Watcher(Protocol):
    """Is told what goes on, to show progress."""

    def reading(self, what: str, total: int) -> Advance:
        """Hear that ``total`` steps begin; return what is called with the steps made."""

    def reranking(self, model: str, pairs: int) -> Callable[[QueryTime], None]:
        """Hear that a model begins; return what is called with each query that is done."""


class _Silent:
    def reading(self, what: str, total: int) -> Advance:
        return lambda steps: None

    def reranking(self, model: str, pairs: int) -> Callable[[QueryTime], None]:
        return lambda time_of: None


def evaluate(
    scorers: Iterable[Scorer | tuple[str, Scorer]],
    collection: Collection,
    *,
    output: str | Path,
    measures: Sequence[str] = DEFAULT_MEASURES,
    interpolate: bool = False,
    restart: bool = False,
    watcher: Watcher | None = None,
) -> Report:
    """Rerank the collection's run with each scorer and compare it with the first stage.

    Into the folder ``output`` go, for each model, its run and how far it came (an interrupted
    evaluation goes on there), ``per_query.tsv`` and ``report.json``. The figures are ir_measures'
    own on the runs as written. With ``interpolate`` there is a second row for each model, with the
    first stage's scores added as in `rerank_plugins.interpolate`: the weight is fitted on one half
    of the queries by the first measure and used on the other half, both ways round.

    ``scorers`` is consumed one by one, so a generator can close one before it loads the next. One
    model in several settings needs names: ``[("float32", scorer), ("int8", other)]``.
    """
    watcher = watcher or _Silent()
    parsed = parse_measures(measures)
    output = Path(output)
    judged = len(collection.qrels)
    advance = watcher.reading("checking the run", len(collection.query_ids))
    pairs = collection.check(advance=advance)

    def system(name: str, run: TrecRun, depth: int | None, **rest: Any) -> System:
        advance = watcher.reading(f"measuring {name}", judged)
        values = query_values(
            parsed,
            collection.qrels,
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
        on_query = watcher.reranking(name, pairs)
        times = rerank_to_file(scorer, collection, path, restart=restart, on_query=on_query)
        reranked, speed = TrecRun(path), Speed.of(times)
        systems.append(system(name, reranked, None, speed=speed))
        if interpolate:
            advance = watcher.reading("fitting the weight", len(collection.query_ids))
            weights = fit_weights(collection, reranked, parsed[0], advance=advance)
            path = path.with_suffix(".interpolated.run")
            write_interpolated(collection, reranked, weights, path, tag="interpolated")
            systems.append(
                system(
                    f"{name} + {FIRST_STAGE}",
                    TrecRun(path),
                    None,
                    speed=speed,
                    first_stage_weights=(weights.fitted_on_first, weights.fitted_on_second),
                )
            )
    report = Report(
        queries=judged,
        queries_without_candidates=judged - len(collection.query_ids),
        queries_without_judgements=len(collection.run.query_ids) - len(collection.query_ids),
        depth=collection.depth,
        measures=[str(measure) for measure in parsed],
        systems=systems,
        comparisons=compared(systems, [str(measure) for measure in parsed]),
        environment=environment(),
    )
    output.mkdir(parents=True, exist_ok=True)
    report.write_values(output / "per_query.tsv")
    (output / "report.json").write_text(
        json.dumps(report.as_dict(), indent=2) + "\n", encoding="utf-8"
    )
    return report


def run_name(model: str) -> str:
    """Return a file name for a model: its id or path with every other character a ``_``.

    >>> run_name("cross-encoder/ms-marco-TinyBERT-L2-v2")
    'cross-encoder_ms-marco-TinyBERT-L2-v2'
    """
    return re.sub(r"[^\w.-]+", "_", model.strip("/")) or "model"

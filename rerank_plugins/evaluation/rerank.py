"""A whole run reranked: in memory for a small one, to a file that can be gone on with for any."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rerank_plugins.errors import InvalidArgumentError
from rerank_plugins.evaluation.collection import Collection, digest_of
from rerank_plugins.evaluation.progress import ProgressFile, QueryTime
from rerank_plugins.evaluation.trec import Run, trec_lines
from rerank_plugins.ranking import Scorer, rank

__all__ = ["rerank_run", "rerank_to_file"]


def rerank_run(
    scorer: Scorer,
    run: Mapping[str, Mapping[str, float]],
    *,
    queries: Mapping[str, str],
    passages: Mapping[str, str],
    depth: int = 100,
) -> Run:
    """Return ``run`` with the ``depth`` best candidates of each query ordered and scored anew.

    Documents come back best first; equal scores keep the order of the first stage. Raises
    `InvalidArgumentError` for a query or a document that has no text.

    >>> class Length:
    ...     model, score_unit = "length", "logit"
    ...     def score(self, query, passages):
    ...         return [float(len(passage)) for passage in passages]
    >>> run = {"q1": {"a": 9.1, "b": 8.7}}
    >>> rerank_run(Length(), run, queries={"q1": "why"}, passages={"a": "no", "b": "because"})
    {'q1': {'b': 7.0, 'a': 2.0}}
    """
    reranked: Run = {}
    for query_id, candidates in run.items():
        doc_ids = sorted(candidates, key=lambda doc_id: -candidates[doc_id])[:depth]
        missing = [doc_id for doc_id in doc_ids if doc_id not in passages]
        if query_id not in queries or missing:
            what = f"document {missing[0]!r}" if missing else f"query {query_id!r}"
            raise InvalidArgumentError(
                f"{what} of the run has no text; queries and passages must hold it"
            )
        ranking = rank(scorer, queries[query_id], [passages[doc_id] for doc_id in doc_ids])
        reranked[query_id] = {doc_ids[row.index]: row.score for row in ranking}
    return reranked


def rerank_to_file(
    scorer: Scorer,
    collection: Collection,
    path: str | Path,
    *,
    restart: bool = False,
    on_query: Callable[[QueryTime], None] | None = None,
) -> list[QueryTime]:
    """Rerank every judged query into the run file ``path`` and return the time of each.

    Each query is appended when it is done, and noted in ``path`` + ``.progress.jsonl``; the next
    call with the same settings goes on behind the last whole one, and other settings are a
    `DataFormatError`. ``restart`` discards what is there. ``on_query`` is called for each query,
    those done before included. One query is in memory at a time.
    """
    path = Path(path)
    progress = ProgressFile(path, _settings(scorer, collection))
    done = [] if restart else progress.done()
    if not done:
        progress.start(fresh=restart)
    if on_query:
        for time_of in done:
            on_query(time_of)
    finished = {time_of.query_id for time_of in done}
    waiting = [query_id for query_id in collection.query_ids if query_id not in finished]
    if not waiting:
        return done
    # The first call builds what later ones use (kernels, thread pools); it is not timed.
    first = collection.candidates(waiting[0])
    rank(scorer, collection.queries[waiting[0]], collection.passages(first))
    tag = _tag(scorer.model)
    with path.open("ab") as file:
        for query_id in waiting:
            candidates = collection.candidates(query_id)
            passages = collection.passages(candidates)
            start = time.perf_counter()
            ranking = rank(scorer, collection.queries[query_id], passages)
            seconds = time.perf_counter() - start
            doc_ids = [candidates.doc_ids[row.index] for row in ranking]
            scores = [row.score for row in ranking]
            lines = trec_lines(query_id, doc_ids, scores, tag)
            time_of = progress.append(file, lines, query_id, len(passages), seconds)
            done.append(time_of)
            if on_query:
                on_query(time_of)
    return done


_PROBE = (
    "how do vaccines work",
    [
        "A vaccine trains the immune system to recognise a pathogen before it is met.",
        "How the tides work: the Moon pulls on the water of the oceans.",
        "work",
    ],
)


def _tag(model: str) -> str:
    return "-".join(model.split()) or "model"


def _settings(scorer: Scorer, collection: Collection) -> dict[str, Any]:
    """Everything that scores depend on, by name, so that a change can be named too."""
    settings: dict[str, Any] = {"model": scorer.model, "score_unit": scorer.score_unit}
    for name in ("device", "dtype", "max_length"):
        if hasattr(scorer, name):
            settings[name] = getattr(scorer, name)
    # A model can change under its name; then these scores change.
    return settings | {
        "probe": scorer.score(*_PROBE),
        "depth": collection.depth,
        "run": collection.run.digest,
        "corpus": collection.corpus.digest,
        "queries": digest_of(dict(collection.queries)),
    }

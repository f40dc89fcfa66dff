"""A whole run reranked: in memory, or into a file that an interrupted process can continue."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rerank_plugins.errors import InvalidArgumentError
from rerank_plugins.evaluation.collection import Collection, digest_of
from rerank_plugins.evaluation.resume import QueryTime, UnfinishedRun
from rerank_plugins.evaluation.trec import Run, trec_lines
from rerank_plugins.fingerprint import fingerprint
from rerank_plugins.progress import Progress, Silent
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
    progress: Progress | None = None,
) -> list[QueryTime]:
    """Rerank every judged query into the run file ``path`` and return the time of each.

    Each query is appended when it is done, and noted in ``path`` + ``.progress.jsonl``; the next
    call with the same settings goes on behind the last whole one, and other settings are a
    `DataFormatError`. The file has its name when it is whole. ``restart`` begins anew.
    ``progress`` is told of each passage, and how many were scored by an earlier call.
    """
    path = Path(path)
    unfinished = UnfinishedRun(path, _settings(scorer, collection))
    done = [] if restart else unfinished.done()
    finished = {time_of.query_id for time_of in done}
    waiting = [query_id for query_id in collection.query_ids if query_id not in finished]
    if waiting or not done:
        unfinished.start(fresh=not done)
    advance = (progress or Silent()).step(
        scorer.model,
        sum(len(collection.candidates(query_id).doc_ids) for query_id in collection.query_ids),
        "passages",
        done=sum(time_of.n_pairs for time_of in done),
    )
    if waiting:
        # The first call builds what later ones use (kernels, thread pools); it is not timed.
        first = collection.candidates(waiting[0])
        rank(scorer, collection.queries[waiting[0]], collection.passages(first))
        tag = _tag(scorer.model)
        with unfinished.partial.open("ab") as file:
            for query_id in waiting:
                candidates = collection.candidates(query_id)
                passages = collection.passages(candidates)
                start = time.perf_counter()
                ranking = rank(scorer, collection.queries[query_id], passages)
                seconds = time.perf_counter() - start
                doc_ids = [candidates.doc_ids[row.index] for row in ranking]
                lines = trec_lines(query_id, doc_ids, [row.score for row in ranking], tag)
                time_of = unfinished.append(file, lines, query_id, len(passages), seconds)
                done.append(time_of)
                advance(len(passages))
    unfinished.finish()
    return done


def _tag(model: str) -> str:
    return "-".join(model.split()) or "model"


def _settings(scorer: Scorer, collection: Collection) -> dict[str, Any]:
    """Everything that scores depend on, by name, so that a change can be named too."""
    return fingerprint(scorer) | {
        "depth": collection.depth,
        "shard": str(collection.shard),
        "run": collection.run.digest,
        "corpus": collection.corpus.digest,
        "queries": digest_of(dict(collection.queries)),
    }

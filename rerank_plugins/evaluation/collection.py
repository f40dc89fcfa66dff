"""What an evaluation reads: queries, passages, judgements and a first-stage run, together."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerank_plugins.errors import DataFormatError, InvalidArgumentError, MissingExtraError
from rerank_plugins.evaluation.beir import Corpus, JsonlCorpus, read_queries
from rerank_plugins.evaluation.trec import Candidates, Qrels, TrecRun, read_qrels
from rerank_plugins.progress import Advance, Progress, Silent
from rerank_plugins.shards import WHOLE, Shard
from rerank_plugins.written_files import whole_file

__all__ = ["Collection", "DatasetCorpus", "read_collection", "read_dataset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """The inputs of an evaluation.

    ``depth`` candidates a query are reranked, the best of the run; a passage further down is in
    no figure, neither of the first stage nor of a model. Queries without judgements are left out,
    and judged queries without candidates count as 0, as TREC's tools do. With a ``shard`` only its
    share of the queries is reranked and measured.
    """

    queries: Mapping[str, str]
    corpus: Corpus
    qrels: Qrels
    run: TrecRun
    depth: int = 100
    shard: Shard = WHOLE

    def __post_init__(self) -> None:
        _check_depth(self.depth)

    @property
    def query_ids(self) -> list[str]:
        """The queries that are reranked: those of the run that have judgements, in the shard."""
        judged = [query_id for query_id in self.run.query_ids if query_id in self.qrels]
        return list(self.shard.part(judged))

    @property
    def judgements(self) -> Qrels:
        """The judgements that count: all of them, or those of the shard's queries."""
        if self.shard == WHOLE:
            return self.qrels
        return {query_id: self.qrels[query_id] for query_id in self.query_ids}

    def candidates(self, query_id: str) -> Candidates:
        """Return the candidates of one query, best first; none if the run does not have it."""
        return self.run.candidates(query_id, self.depth)

    def passages(self, candidates: Candidates) -> list[str]:
        """Return the passages of the candidates; raise `DataFormatError` where one is missing."""
        passages = self.corpus.passages(candidates.doc_ids)
        self._raise_missing(candidates, [passage is not None for passage in passages])
        return [passage for passage in passages if passage is not None]

    def check(self, advance: Advance | None = None) -> int:
        """Check every line that will be used, before a model runs; return the number of pairs.

        ``advance`` is called with 1 after each query. Raises `DataFormatError`, with file and line.
        """
        for query_id in self.run.query_ids:
            if query_id not in self.queries:
                raise DataFormatError(
                    f"{self.run.path}:{self.run.first_line(query_id)}: query {query_id!r} is not "
                    "among the queries; run and queries must be of the same data set"
                )
        if not any(query_id in self.qrels for query_id in self.run.query_ids):
            raise DataFormatError(
                f"{self.run.path}: none of its {len(self.run.query_ids)} queries has judgements; "
                "run and qrels must be of the same data set"
            )
        n_pairs = 0
        for query_id in self.query_ids:
            candidates = self.candidates(query_id)
            self._raise_missing(candidates, self.corpus.known(candidates.doc_ids))
            n_pairs += len(candidates.doc_ids)
            if advance:
                advance(1)
        return n_pairs

    def _raise_missing(self, candidates: Candidates, present: Sequence[bool]) -> None:
        for doc_id, line, there in zip(candidates.doc_ids, candidates.lines, present, strict=True):
            if not there:
                raise DataFormatError(
                    f"{self.run.path}:{line}: document {doc_id!r} is not in {self.corpus.name}; "
                    "run and corpus must be of the same data set"
                )


def read_collection(
    *,
    corpus: str | Path,
    queries: str | Path,
    qrels: str | Path,
    run: str | Path,
    depth: int = 100,
    progress: Progress | None = None,
) -> Collection:
    """Read corpus and queries in BEIR's JSON lines, qrels and run in TREC's form."""
    _check_depth(depth)
    progress = progress or Silent()
    texts = read_queries(queries)
    judgements = read_qrels(qrels, texts)
    return Collection(
        queries=texts,
        corpus=JsonlCorpus(corpus, progress.step("reading the corpus", _size(corpus))),
        qrels=judgements,
        run=TrecRun(run, progress.step("reading the run", _size(run))),
        depth=depth,
    )


def _check_depth(depth: int) -> None:
    if depth < 1:
        raise InvalidArgumentError(f"depth must be at least 1, got {depth}")


def _size(path: str | Path) -> int:
    # A file that is not there is reported by its reader.
    return Path(path).stat().st_size if Path(path).is_file() else 0


class DatasetCorpus:
    """The documents of an ``ir_datasets`` data set, each by its ``default_text()``."""

    def __init__(self, dataset_id: str, dataset: Any) -> None:
        self.name = f"ir_datasets {dataset_id}"
        self.digest = hashlib.blake2b(dataset_id.encode(), digest_size=16).hexdigest()
        self._store = dataset.docs_store()

    def known(self, doc_ids: Sequence[str]) -> list[bool]:
        # The store cannot say this without reading the texts, so it is seen when they are read.
        return [True] * len(doc_ids)

    def passages(self, doc_ids: Sequence[str]) -> list[str | None]:
        documents = self._store.get_many(doc_ids)
        return [
            documents[doc_id].default_text() if doc_id in documents else None for doc_id in doc_ids
        ]


def read_dataset(
    dataset_id: str, *, run: str | Path | None, scored_path: str | Path, depth: int = 100
) -> Collection:
    """Read a data set of ``ir_datasets``, with its own first-stage run where ``run`` is None.

    That run (its ``scoreddocs``) is written to ``scored_path`` in TREC's form first.
    """
    if importlib.util.find_spec("ir_datasets") is None:
        raise MissingExtraError(
            f"the data set {dataset_id!r} needs ir_datasets, not installed here: "
            "pip install 'rerank_plugins[datasets]'"
        )
    library = importlib.import_module("ir_datasets")
    try:
        dataset = library.load(dataset_id)
    except KeyError:
        raise InvalidArgumentError(
            f"ir_datasets has no data set {dataset_id!r}; list them: ir_datasets list"
        ) from None
    wanted = ["docs", "queries", "qrels"] + (["scoreddocs"] if run is None else [])
    missing = [part for part in wanted if not getattr(dataset, f"has_{part}")()]
    if missing:
        hint = "; give a first-stage run with --run" if missing == ["scoreddocs"] else ""
        raise InvalidArgumentError(
            f"the data set {dataset_id!r} has no {' and no '.join(missing)}{hint}"
        )
    qrels: Qrels = {}
    for qrel in dataset.qrels_iter():
        qrels.setdefault(qrel.query_id, {})[qrel.doc_id] = int(qrel.relevance)
    if run is None:
        run = scored_path
        _write_scored(dataset.scoreddocs_iter(), Path(scored_path))
    return Collection(
        queries={query.query_id: query.default_text() for query in dataset.queries_iter()},
        corpus=DatasetCorpus(dataset_id, dataset),
        qrels=qrels,
        run=TrecRun(run),
        depth=depth,
    )


def _write_scored(scored: Iterable[Any], path: Path) -> None:
    with whole_file(path) as file:
        for row in scored:
            # The rank column only breaks ties, and data sets do not say how.
            file.write(f"{row.query_id} Q0 {row.doc_id} 0 {row.score!r} scoreddocs\n".encode())


def digest_of(values: object) -> str:
    """Return a short name of some JSON data's content."""
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()

"""Training lists: a query, its candidates, and the teachers' target for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.candidates import ListShape, candidate_list
from training.passages import Passage
from training.queries import BARE, Query

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lists:
    """One row a list: ``query`` (n,), ``candidates`` and ``targets`` (n, size), ``own`` (n,).

    Column 0 is the query's own passage where ``own`` is 1; where it is 0 the query came without
    one, and column 0 is its nearest passage.
    """

    query: npt.NDArray[np.int64]
    candidates: npt.NDArray[np.int64]
    targets: npt.NDArray[np.float32]
    own: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.query)

    def __getitem__(self, rows: npt.NDArray[np.int64] | slice) -> Lists:
        return Lists(self.query[rows], self.candidates[rows], self.targets[rows], self.own[rows])

    def save(self, path: Path) -> None:
        np.savez(
            path,
            query=self.query,
            candidates=self.candidates,
            targets=self.targets,
            own=self.own,
        )

    @classmethod
    def load(cls, path: Path) -> Lists:
        with np.load(path) as arrays:
            return cls(*(arrays[name] for name in ("query", "candidates", "targets", "own")))


# Questions that people wrote are few and the best there are: they come with several lists each.
LISTS_PER_FORM = {"person": 5, BARE: 3, "pattern": 3, "heading": 2, "definition": 1.5}
# Own passages of the validation queries: never own passages in training.
HELD_OUT_ONE_IN = 100


def held_out(passage: int) -> bool:
    """Return whether queries made from this passage are for validation."""
    return passage % HELD_OUT_ONE_IN == 7


def lists_for(form: str, rng: np.random.Generator) -> int:
    """Return how many lists a query of this form gets; 1.5 is one or two."""
    mean = LISTS_PER_FORM.get(form, 1)
    return int(mean) + int(rng.random() < mean - int(mean))


def matched(queries: Sequence[Query], bm25: IntArray, dense: IntArray) -> list[Query]:
    """Return the queries, those without a passage with the nearest one that BM25 finds too.

    Where BM25 finds none of the nearest, the nearest is taken.
    """
    found = []
    for index, query in enumerate(queries):
        if query.form == BARE:
            shared = [passage for passage in dense[index] if passage in bm25[index]]
            query = replace(query, passage=int((shared or dense[index])[0]))
        found.append(query)
    return found


def training_candidates(
    queries: Sequence[Query],
    bm25: IntArray,
    dense: IntArray,
    *,
    n_passages: int,
    seed: int,
    shape: ListShape,
) -> tuple[IntArray, IntArray]:
    """Return the query (n_lists,) and the candidates (n_lists, shape.size) of every list."""
    rng = np.random.default_rng(seed)
    chosen, rows = [], []
    for index, query in enumerate(queries):
        if held_out(query.passage):
            continue
        for _ in range(lists_for(query.form, rng)):
            chosen.append(index)
            rows.append(
                candidate_list(
                    query.passage,
                    bm25[index],
                    dense[index],
                    shape=shape,
                    n_passages=n_passages,
                    rng=rng,
                )
            )
    return np.asarray(chosen, dtype=np.int64), np.stack(rows)


def by_share(
    query: IntArray,
    candidates: IntArray,
    queries: Sequence[Query],
    passages: Sequence[Passage],
    *,
    general: float,
    seed: int,
) -> tuple[IntArray, IntArray]:
    """Return the lists with ``general`` of them on passages of files, the others of packages.

    The kind of which there are too many is thinned out by chance; with one kind alone all stay.
    """
    from_file = np.array(
        [passages[queries[int(q)].passage].kind in ("answer", "text") for q in query]
    )
    n_general, n_technical = int(from_file.sum()), int((~from_file).sum())
    if not n_general or not n_technical:
        return query, candidates
    kept = {
        True: min(n_general, round(n_technical * general / (1 - general))),
        False: min(n_technical, round(n_general * (1 - general) / general)),
    }
    rng = np.random.default_rng(seed)
    rows = np.concatenate(
        [rng.permutation(np.flatnonzero(from_file == kind))[:n] for kind, n in kept.items()]
    )
    rows.sort()
    return query[rows], candidates[rows]


def validation_candidates(
    queries: Sequence[Query],
    bm25: IntArray,
    *,
    per_group: int,
    depth: int,
    chosen_from: Callable[[int], bool] = held_out,
) -> tuple[IntArray, IntArray]:
    """Return held-out queries (n,) and candidates (n, depth): the own passage and BM25's best.

    Half of the queries were written by people, if there are that many.
    """
    own = {"person": [], "made": []}  # type: dict[str, list[int]]
    for index, query in enumerate(queries):
        full = (bm25[index] >= 0).sum() >= depth
        if query.form != BARE and chosen_from(query.passage) and full:
            own["person" if query.form == "person" else "made"].append(index)
    chosen = own["person"][:per_group] + own["made"][:per_group]
    rows = [
        [queries[index].passage, *bm25[index][bm25[index] != queries[index].passage][: depth - 1]]
        for index in chosen
    ]
    return np.asarray(chosen, dtype=np.int64), np.asarray(rows, dtype=np.int64)

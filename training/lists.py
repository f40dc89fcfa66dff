"""Training lists: a query, its candidates, and the teachers' target for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.candidates import ListShape, candidate_list
from training.queries import Query

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lists:
    """One row a list: ``query`` (n,), ``candidates`` and ``targets`` (n, size).

    Column 0 is the query's own passage.
    """

    query: npt.NDArray[np.int64]
    candidates: npt.NDArray[np.int64]
    targets: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.query)

    def __getitem__(self, rows: npt.NDArray[np.int64] | slice) -> Lists:
        return Lists(self.query[rows], self.candidates[rows], self.targets[rows])

    def save(self, path: Path) -> None:
        np.savez(path, query=self.query, candidates=self.candidates, targets=self.targets)

    @classmethod
    def load(cls, path: Path) -> Lists:
        with np.load(path) as arrays:
            return cls(arrays["query"], arrays["candidates"], arrays["targets"])


# Questions that people wrote are few and the best there are: they come with several lists each.
LISTS_PER_FORM = {"person": 5, "pattern": 3, "heading": 2, "definition": 1.5}
# Own passages of the validation queries: never own passages in training.
HELD_OUT_ONE_IN = 100


def held_out(passage: int) -> bool:
    """Return whether queries made from this passage are for validation."""
    return passage % HELD_OUT_ONE_IN == 7


def lists_for(form: str, rng: np.random.Generator) -> int:
    """Return how many lists a query of this form gets; 1.5 is one or two."""
    mean = LISTS_PER_FORM.get(form, 1)
    return int(mean) + int(rng.random() < mean - int(mean))


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
        if chosen_from(query.passage) and full:
            own["person" if query.form == "person" else "made"].append(index)
    chosen = own["person"][:per_group] + own["made"][:per_group]
    rows = [
        [queries[index].passage, *bm25[index][bm25[index] != queries[index].passage][: depth - 1]]
        for index in chosen
    ]
    return np.asarray(chosen, dtype=np.int64), np.asarray(rows, dtype=np.int64)

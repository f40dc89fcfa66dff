"""One model's workloads: contestants measured in turn, their scores compared first."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rerank_plugins.progress import Advance
from rerank_plugins.workloads import BULK, ScoreCalls, Texts, Timing, Workload, measure

# How far a contestant's scores may be from the reference's before it is not timed. What it really
# was is in the results.
TOLERANCE = {"float32": 2e-5, "float16": 0.1, "bfloat16": 0.2, "int8": 0.6}

Tell = Callable[[str], None]


class Session:
    """The measurements of one model folder, with their raw results."""

    def __init__(
        self, model: str, folder: str, *, repeats: int, tell: Tell, smoke: bool = False
    ) -> None:
        self.model, self.folder, self.repeats, self.tell = model, folder, repeats, tell
        self._smoke = smoke
        self.timings: list[dict[str, Any]] = []
        self.differences: dict[str, float] = {}
        self.tokens_per_word, self.lengths = fitted_text(folder)

    def run(self, contestants: dict[str, ScoreCalls], workload: Workload) -> list[Timing]:
        gc.collect()
        workload = sized(workload, smoke=self._smoke)
        timings = measure(
            contestants,
            workload,
            repeats=self.repeats,
            seed=workload.n_pairs,
            tokens_per_word=self.tokens_per_word,
            progress=self,
            check=self._check,
        )
        for timing in timings:
            self.add(timing)
        return timings

    def step(self, what: str, total: int, unit: str = "", done: int = 0) -> Advance:
        def advance(n_units: int) -> None:
            nonlocal done
            done += n_units
            self.tell(f"{self.model}, {what}: {done} of {total}")

        return advance

    def add(self, timing: Timing) -> None:
        self.timings.append({"model": self.model, **timing.as_dict()})

    def _check(self, name: str, scores: list[list[float]], reference: list[list[float]]) -> None:
        if not scores:
            return  # the frameworks' rerankers return documents without scores
        worst = max(
            abs(score - other)
            for row, other_row in zip(scores, reference, strict=True)
            for score, other in zip(row, other_row, strict=True)
        )
        self.differences[name] = max(worst, self.differences.get(name, 0.0))
        if worst > TOLERANCE.get(name.rsplit(" ", 1)[-1], TOLERANCE["float32"]):
            raise SystemExit(f"{name} differs from the reference by {worst}: not timed")


def sized(workload: Workload, *, smoke: bool) -> Workload:
    """Return the workload, or a few pairs of it to see that everything runs."""
    if not smoke:
        return workload
    return replace(workload, n_queries=1, n_candidates=min(4, workload.n_candidates))


def fitted_text(folder: str) -> tuple[float, dict[str, float]]:
    """Return tokens per word of the text, and the token lengths that a bulk run then has."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    words = Texts(0).words(2_000)
    ratio = (len(tokenizer(words)["input_ids"]) - 2) / 2_000
    calls = Texts(1, tokens_per_word=ratio).calls(BULK)
    lengths = sorted(
        len(ids)
        for query, passages in calls
        for ids in tokenizer([query] * len(passages), passages)["input_ids"]
    )
    return ratio, {
        "mean": statistics.fmean(lengths),
        "min": lengths[0],
        "median": lengths[len(lengths) // 2],
        "p95": lengths[int(0.95 * len(lengths))],
        "max": lengths[-1],
    }


def best_batch_size(
    contestant: Callable[[int], ScoreCalls], sizes: tuple[int, ...], workload: Workload, tell: Tell
) -> tuple[int, dict[int, float]]:
    """Sweep over batch sizes, taking turns; return the fastest and docs/s of each."""
    tell(f"batch sizes {sizes}, {workload.n_pairs} pairs")
    contestants = {str(size): contestant(size) for size in sizes}
    timings = measure(contestants, workload, repeats=3, seed=11)
    found = {int(timing.contestant): timing.docs_per_s for timing in timings}
    return max(found, key=lambda size: found[size]), found

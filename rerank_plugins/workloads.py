"""Workloads for measuring speed, and the measuring itself; knows scorers only by their protocol."""

from __future__ import annotations

import random
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise

from rerank_plugins.progress import Progress, Silent

# Token lengths of query and passage together, as pairs of MS MARCO have them: quantile, tokens.
MS_MARCO_LENGTHS = ((0.0, 27), (0.5, 101), (0.95, 159), (1.0, 232))
LONG_LENGTHS = ((0.0, 300), (1.0, 900))
QUERY_WORDS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What one timed run scores: ``n_queries`` calls of ``n_candidates`` passages each.

    ``seen`` workloads ask new queries about passages that were scored before; all others have
    text that the scorer never met.
    """

    name: str
    n_queries: int
    n_candidates: int
    lengths: tuple[tuple[float, int], ...] = MS_MARCO_LENGTHS
    seen: bool = False
    bulk: bool = False  # all pairs in one call

    @property
    def n_pairs(self) -> int:
        return self.n_queries * self.n_candidates


BULK = Workload(name="bulk", n_queries=20, n_candidates=100, bulk=True)
BULK_SEEN = Workload(name="bulk-seen", n_queries=20, n_candidates=100, seen=True, bulk=True)
LONG = Workload(name="long", n_queries=4, n_candidates=50, lengths=LONG_LENGTHS, bulk=True)
CANDIDATES = tuple(
    Workload(name=f"candidates-{count}", n_queries=calls, n_candidates=count)
    for count, calls in ((1, 100), (10, 40), (100, 10), (1000, 1))
)

Call = tuple[str, list[str]]


class Texts:
    """English words from Python's own documentation, in lengths that follow a distribution.

    ``tokens_per_word`` fits the text to a tokenizer; the text itself is made up, word by word,
    so that no two passages share more than their vocabulary.
    """

    def __init__(self, seed: int, *, tokens_per_word: float = 1.2) -> None:
        self._random = random.Random(seed)
        self._tokens_per_word = tokens_per_word

    def calls(self, workload: Workload) -> list[Call]:
        """Return the queries with their passages."""
        return [
            (self.words(QUERY_WORDS), self.passages(workload)) for _ in range(workload.n_queries)
        ]

    def passages(self, workload: Workload) -> list[str]:
        special = 3 + QUERY_WORDS * self._tokens_per_word
        return [
            self.words(max(1, round((tokens - special) / self._tokens_per_word)))
            for tokens in self._lengths(workload)
        ]

    def words(self, count: int) -> str:
        return " ".join(self._random.choices(_dictionary(), k=count))

    def _lengths(self, workload: Workload) -> Iterator[float]:
        for _ in range(workload.n_candidates):
            yield quantile(workload.lengths, self._random.random())


@cache
def _dictionary() -> list[str]:
    from pydoc_data.topics import topics

    words = re.findall(r"[A-Za-z]{2,12}[.,]?", " ".join(topics.values()))
    return sorted(set(words))


def quantile(points: Sequence[tuple[float, int]], share: float) -> float:
    """Return the value at ``share``, linear between the points of a distribution.

    >>> quantile(MS_MARCO_LENGTHS, 0.5), quantile(MS_MARCO_LENGTHS, 0.975)
    (101.0, 195.5)
    """
    for (low, at_low), (high, at_high) in pairwise(points):
        if share <= high:
            return at_low + (at_high - at_low) * (share - low) / (high - low)
    return float(points[-1][1])


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one contestant on one workload, one value a repeat (``call_s``: one a call)."""

    contestant: str
    workload: str
    n_pairs: int
    seconds: list[float]
    call_s: list[float]

    @property
    def docs_per_s(self) -> float:
        """The median over the repeats."""
        return self.n_pairs / statistics.median(self.seconds)

    def percentile_ms(self, share: float) -> float:
        """Return the latency of a call below which ``share`` of all calls stayed."""
        ordered = sorted(self.call_s)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {
            "docs_per_s": self.docs_per_s,
            "p50_ms": self.percentile_ms(0.5),
            "p99_ms": self.percentile_ms(0.99),
        }


ScoreCalls = Callable[[Sequence[Call]], list[list[float]]]


def measure(
    contestants: dict[str, ScoreCalls],
    workload: Workload,
    *,
    repeats: int,
    seed: int,
    tokens_per_word: float = 1.2,
    progress: Progress | None = None,
    check: Callable[[str, list[list[float]], list[list[float]]], None] | None = None,
) -> list[Timing]:
    """Time every contestant on the same text, taking turns, with a warm-up that is not counted.

    Each repeat has text of its own. ``check(name, scores, first_contestants_scores)`` sees the
    scores of the warm-up. Bulk workloads are one call; others are timed call by call.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    call_s: dict[str, list[float]] = {name: [] for name in contestants}
    texts = Texts(seed, tokens_per_word=tokens_per_word)
    calls = texts.calls(workload)
    advance = (progress or Silent()).step(workload.name, repeats + 1, "repeats")
    for repeat in range(repeats + 1):
        if repeat and workload.seen:
            calls = [(texts.words(QUERY_WORDS), passages) for _, passages in calls]
        elif repeat:
            calls = texts.calls(workload)
        reference: list[list[float]] | None = None
        # The order alternates, so that neither side always runs on the warmer machine.
        order = list(contestants) if repeat % 2 == 0 else list(reversed(contestants))
        for name in order:
            took, scores = _timed(contestants[name], calls, bulk=workload.bulk)
            if repeat:
                seconds[name].append(sum(took))
                call_s[name] += took
            else:
                reference = reference or scores
                if check is not None:
                    check(name, scores, reference)
        advance(1)
    return [
        Timing(name, workload.name, workload.n_pairs, seconds[name], call_s[name])
        for name in contestants
    ]


def _timed(
    score: ScoreCalls, calls: Sequence[Call], *, bulk: bool
) -> tuple[list[float], list[list[float]]]:
    groups = [calls] if bulk else [[call] for call in calls]
    took, scores = [], []
    for group in groups:
        begin = time.perf_counter()
        scores += score(group)
        took.append(time.perf_counter() - begin)
    return took, scores

"""Texts in, scores out: the one object that owns a model."""

from __future__ import annotations

import functools
import time
import weakref
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from rerank_plugins.checks import check_passages, check_timeout, check_whole_number
from rerank_plugins.cross_encoder.calls import CallPairs
from rerank_plugins.cross_encoder.loading import LoadedModel, load_model
from rerank_plugins.cross_encoder.scheduling import forking
from rerank_plugins.cross_encoder.scheduling.failures import named_tokenising_errors
from rerank_plugins.cross_encoder.scheduling.job import Job, JobResult
from rerank_plugins.cross_encoder.scheduling.merge import RANGE_PAIRS, Planner
from rerank_plugins.cross_encoder.scheduling.scoring_queue import ScoringQueue
from rerank_plugins.cross_encoder.scheduling.stats import Stats
from rerank_plugins.cross_encoder.scheduling.waiting import take_turn, wait, wait_async
from rerank_plugins.cross_encoder.tracing import score_span
from rerank_plugins.errors import InvalidArgumentError
from rerank_plugins.options import ScorerOptions, takes_options
from rerank_plugins.ranking import Scores, ScoreUnit

if TYPE_CHECKING:
    from typing_extensions import Self


class Window(NamedTuple):
    """The part of a passage that its score comes from: ``passage[start:end]``, in characters."""

    score: float
    start: int
    end: int


class ScoreDetails(NamedTuple):
    """The scores of a call, and what it took.

    ``n_tokens`` is what the model read, ``truncated`` has the indices of passages that lost tokens,
    ``queue_s`` are the seconds before the first work on the call, ``work_s`` those after.
    """

    scores: list[float]
    n_tokens: int
    truncated: list[int]
    queue_s: float
    work_s: float


class CrossEncoderScorer:
    """A cross-encoder, loaded once, that any number of threads and event loops may call.

    ``model`` is a Hub id, a local folder, or ``"embedded"``, which needs no network.

    - ``device``: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, or a list of these for one copy
      each behind one queue; None takes CUDA where there is one, else MPS, else the CPU.
    - ``dtype``: ``"auto"`` is float32 on a CPU and float16 on CUDA.
    - ``max_length``: tokens a pair, special tokens included; None is what the model was made for.
    - ``max_batch_tokens``: tokens a forward pass; None suits the device.
    - ``long_documents``: ``"truncate"`` cuts pairs over ``max_length`` as transformers'
      ``longest_first`` does: the passage loses its end, and the query is kept whole up to half
      the room. ``"max"`` reads the passage in overlapping windows, and the best one counts.
    - ``score_unit``: ``"auto"`` is what the model's config declares; ``"logit"`` the number itself
      (of two labels, the log-odds); ``"probability"`` its sigmoid (of two labels, the softmax).
      `rank` orders by the logit in either unit.
    - ``query_prefix``, ``passage_prefix``: what goes before every query and passage that the model
      reads, such as ``"query: "``. A prompt that the model was saved with goes before both.
    - ``max_queued_pairs``: how many pairs may wait; a call that would pass this is refused whole,
      with `OverloadedError`. One larger than the bound runs when nothing waits. None: no bound.

    Scores are Python floats in ``score_unit``, equal to those of sentence-transformers.
    Raises `ModelLoadError`, `DeviceError` and `InvalidArgumentError`.

    >>> with CrossEncoderScorer("embedded", device="cpu") as scorer:
    ...     on_topic, off_topic = scorer.score(
    ...         "how do I sort a list?",
    ...         ["list.sort() sorts the list in place.", "The river Thames flows through London."],
    ...     )
    >>> on_topic > off_topic
    True
    """

    @takes_options(ScorerOptions)
    def __init__(self, options: ScorerOptions) -> None:
        self._loaded: LoadedModel = forking.in_own_thread(functools.partial(load_model, options))
        self._rule = self._loaded.rule.in_unit(options.score_unit)
        self.model = options.model
        self._given = options
        self.options = self.resolved(options)
        self.max_length = self._checked_length(options.max_length)
        self._windows = options.long_documents == "max"
        planner = Planner(
            self._loaded.encoder,
            max_batch_tokens=options.max_batch_tokens or self._loaded.max_batch_tokens,
            n_workers=sum(replica.n_workers for replica in self._loaded.replicas),
        )
        self._queue = ScoringQueue(
            self._loaded.replicas,
            planner,
            name=self.model,
            max_queued_pairs=options.max_queued_pairs,
            survives_fork=all(name == "cpu" for name in self._loaded.device_names),
        )
        # A scorer that nobody holds any more must not leave its threads behind.
        close = functools.partial(self._queue.close, join=False)
        self._finalizer = weakref.finalize(self, forking.run_elsewhere, close)
        self._finalizer.atexit = False  # at exit the queue closes itself, in order

    def resolved(self, options: ScorerOptions) -> ScorerOptions:
        """Return ``options`` with what this scorer's model and devices make of None and "auto"."""
        return replace(
            options,
            device=tuple(self._loaded.device_names),
            dtype=self._loaded.dtype,
            max_length=options.max_length or self._loaded.max_length,
            max_batch_tokens=options.max_batch_tokens or self._loaded.max_batch_tokens,
            score_unit=self._loaded.rule.in_unit(options.score_unit).unit,
        )

    @property
    def score_unit(self) -> ScoreUnit:
        """``"logit"`` or ``"probability"``: as asked for, else as the model declares."""
        return self._rule.unit

    @property
    def device(self) -> str:
        """The device, or devices, that the model is on."""
        return ", ".join(self._loaded.device_names)

    @property
    def dtype(self) -> str:
        """The dtype that ``"auto"`` became."""
        return self._loaded.dtype

    @property
    def closed(self) -> bool:
        return self._queue.closed

    @property
    def stats(self) -> Stats:
        """What this scorer has done so far."""
        return replace(self._queue.stats(), forward=self._loaded.way)

    def score(
        self,
        query: str,
        passages: Sequence[str],
        *,
        max_length: int | None = None,
        timeout_s: float | None = None,
    ) -> list[float]:
        """Return one float for each passage, in the order given; higher is more relevant.

        ``max_length`` overrides the scorer's for this call. When ``timeout_s`` passes first, the
        pairs are taken back and `DeadlineExceededError` is raised.

        Raises `InvalidArgumentError`, `OverloadedError` (see ``max_queued_pairs``),
        `OutOfMemoryError` for a pair that does not fit the device, `NonFiniteScoreError` and
        `ScoringError` for what the model fails at, and `ScorerClosedError`.
        """
        return self._scored(CallPairs.of_query(query, passages), max_length, timeout_s)

    async def ascore(
        self,
        query: str,
        passages: Sequence[str],
        *,
        max_length: int | None = None,
        timeout_s: float | None = None,
    ) -> list[float]:
        """Return what `score` returns and leave the event loop free; cancelling takes pairs out.

        Raises what `score` raises.
        """
        await take_turn()
        pairs = CallPairs.of_query(query, passages)
        with score_span(self.model, pairs.queries, pairs.passages) as span:
            job, indices, timeout_s = self._submitted(pairs, max_length, timeout_s)
            del pairs  # calls that wait hold few objects, which bring on garbage collections
            scores = self._scores(await wait_async(job, timeout_s), indices)
            span.scores(scores)
        return scores

    async def ascore_details(
        self, query: str, passages: Sequence[str], *, timeout_s: float | None = None
    ) -> ScoreDetails:
        """Return the scores of `ascore`, and what the call took. Identical passages count once."""
        pairs = CallPairs.of_query(query, passages)
        with score_span(self.model, pairs.queries, pairs.passages) as span:
            job, indices, timeout_s = self._submitted(pairs, None, timeout_s)
            del pairs
            result = await wait_async(job, timeout_s)
            scores = self._scores(result, indices)
            span.scores(scores)
        cut = result.truncated if indices is None else result.truncated[indices]
        work_s = time.perf_counter() - job.submitted - result.queue_s
        truncated = [int(index) for index in cut.nonzero()[0]]
        return ScoreDetails(scores, result.n_tokens, truncated, result.queue_s, work_s)

    def score_pairs(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        max_length: int | None = None,
        timeout_s: float | None = None,
    ) -> list[float]:
        """Return one float for each ``(query, passage)``, in the order given.

        Raises what `score` raises.
        """
        return self._scored(CallPairs.of(pairs), max_length, timeout_s)

    def truncated(self, query: str, passages: Sequence[str]) -> list[bool]:
        """Say for each passage whether its pair would lose tokens to ``max_length``.

        Raises `InvalidArgumentError`, `ScorerClosedError` and, for texts that cannot be tokenised,
        `ScoringError`.
        """
        pairs = self._prefixed(CallPairs.of_query(query, passages))
        self._queue.check_usable()
        flags: list[bool] = []
        with named_tokenising_errors(len(pairs.passages)):
            for start in range(0, len(pairs.passages), RANGE_PAIRS):  # not all tokens at a time
                end = start + RANGE_PAIRS
                flags += self._loaded.encoder.truncated(
                    pairs.queries[start:end],
                    pairs.passages[start:end],
                    max_length=self.max_length,
                    windows=self._windows,
                )
        return flags

    def beginnings(self, passages: Sequence[str], n_tokens: int) -> list[str]:
        """Return the first ``n_tokens`` tokens of each passage, as the text that they are made of.

        Raises `InvalidArgumentError` for less than one token.
        """
        n_tokens = check_whole_number("n_tokens", n_tokens, least=1)
        texts = check_passages(passages)
        self._queue.check_usable()
        with named_tokenising_errors(len(texts)):
            return self._loaded.encoder.beginnings(texts, n_tokens)

    def best_windows(self, query: str, passages: Sequence[str]) -> list[Window]:
        """Return for each passage its score and the characters that it comes from.

        That is the whole passage where it fits ``max_length``, else its best window; meant for
        ``long_documents="max"``, under ``"truncate"`` it is the beginning that was kept. Raises
        what `score` raises.
        """
        job, indices, _ = self._submitted(CallPairs.of_query(query, passages))
        result = wait(job, None)
        texts_and_starts = zip(job.queries, job.passages, result.window_starts, strict=True)
        with named_tokenising_errors(job.n_pairs):
            spans = [
                self._loaded.encoder.characters(
                    query, passage, int(start), max_length=self.max_length, windows=self._windows
                )
                for query, passage, start in texts_and_starts
            ]
        scores = self._scores(result, None)
        n_prefix = len(self.options.passage_prefix)
        windows = [
            Window(score, *(max(0, place - n_prefix) for place in span))
            for score, span in zip(scores, spans, strict=True)
        ]
        return windows if indices is None else [windows[index] for index in indices]

    def warmup(self) -> None:
        """Run batches of a few sizes, so that the first real call finds threads and kernels ready.

        Needs no call: without it, the first call after loading takes longer.
        """
        queries = ["a query to warm up with"]
        if "cuda" in self.device:
            # A CUDA graph is captured when a shape comes again.
            queries *= 2
        for n_pairs in (1, 16, 256):
            for query in queries:
                self.score(query, [f"{n} some words" * 20 for n in range(n_pairs)])

    def close(self) -> None:
        """Stop the threads and give the model's memory back. Waiting calls fail by name.

        A second call does nothing. Using the scorer afterwards raises `ScorerClosedError`.
        """
        self._queue.close()
        self._loaded.replicas.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        # As configuration, never as weights, and never with the secret; and through the registry,
        # so that many copies of one pickle in a process still share one model.
        return (_restored, (replace(self._given, token=None),))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # copies of what holds it share the one model

    def __copy__(self) -> Self:
        return self

    def __repr__(self) -> str:
        return (
            f"CrossEncoderScorer({self.model!r}, device={self.device!r}, dtype={self.dtype!r}, "
            f"forward={self._loaded.way!r})"
        )

    def _scored(
        self, pairs: CallPairs, max_length: int | None, timeout_s: float | None
    ) -> list[float]:
        with score_span(self.model, pairs.queries, pairs.passages) as span:
            job, indices, timeout_s = self._submitted(pairs, max_length, timeout_s)
            scores = self._scores(wait(job, timeout_s), indices)
            span.scores(scores)
        return scores

    def _submitted(
        self, pairs: CallPairs, max_length: int | None = None, timeout_s: float | None = None
    ) -> tuple[Job, list[int] | None, float | None]:
        """Return the job, each pair's index in it (None: its own), and the time limit, checked."""
        if timeout_s is not None:
            timeout_s = check_timeout(timeout_s)
        length = self.max_length if max_length is None else self._checked_length(max_length)
        job, indices = self._prefixed(pairs).job(max_length=length, windows=self._windows)
        self._queue.submit(job)
        return job, indices, timeout_s

    def _prefixed(self, pairs: CallPairs) -> CallPairs:
        """Return what the model reads of each pair, before its own prompt is added."""
        return pairs.prefixed(self.options.query_prefix, self.options.passage_prefix)

    def _scores(self, result: JobResult, indices: list[int] | None) -> list[float]:
        scores, logits = self._rule.scores(result.logits).tolist(), result.logits.tolist()
        if indices is not None:
            scores = [scores[index] for index in indices]
            logits = [logits[index] for index in indices]
        return scores if self.score_unit == "logit" else Scores(scores, logits)

    def _checked_length(self, max_length: int | None) -> int:
        limit = self._loaded.max_length
        if max_length is None:
            return limit
        max_length = check_whole_number("max_length", max_length, least=1)
        if max_length > limit:
            raise InvalidArgumentError(
                f"max_length={max_length} is more than the {limit} tokens that {self._loaded.name} "
                "has positions for; use long_documents='max' for longer passages"
            )
        self._loaded.encoder.check_max_length(max_length)
        return max_length


def _restored(options: ScorerOptions) -> CrossEncoderScorer:
    from rerank_plugins.registry import shared_scorer

    return shared_scorer(**options.changed())

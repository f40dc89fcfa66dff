"""Texts in, scores out: the one object that owns a model."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rerank_plugins.cards import DEFAULT_MODEL
from rerank_plugins.cross_encoder.jobs import Job, Outcome
from rerank_plugins.cross_encoder.model import Model, load_model
from rerank_plugins.cross_encoder.plan import Planner
from rerank_plugins.cross_encoder.queue import ScoringQueue
from rerank_plugins.cross_encoder.stats import Stats
from rerank_plugins.errors import DeadlineExceededError, InvalidArgumentError, InvalidTypeError
from rerank_plugins.ranking import ScoreUnit, check_passages, check_query

if TYPE_CHECKING:
    from typing_extensions import Self

LongDocuments = Literal["truncate", "max"]
WhenFull = Literal["wait", "raise"]


class Window(NamedTuple):
    """The part of a passage that its score comes from: ``passage[start:end]``, in characters."""

    score: float
    start: int
    end: int


class CrossEncoderScorer:
    """A cross-encoder, loaded once, that any number of threads and event loops may call.

    ``model`` is a Hub id, a local folder, or ``"embedded"``, which needs no network.

    - ``device``: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, or a list of these for one copy
      each behind one queue; None takes CUDA where there is one.
    - ``dtype``: ``"auto"`` is float32 on a CPU and float16 on CUDA.
    - ``max_length``: tokens a pair, special tokens included; None is what the model was made for.
    - ``max_batch_tokens``: tokens a forward pass; None suits the device.
    - ``long_documents``: ``"truncate"`` cuts pairs over ``max_length`` as transformers'
      ``longest_first`` does: the passage loses its end, and the query is kept whole up to half
      the room. ``"max"`` reads the passage in overlapping windows, and the best one counts.
    - ``max_queued_pairs``: how many pairs may wait; beyond that a call waits for its turn
      (``when_full="wait"``) or is refused with `OverloadedError` (``"raise"``). None: no bound.
    - ``score_cache_size``: how many scores to remember, by query, passage and max_length.

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

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        revision: str | None = None,
        device: str | Sequence[str] | None = None,
        dtype: str = "auto",
        max_length: int | None = None,
        max_batch_tokens: int | None = None,
        long_documents: LongDocuments = "truncate",
        local_files_only: bool = False,
        token: str | None = None,
        cache_folder: str | None = None,
        trust_remote_code: bool = False,
        max_queued_pairs: int | None = None,
        when_full: WhenFull = "wait",
        score_cache_size: int = 0,
    ) -> None:
        model = os.fspath(model)
        _check_choice("long_documents", long_documents, ("truncate", "max"))
        _check_choice("when_full", when_full, ("wait", "raise"))
        _check_count("max_length", max_length, least=1)
        _check_count("max_batch_tokens", max_batch_tokens, least=1)
        _check_count("max_queued_pairs", max_queued_pairs, least=1)
        _check_count("score_cache_size", score_cache_size, least=0)
        self._configuration: dict[str, Any] = {
            "model": model,
            "revision": revision,
            "device": device,
            "dtype": dtype,
            "max_length": max_length,
            "max_batch_tokens": max_batch_tokens,
            "long_documents": long_documents,
            "local_files_only": local_files_only,
            "token": token,
            "cache_folder": cache_folder,
            "trust_remote_code": trust_remote_code,
            "max_queued_pairs": max_queued_pairs,
            "when_full": when_full,
            "score_cache_size": score_cache_size,
        }
        self._loaded: Model = load_model(
            model,
            revision=revision,
            device=device,
            dtype=dtype,
            local_files_only=local_files_only,
            token=token,
            cache_folder=cache_folder,
            trust_remote_code=trust_remote_code,
        )
        self.model = model
        self.max_length = self._checked_length(max_length)
        self._windows = long_documents == "max"
        planner = Planner(
            self._loaded.encoder,
            max_batch_tokens=max_batch_tokens or self._loaded.max_batch_tokens,
            n_workers=sum(replica.n_workers for replica in self._loaded.replicas),
        )
        self._queue = ScoringQueue(
            self._loaded.replicas,
            planner,
            name=model,
            max_queued_pairs=max_queued_pairs,
            when_full=when_full,
        )
        # A scorer that nobody holds any more must not leave its threads behind.
        self._finalizer = weakref.finalize(self, self._queue.close, join=False)
        self._finalizer.atexit = False  # at exit the queue closes itself, in order

    @property
    def score_unit(self) -> ScoreUnit:
        """``"logit"`` or ``"probability"``, as the model's own config declares."""
        return self._loaded.rule.unit

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
        return self._queue.stats()

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
        """
        job, places = self._job([query], passages, max_length)
        return self._scores(self._wait(job, timeout_s), places)

    async def ascore(
        self,
        query: str,
        passages: Sequence[str],
        *,
        max_length: int | None = None,
        timeout_s: float | None = None,
    ) -> list[float]:
        """Return what `score` returns. The event loop stays free; a cancelled task costs nothing."""
        job, places = self._job([query], passages, max_length)
        self._queue.submit(job)
        try:
            outcome = await asyncio.wait_for(asyncio.wrap_future(job.future), timeout_s)
        except asyncio.TimeoutError as error:
            raise _too_late(job, timeout_s) from error
        return self._scores(outcome, places)

    def score_pairs(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        max_length: int | None = None,
        timeout_s: float | None = None,
    ) -> list[float]:
        """Return one float for each ``(query, passage)``, in the order given."""
        queries, passages = _unzipped(pairs)
        job, places = self._job(queries, passages, max_length)
        return self._scores(self._wait(job, timeout_s), places)

    def truncated(self, query: str, passages: Sequence[str]) -> list[bool]:
        """Say for each passage whether its pair would lose tokens to ``max_length``."""
        check_query(query)
        windows = self._windows
        return self._loaded.encoder.truncated(
            query, check_passages(passages), max_length=self.max_length, windows=windows
        )

    def best_windows(self, query: str, passages: Sequence[str]) -> list[Window]:
        """Return for each passage its score and the characters that it comes from.

        That is the whole passage where it fits ``max_length``, else its best window; meant for
        ``long_documents="max"``, under ``"truncate"`` it is the beginning that was kept.
        """
        job, places = self._job([query], passages, None)
        outcome = self._wait(job, None)
        scores = self._scores(outcome, None)
        spans = [
            self._loaded.encoder.characters(
                query, passage, int(start), max_length=self.max_length, windows=self._windows
            )
            for passage, start in zip(job.passages, outcome.window_starts, strict=True)
        ]
        windows = [Window(score, *span) for score, span in zip(scores, spans, strict=True)]
        return windows if places is None else [windows[place] for place in places]

    def warmup(self) -> None:
        """Run batches of a few sizes, so that the first real call finds threads and kernels ready.

        Needs no call: without it, the first call after loading takes longer.
        """
        for n_pairs in (1, 16, 256):
            self.score("a query to warm up with", [f"{n} some words" * 20 for n in range(n_pairs)])

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
        # As configuration, never as weights; and through the registry, so that many copies of
        # one pickle in a process still share one model.
        return (_restored, (self._configuration,))

    def __repr__(self) -> str:
        return f"CrossEncoderScorer({self.model!r}, device={self.device!r}, dtype={self.dtype!r})"

    def _job(
        self, queries: Sequence[str], passages: Sequence[str], max_length: int | None
    ) -> tuple[Job, list[int] | None]:
        """Return the job of the distinct pairs, and each pair's place in it (None: as given)."""
        texts = check_passages(passages)
        for query in queries:
            check_query(query)
        length = self.max_length if max_length is None else self._checked_length(max_length)
        one_query = len(queries) == 1
        distinct = dict.fromkeys(texts if one_query else zip(queries, texts, strict=True))
        places: list[int] | None = None
        if len(distinct) < len(texts):
            at = {pair: place for place, pair in enumerate(distinct)}
            pairs = texts if one_query else list(zip(queries, texts, strict=True))
            places = [at[pair] for pair in pairs]  # type: ignore[index]
            if one_query:
                texts = list(distinct)  # type: ignore[arg-type]
            else:
                queries, texts = _unzipped(list(distinct))  # type: ignore[arg-type]
        if one_query:
            queries = list(queries) * len(texts)
        return Job(queries, texts, max_length=length, windows=self._windows), places

    def _wait(self, job: Job, timeout_s: float | None) -> Outcome:
        self._queue.submit(job)
        try:
            return job.future.result(timeout_s)
        except concurrent.futures.TimeoutError as error:
            if job.done:
                raise  # the job's own failure was a timeout
            raise _too_late(job, timeout_s) from error
        finally:
            job.future.cancel()  # does nothing to a finished one

    def _scores(self, outcome: Outcome, places: list[int] | None) -> list[float]:
        scores = self._loaded.rule.scores(outcome.decisions).tolist()
        return scores if places is None else [scores[place] for place in places]

    def _checked_length(self, max_length: int | None) -> int:
        limit = self._loaded.max_length
        if max_length is None:
            return limit
        _check_count("max_length", max_length, least=1)
        if max_length > limit:
            raise InvalidArgumentError(
                f"max_length={max_length} is more than the {limit} tokens that {self._loaded.name} "
                "has positions for; use long_documents='max' for longer passages"
            )
        self._loaded.encoder.check_max_length(max_length)
        return max_length


def _restored(configuration: dict[str, Any]) -> CrossEncoderScorer:
    from rerank_plugins.registry import shared_scorer

    return shared_scorer(**configuration)


def _too_late(job: Job, timeout_s: float | None) -> DeadlineExceededError:
    return DeadlineExceededError(
        f"{job.n_pairs} pairs were not scored within timeout_s={timeout_s}; they were taken back. "
        "Allow more time, or send fewer passages"
    )


def _unzipped(pairs: object) -> tuple[list[str], list[str]]:
    if isinstance(pairs, (str, bytes)) or not isinstance(pairs, Sequence):
        raise InvalidTypeError(f"pairs must be a list of (query, passage), got {pairs!r:.60}")
    for index, pair in enumerate(pairs):
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise InvalidTypeError(f"pairs[{index}] must be (query, passage), got {pair!r:.60}")
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InvalidArgumentError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def _check_count(name: str, value: object, *, least: int) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidTypeError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise InvalidArgumentError(f"{name} must be at least {least}, got {value}")

"""A span for each call, where the process traces with OpenTelemetry.

The attributes are those of OpenInference's RERANKER spans, which the frameworks' tracers also
write. Documents are kept light: the first ``MAX_DOCUMENTS`` of them, cut short, because a span
holds 128 attributes by default. ``OPENINFERENCE_HIDE_INPUTS`` and ``OPENINFERENCE_HIDE_OUTPUTS``
(``true``) leave out the texts, and whatever is said of the ranking.

Two attributes of the convention are missing. ``reranker.top_k`` is the ``top_n`` of whoever
ranks: a scorer returns a score for every passage, and never learns how many are kept. And the
``document.score`` of an input document would be its first-stage score, which a scorer is not
told either.

Nothing is imported here: a process that traces has imported OpenTelemetry itself, and one that
does not pays for one look into a dict.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

MAX_DOCUMENTS = 20
MAX_CHARACTERS = 500


class Recorder:
    """Takes the scores of a call; this one, without a trace, does nothing with them."""

    def scores(self, scores: Sequence[float]) -> None:
        """Note the scores, in the order of the passages."""


class _SpanRecorder(Recorder):
    def __init__(self, span: Any, passages: Sequence[str]) -> None:
        self._span = span
        self._passages = passages

    def scores(self, scores: Sequence[float]) -> None:
        if _hidden("OPENINFERENCE_HIDE_OUTPUTS"):
            return
        best_first = sorted(range(len(scores)), key=lambda index: -scores[index])
        for rank, index in enumerate(best_first[:MAX_DOCUMENTS]):
            document = f"reranker.output_documents.{rank}.document"
            self._span.set_attribute(f"{document}.id", str(index))
            if not _hidden("OPENINFERENCE_HIDE_INPUTS"):
                text = self._passages[index][:MAX_CHARACTERS]
                self._span.set_attribute(f"{document}.content", text)
            self._span.set_attribute(f"{document}.score", scores[index])


_NO_RECORDER = Recorder()
_NO_SPAN = nullcontext(_NO_RECORDER)


def score_span(
    model: str, queries: Sequence[str], passages: Sequence[str]
) -> AbstractContextManager[Recorder]:
    """Return the block of a call, which yields what takes its scores.

    An error inside ends the span as failed.
    """
    trace = sys.modules.get("opentelemetry.trace")
    return _NO_SPAN if trace is None else _traced(trace, model, queries, passages)


@contextmanager
def _traced(
    trace: Any, model: str, queries: Sequence[str], passages: Sequence[str]
) -> Iterator[Recorder]:
    tracer = trace.get_tracer("rerank_plugins")
    with tracer.start_as_current_span("CrossEncoderScorer.score") as span:
        if not span.is_recording():
            yield _NO_RECORDER
            return
        for name, value in _attributes(model, queries, passages).items():
            span.set_attribute(name, value)
        yield _SpanRecorder(span, passages)


def _attributes(
    model: str, queries: Sequence[str], passages: Sequence[str]
) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "openinference.span.kind": "RERANKER",
        "reranker.model_name": model,
        "rerank_plugins.n_pairs": len(passages),
    }
    if _hidden("OPENINFERENCE_HIDE_INPUTS"):
        return attributes
    if len(set(queries)) == 1:
        attributes["reranker.query"] = queries[0][:MAX_CHARACTERS]
    for index, passage in enumerate(passages[:MAX_DOCUMENTS]):
        document = f"reranker.input_documents.{index}.document"
        attributes[f"{document}.id"] = str(index)
        attributes[f"{document}.content"] = passage[:MAX_CHARACTERS]
    return attributes


def _hidden(name: str) -> bool:
    return os.environ.get(name, "").lower() == "true"

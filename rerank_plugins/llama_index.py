"""The shared cross-encoder as LlamaIndex's node postprocessor.

>>> from llama_index.core.schema import NodeWithScore, TextNode
>>> class Words:  # any object with these members is a scorer; without scorer=, the shared model is
...     model, score_unit = "shared words", "logit"
...     def score(self, query, passages):
...         return [float(len({*query.split()} & {*passage.split()})) for passage in passages]
...     async def ascore(self, query, passages):
...         return self.score(query, passages)
>>> texts = ["a cat sleeps", "how do planes fly"]
>>> nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in texts]
>>> rerank = CrossEncoderRerank(scorer=Words(), top_n=1)
>>> [found] = rerank.postprocess_nodes(nodes, query_str="how do birds fly")
>>> found.text, found.score
('how do planes fly', 3.0)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError, require_extra

require_extra(
    "llama_index", "llama_index.core", extra="llama-index", purpose="the LlamaIndex adapter"
)

from llama_index.core.callbacks import CBEventType, EventPayload  # noqa: E402
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # noqa: E402
from llama_index.core.instrumentation.events.exception import ExceptionEvent  # noqa: E402
from llama_index.core.instrumentation.events.rerank import (  # noqa: E402
    ReRankEndEvent,
    ReRankStartEvent,
)
from llama_index.core.postprocessor.types import BaseNodePostprocessor  # noqa: E402
from llama_index.core.schema import (  # noqa: E402
    BaseNode,
    MetadataMode,
    NodeWithScore,
    ObjectType,
    QueryBundle,
)

from rerank_plugins.adapters.reranking import (  # noqa: E402
    RERANK_ERROR,
    RETRIEVAL_SCORE,
    TRUNCATED,
    Kept,
    Reranked,
    RerankSettings,
)

__all__ = ["CrossEncoderRerank"]

dispatcher = get_dispatcher(__name__)

# Ours to write and to hide: neither the LLM's prompt nor an embedding (nor a second reranker,
# which scores the text that is embedded) is to read them.
_MARKS = (RETRIEVAL_SCORE, TRUNCATED, RERANK_ERROR)


@dataclass
class _Run:
    """What the events at the end of a call report."""

    nodes: list[NodeWithScore] = field(default_factory=list)
    error: BaseException | None = None


class CrossEncoderRerank(RerankSettings, BaseNodePostprocessor):
    """Keep the ``top_n`` nodes that answer the query best, best first.

    What is scored is the text that would be embedded (`MetadataMode.EMBED`). What comes back are
    new `NodeWithScore` with the score as a float in the scorer's ``score_unit``; the nodes given
    are not changed. ``top_n=None`` keeps all; ``score_threshold`` keeps those that score at least
    that. A node without a text (an image without a caption) cannot be scored: it comes behind the
    ranked ones, its score None, whatever the threshold.

    ``scorer`` is any scorer object. Without it, ``model`` and the options of `ScorerOptions`
    (``device``, ``dtype``, ``score_unit``, ``query_prefix``, ...) name the process-wide scorer,
    loaded at the first call; or, with ``base_url``, ``api_key`` (else ``RERANK_API_KEY``) and
    ``api``, a model behind a rerank API (see `RemoteScorer`). ``timeout_s`` bounds the scoring of
    each call, loading left out. The keywords of SentenceTransformerRerank,
    ``cross_encoder_kwargs`` among them, mean the same here.

    Three keys go into the metadata of a *copy* of the node, where neither the LLM nor the
    embedding sees them: ``retrieval_score``, the score that the node came with, for
    ``keep_retrieval_score`` (if it came with one); ``truncated``, whether the model saw only a
    part, for ``mark_truncated``; and ``rerank_error``. ``first_stage_weight`` adds the scores that
    the nodes came with to the ranking (see `rerank_plugins.interpolate`); where none came with one,
    the nodes' order counts, by reciprocal ranks.

    When the scorer fails, ``on_error="first_stage"`` returns the first ``top_n`` nodes as they
    came, with the scores they came with and without applying the threshold, each with the error in
    ``metadata["rerank_error"]``; events and callbacks report it. A wrong argument, a missing
    package, and a cancellation are raised all the same.

    Dumps, copies and pickles carry the configuration; none carries weights, and only a copy
    carries ``token`` and ``api_key`` (elsewhere set HF_TOKEN and RERANK_API_KEY) and the callback
    manager.
    """

    top_n: int | None = 2

    nested_names: ClassVar[tuple[str, ...]] = ("cross_encoder_kwargs",)
    shared_fields: ClassVar[tuple[str, ...]] = ("scorer", "callback_manager")
    candidates_name: ClassVar[str] = "nodes"
    retrieval_score_hint: ClassVar[str] = "give its NodeWithScore one, or leave the weight out"

    def __init__(self, **settings: Any) -> None:
        # LlamaIndex writes the name of the class into every dump.
        super().__init__(**{k: v for k, v in settings.items() if k != "class_name"})

    @classmethod
    def class_name(cls) -> str:
        return "CrossEncoderRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query, texts, scores = self._passages(nodes, query_bundle)
        given = _Given(nodes, texts, scores)
        request = self._request(query, given.passages, given.scores, given.indices)
        with self._observed(nodes, query_bundle) as run:
            reranked = self._reranked(request, given.scores)
            run.error, run.nodes = reranked.error, self._nodes(given, reranked)
        return run.nodes

    @dispatcher.span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query, texts, scores = self._passages(nodes, query_bundle)
        given = _Given(nodes, texts, scores)
        request = self._request(query, given.passages, given.scores, given.indices)
        with self._observed(nodes, query_bundle) as run:
            reranked = await self._areranked(request, given.scores)
            run.error, run.nodes = reranked.error, self._nodes(given, reranked)
        return run.nodes

    @contextmanager
    def _observed(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None
    ) -> Iterator[_Run]:
        """Report the start, and on every way out the end, of reranking ``nodes``."""
        run = _Run()
        payload: dict[str, Any] = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: self.model_shown,
            EventPayload.QUERY_STR: query_bundle and query_bundle.query_str,
            EventPayload.TOP_K: self.top_n,
        }
        # A trace of its own where there is none, as LlamaIndex's retrievers do: without a trace
        # the callback manager remembers the id of every event for ever.
        with (
            self.callback_manager.as_trace("rerank"),
            self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event,
        ):
            start = ReRankStartEvent(
                query=query_bundle,
                nodes=nodes,
                top_n=len(nodes) if self.top_n is None else self.top_n,
                model_name=self.model_shown,
            )
            dispatcher.event(start)
            try:
                yield run
            except BaseException as error:
                run.error = error
                raise
            finally:
                end: dict[str, Any] = {EventPayload.NODES: run.nodes}
                if run.error is not None:
                    end[EventPayload.EXCEPTION] = run.error
                    dispatcher.event(ExceptionEvent(exception=run.error))
                dispatcher.event(ReRankEndEvent(nodes=run.nodes))
                event.on_end(payload=end)

    def _passages(
        self, nodes: object, query_bundle: QueryBundle | None
    ) -> tuple[str, list[str | None], list[float | None]]:
        if query_bundle is None:
            raise InvalidArgumentError(
                "reranking needs the query, got none; give query_str=... or query_bundle=..."
            )
        if isinstance(nodes, str) or not isinstance(nodes, Sequence):
            raise InvalidTypeError(
                f"nodes must be a list of NodeWithScore, got {type(nodes).__name__}; "
                "put a single node into a list: [node]"
            )
        passages: list[str | None] = []
        scores: list[float | None] = []
        for index, node in enumerate(nodes):
            if not isinstance(node, NodeWithScore):
                raise InvalidTypeError(
                    f"nodes[{index}] must be a NodeWithScore, got {type(node).__name__}; "
                    "drop it, or wrap it: NodeWithScore(node=node)"
                )
            passages.append(_text(node.node))
            scores.append(None if node.score is None else float(node.score))
        return query_bundle.query_str, passages, scores

    def _nodes(self, given: _Given, reranked: Reranked) -> list[NodeWithScore]:
        """Return copies of what is kept: the ranked nodes, then those without a text."""
        if reranked.error is not None:  # the first stage's order has a place for every node
            first_stage = self._first_stage(reranked.error, given.all_scores)
            return [_node(given.nodes[kept.index], kept) for kept in first_stage.kept]
        ranked = [_node(given.nodes[given.indices[kept.index]], kept) for kept in reranked.kept]
        textless = [
            _node(given.nodes[index], Kept(index, None, self._kept_score(given.all_scores[index])))
            for index in given.textless
        ]
        for node in textless:
            node.score = None
        return [*ranked, *textless][: self.top_n]


class _Given:
    """The nodes of a call, and of those that have a text the passages, scores and indices."""

    def __init__(
        self,
        nodes: Sequence[NodeWithScore],
        texts: Sequence[str | None],
        scores: Sequence[float | None],
    ) -> None:
        self.nodes, self.all_scores = nodes, scores
        self.textless = [index for index, text in enumerate(texts) if text is None]
        self.indices = [index for index, text in enumerate(texts) if text is not None]
        self.passages = [text for text in texts if text is not None]
        self.scores = [scores[index] for index in self.indices]


def _text(node: BaseNode) -> str | None:
    # A blank text is text, and is scored; an image without a caption has none to score, and the
    # metadata that LlamaIndex would give instead (a file's name) is not its content.
    may_lack_text = node.get_type() in (ObjectType.IMAGE, ObjectType.MULTIMODAL)
    if may_lack_text and not node.get_content(metadata_mode=MetadataMode.NONE).strip():
        return None
    return node.get_content(metadata_mode=MetadataMode.EMBED)


def _node(given: NodeWithScore, kept: Kept) -> NodeWithScore:
    node, score = given.node, given.score if kept.score is None else kept.score
    # Of an earlier stage; a failure of this one writes its own.
    stale = RERANK_ERROR in node.metadata and RERANK_ERROR not in kept.extra_metadata
    metadata = {
        key: value for key, value in node.metadata.items() if not (stale and key == RERANK_ERROR)
    }
    # A copy to the bottom: the next postprocessor may write into what it is given.
    node = node.model_copy(
        update={
            "metadata": {**deepcopy(metadata), **kept.extra_metadata},
            "relationships": dict(node.relationships),
            "excluded_embed_metadata_keys": _with_extra(node.excluded_embed_metadata_keys, kept),
            "excluded_llm_metadata_keys": _with_extra(node.excluded_llm_metadata_keys, kept),
        }
    )
    return given.model_copy(update={"node": node, "score": score})


def _with_extra(keys: Sequence[str], kept: Kept) -> list[str]:
    return [*keys, *(key for key in _MARKS if key in kept.extra_metadata and key not in keys)]

"""The shared cross-encoder as LangChain's document compressor, retriever and cross-encoder.

>>> from langchain_core.documents import Document
>>> class Words:  # any object with these members is a scorer; without scorer=, the shared model is
...     model, score_unit = "shared words", "logit"
...     def score(self, query, passages):
...         return [float(len({*query.split()} & {*passage.split()})) for passage in passages]
...     async def ascore(self, query, passages):
...         return self.score(query, passages)
>>> documents = [Document("a cat sleeps"), Document("how do planes fly", id="2")]
>>> rerank = CrossEncoderRerank(scorer=Words(), top_n=1)
>>> rerank.compress_documents(documents, "how do birds fly")
[Document(id='2', metadata={'relevance_score': 3.0}, page_content='how do planes fly')]

In a chain, `CrossEncoderRerank.over` puts it behind a retriever:

>>> from langchain_core.runnables import RunnableLambda
>>> retriever = RunnableLambda(lambda query: documents)
>>> chain = rerank.over(retriever) | (lambda found: found[0].page_content)
>>> chain.invoke("how do birds fly")
'how do planes fly'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from numbers import Real
from typing import Any, ClassVar, overload

from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError, require_extra

require_extra("langchain_core", extra="langchain", purpose="the LangChain adapter")

from langchain_core.callbacks import (  # noqa: E402
    AsyncCallbackManager,
    AsyncCallbackManagerForRetrieverRun,
    CallbackManager,
    CallbackManagerForRetrieverRun,
    Callbacks,
)
from langchain_core.documents import BaseDocumentCompressor, Document  # noqa: E402
from langchain_core.load.serializable import (  # noqa: E402
    Serializable,
    SerializedConstructor,
    SerializedNotImplemented,
)
from langchain_core.retrievers import BaseRetriever, RetrieverLike  # noqa: E402
from langchain_core.runnables import (  # noqa: E402
    Runnable,
    RunnableConfig,
    RunnableLambda,
    ensure_config,
)

from rerank_plugins.adapters.langchain_cross_encoder import (  # noqa: E402
    SharedCrossEncoder,
    without_cross_encoder,
)
from rerank_plugins.adapters.reranking import RERANK_ERROR, Reranked, RerankSettings  # noqa: E402

__all__ = ["CrossEncoderRerank", "RerankRetriever", "SharedCrossEncoder"]

RELEVANCE_SCORE = "relevance_score"


class CrossEncoderRerank(RerankSettings, BaseDocumentCompressor, Serializable):
    """Keep the ``top_n`` documents that answer the query best, best first.

    Each document that comes back is a copy: same text, ``id`` and metadata, and the score as
    ``metadata["relevance_score"]``, in the scorer's ``score_unit``. The documents given are not
    changed. ``top_n=None`` keeps all; ``score_threshold`` keeps those that score at least that.

    ``scorer`` is any scorer object. Without it, ``model`` and the options of `ScorerOptions`
    (``device``, ``dtype``, ``score_unit``, ``query_prefix``, ...) name the process-wide scorer,
    loaded at the first call; or, with ``base_url``, ``api_key`` (else ``RERANK_API_KEY``) and
    ``api``, a model behind a rerank API (see `RemoteScorer`). ``timeout_s`` bounds the scoring of
    each call, loading left out. ``model`` may also be a LangChain `BaseCrossEncoder`;
    ``model_name`` and ``model_kwargs`` are HuggingFaceCrossEncoder's.

    The first stage's score is read from ``metadata[retrieval_score_key]`` where it is wanted:
    ``keep_retrieval_score`` returns it as ``metadata["retrieval_score"]`` (of documents that have
    one), and ``first_stage_weight`` adds it to the ranking (see `rerank_plugins.interpolate`);
    where no document has one, the documents' order counts, by reciprocal ranks.
    ``mark_truncated`` says in ``metadata["truncated"]`` whether the model saw only a part.

    When the scorer fails, ``on_error="first_stage"`` returns the first ``top_n`` documents as
    they came, without new scores and without applying the threshold, each with the error in
    ``metadata["rerank_error"]``; the callbacks' run ends with that error. A wrong argument, a
    missing package, and a cancellation are raised all the same.

    Dumps, copies and pickles carry the configuration; none carries weights, and only a copy
    carries ``token`` and ``api_key`` (elsewhere set HF_TOKEN and RERANK_API_KEY, which
    `langchain_core.load` takes as secrets).
    """

    model_config = RerankSettings.model_config  # Serializable's would ignore unknown keywords

    top_n: int | None = 3
    retrieval_score_key: str = "score"

    other_names: ClassVar[Mapping[str, str]] = {"model_name": "model"}
    nested_names: ClassVar[tuple[str, ...]] = ("model_kwargs",)
    candidates_name: ClassVar[str] = "documents"
    retrieval_score_hint: ClassVar[str] = "retrieval_score_key names the metadata key that holds it"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**without_cross_encoder(settings))

    @classmethod
    def is_lc_serializable(cls) -> bool:
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        return ["rerank_plugins", "langchain"]

    @property
    def lc_secrets(self) -> dict[str, str]:
        return {"api_key": "RERANK_API_KEY", "token": "HF_TOKEN"}

    def to_json(self) -> SerializedConstructor | SerializedNotImplemented:
        """Return LangChain's form, which an adapter around a scorer object has not."""
        return super().to_json() if self.scorer is None else self.to_json_not_implemented()

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        passages, retrieval_scores = self._passages(documents)
        request = self._request(query, passages, retrieval_scores)
        manager = CallbackManager.configure(_or_inherited(callbacks), **self._traced(passages))
        run = manager.on_retriever_start({"name": self._name}, query, name=self._name)
        try:
            reranked = self._reranked(request, retrieval_scores)
            kept = _documents(documents, reranked)
        except BaseException as error:
            run.on_retriever_error(error)
            raise
        if reranked.error is None:
            run.on_retriever_end(kept)
        else:
            run.on_retriever_error(reranked.error)
        return kept

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        passages, retrieval_scores = self._passages(documents)
        request = self._request(query, passages, retrieval_scores)
        manager = AsyncCallbackManager.configure(_or_inherited(callbacks), **self._traced(passages))
        run = await manager.on_retriever_start({"name": self._name}, query, name=self._name)
        try:
            reranked = await self._areranked(request, retrieval_scores)
            kept = _documents(documents, reranked)
        except BaseException as error:
            await run.on_retriever_error(error)
            raise
        if reranked.error is None:
            await run.on_retriever_end(kept)
        else:
            await run.on_retriever_error(reranked.error)
        return kept

    def over(self, retriever: RetrieverLike) -> RerankRetriever:
        """Return a retriever that reranks what ``retriever`` finds."""
        return RerankRetriever(first_stage=retriever, rerank=self)

    @overload
    def as_runnable(
        self, *, query_key: str = ..., documents_key: str = ..., output_key: None = None
    ) -> Runnable[dict[str, Any], list[Document]]: ...

    @overload
    def as_runnable(
        self, *, query_key: str = ..., documents_key: str = ..., output_key: str
    ) -> Runnable[Any, dict[str, list[Document]]]: ...  # LangGraph's states are of many types

    def as_runnable(
        self,
        *,
        query_key: str = "query",
        documents_key: str = "documents",
        output_key: str | None = None,
    ) -> Runnable[Any, Any]:
        """Return a runnable from ``{"query": str, "documents": list[Document]}`` to documents.

        With ``output_key`` it returns ``{output_key: documents}``: a node of LangGraph, which takes
        the state and returns what of it changes.
        """

        def result(kept: list[Document]) -> Any:
            return kept if output_key is None else {output_key: kept}

        def arguments(inputs: Mapping[str, Any]) -> tuple[Any, Any]:
            for key in (query_key, documents_key):
                if not isinstance(inputs, Mapping) or key not in inputs:
                    shown = sorted(inputs) if isinstance(inputs, Mapping) else repr(inputs)
                    raise InvalidArgumentError(
                        f"the input of {self._name} lacks {key!r}, it is {shown}; "
                        "as_runnable(query_key=..., documents_key=...) names its keys"
                    )
            return inputs[documents_key], inputs[query_key]

        def compress(inputs: dict[str, Any], config: RunnableConfig) -> Any:
            return result(self.compress_documents(*arguments(inputs), config.get("callbacks")))

        async def acompress(inputs: dict[str, Any], config: RunnableConfig) -> Any:
            kept = await self.acompress_documents(*arguments(inputs), config.get("callbacks"))
            return result(kept)

        return RunnableLambda(compress, acompress, name=self._name)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _traced(self, passages: Sequence[str]) -> dict[str, Any]:
        shown = {"model": self.model_shown, "top_n": self.top_n, "n_documents": len(passages)}
        return {"local_metadata": {**shown, "ls_retriever_name": self._name.lower()}}

    def _passages(self, documents: object) -> tuple[list[str], list[float | None]]:
        if isinstance(documents, str) or not isinstance(documents, Sequence):
            raise InvalidTypeError(
                f"documents must be a list of Document, got {type(documents).__name__}; "
                "put a single document into a list: [document]"
            )
        for index, document in enumerate(documents):
            if not isinstance(document, Document):
                raise InvalidTypeError(
                    f"documents[{index}] must be a Document, got {type(document).__name__}; "
                    "drop it, or wrap its text: Document(page_content=text)"
                )
        scores: list[float | None] = [None] * len(documents)
        if self.keep_retrieval_score or self.first_stage_weight is not None:
            scores = [
                _number(
                    document.metadata.get(self.retrieval_score_key), index, self.retrieval_score_key
                )
                for index, document in enumerate(documents)
            ]
        return [document.page_content for document in documents], scores


class RerankRetriever(BaseRetriever):
    """A retriever that reranks what its first stage finds.

    ``invoke(query, top_n=5)`` keeps another number of documents in that call; other keywords go
    to the first stage.
    """

    first_stage: RetrieverLike
    rerank: CrossEncoderRerank

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        rerank = self._rerank(kwargs)
        found = self.first_stage.invoke(query, {"callbacks": run_manager.get_child()}, **kwargs)
        return rerank.compress_documents(found, query, run_manager.get_child())

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        rerank = self._rerank(kwargs)
        config: RunnableConfig = {"callbacks": run_manager.get_child()}
        found = await self.first_stage.ainvoke(query, config, **kwargs)
        return await rerank.acompress_documents(found, query, run_manager.get_child())

    def _rerank(self, kwargs: dict[str, Any]) -> CrossEncoderRerank:
        """Take ``top_n`` out of ``kwargs``."""
        if "top_n" not in kwargs:
            return self.rerank
        return self.rerank.model_copy(update={"top_n": kwargs.pop("top_n")})


def _or_inherited(callbacks: Callbacks | None) -> Callbacks | None:
    """Return ``callbacks``, or those of the runnable that we are called from."""
    return ensure_config().get("callbacks") if callbacks is None else callbacks


def _documents(documents: Sequence[Document], reranked: Reranked) -> list[Document]:
    copies = []
    for kept in reranked.kept:
        document = documents[kept.index]
        metadata = {**deepcopy(document.metadata), **kept.extra_metadata}
        if kept.score is not None:
            metadata[RELEVANCE_SCORE] = kept.score
            metadata.pop(RERANK_ERROR, None)  # of an earlier stage: this order is not that one
        copies.append(document.model_copy(update={"metadata": metadata}))
    return copies


def _number(value: object, index: int, key: str) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
        raise InvalidTypeError(
            f"documents[{index}].metadata[{key!r}] must be a number, got {value!r}; "
            "retrieval_score_key names the key of the first stage's score"
        )
    return None if value is None else float(value)

"""A LangChain vector store on FAISS: exact search by cosine, in memory, saved without pickle.

::

    store = FaissVectorStore.from_texts(texts, embedding)
    retriever = store.as_retriever(search_kwargs={"k": 50, "score_key": "score"})
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rerank_plugins.checks import check_number, check_query, check_text, check_whole_number
from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError, require_extra

require_extra("langchain_core", "faiss", extra="langchain,faiss", purpose="rerank_plugins.faiss")

import faiss  # noqa: E402
from langchain_core.documents import Document  # noqa: E402
from langchain_core.embeddings import Embeddings  # noqa: E402
from langchain_core.runnables import run_in_executor  # noqa: E402
from langchain_core.vectorstores import VectorStore  # noqa: E402

from rerank_plugins.faiss_documents import checked_documents, checked_ids, copied  # noqa: E402
from rerank_plugins.faiss_filter import Filter, compiled  # noqa: E402
from rerank_plugins.faiss_folder import read_folder, write_folder  # noqa: E402
from rerank_plugins.faiss_vectors import Vectors, most_diverse, unit_vectors  # noqa: E402

__all__ = ["FaissVectorStore"]

Scored = list[tuple[Document, float]]
T = TypeVar("T")

# LangChain passes these to any store. A search with a filter is exact, so it fetches no more than
# it returns; texts are embedded at once, as the embedding divides them itself.
_NOT_NEEDED = frozenset({"batch_size", "fetch_k"})
# With fewer numbers a call takes less time than its way to a thread and back.
_SMALL = 1_000_000


class FaissVectorStore(VectorStore):
    """Documents, and a FAISS index of their vectors brought to length 1.

    A score is the cosine of query and document, from -1 to 1, higher is more similar; a relevance
    score (`similarity_search_with_relevance_scores`, ``score_threshold``) is ``(1 + cosine) / 2``,
    from 0 to 1. Search is exact. The dimension is that of the vectors in it. An id that is added
    again replaces its document. Threads may add, delete and search at the same time, and a call
    that raises leaves the store as it was.

    Every search takes ``filter`` (see `rerank_plugins.faiss_filter.compiled`) and ``score_key``,
    the metadata key to put the cosine under, where a second stage finds it. A copy, by ``copy``
    or pickle, has documents and vectors of its own; copies in one process share the embedding.

    Arguments that cannot be used raise `InvalidArgumentError`.
    """

    def __init__(self, embedding: Embeddings) -> None:
        self._embedding = embedding
        # FAISS knows its vectors by number, LangChain its documents by id. `_rows` alone says what
        # is in the store: it changes in one step, and vectors that it does not name are removed
        # before the next use of the index.
        self._index: Any = None
        self._rows: dict[str, tuple[int, Document]] = {}
        self._ids: dict[int, str] = {}
        self._next_number = 0
        self._lock = threading.Lock()
        self._saving = threading.Lock()

    @property
    def embeddings(self) -> Embeddings:
        return self._embedding

    def __len__(self) -> int:
        return len(self._rows)

    # --- made from texts, vectors or another store

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> FaissVectorStore:
        store = cls(embedding)
        store.add_texts(texts, metadatas, ids=ids, **kwargs)
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> FaissVectorStore:
        store = cls(embedding)
        await store.aadd_texts(texts, metadatas, ids=ids, **kwargs)
        return store

    @classmethod
    def from_embeddings(
        cls,
        text_embeddings: Iterable[tuple[str, Sequence[float]]],
        embedding: Embeddings,
        metadatas: Iterable[dict[str, Any] | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> FaissVectorStore:
        """Return a store of texts with their vectors; ``embedding`` is asked for queries only."""
        store = cls(embedding)
        store.add_embeddings(text_embeddings, metadatas, ids=ids, **kwargs)
        return store

    @classmethod
    async def afrom_embeddings(
        cls,
        text_embeddings: Iterable[tuple[str, Sequence[float]]],
        embedding: Embeddings,
        metadatas: Iterable[dict[str, Any] | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> FaissVectorStore:
        """Do what `from_embeddings` does."""
        return await run_in_executor(
            None, cls.from_embeddings, text_embeddings, embedding, metadatas, ids=ids, **kwargs
        )

    # --- changed

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[dict[str, Any] | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Embed and add texts, and return their ids; None as an id makes a new one."""
        _no_options(kwargs)
        documents = checked_documents(texts, metadatas, ids)  # before the embedding, which costs
        if not documents:
            return []
        return self._put(documents, self._embedding.embed_documents(_texts(documents)))

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[dict[str, Any] | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        _no_options(kwargs)
        documents = checked_documents(texts, metadatas, ids)
        if not documents:
            return []
        vectors = await self._embedding.aembed_documents(_texts(documents))
        return await self._aside(self._put, documents, vectors)

    def add_embeddings(
        self,
        text_embeddings: Iterable[tuple[str, Sequence[float]]],
        metadatas: Iterable[dict[str, Any] | None] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add texts with vectors that are there already, and return the ids."""
        _no_options(kwargs)
        try:
            pairs = [(text, vector) for text, vector in text_embeddings]
        except (TypeError, ValueError) as error:
            raise InvalidTypeError(
                f"text_embeddings must hold pairs of a text and its vector ({error})"
            ) from error
        documents = checked_documents([text for text, _ in pairs], metadatas, ids)
        return self._put(documents, [vector for _, vector in pairs]) if pairs else []

    def merge_from(self, target: FaissVectorStore) -> None:
        """Add the documents of ``target`` with their vectors; of an id in both, its document stays.

        ``target`` stays as it is.
        """
        if not isinstance(target, FaissVectorStore):
            raise InvalidTypeError(f"expected a FaissVectorStore to merge from, got {target!r:.60}")
        with target._lock:
            target._tidy()
            rows = list(target._rows.values())
            vectors = [target._index.reconstruct(number) for number, _ in rows]
        if rows:
            self._put([document for _, document in rows], vectors)

    def delete(self, ids: Iterable[str] | None = None, **kwargs: Any) -> bool:
        """Delete the documents with these ids; ids that are not there are passed over."""
        _no_options(kwargs)
        if ids is None:
            raise InvalidArgumentError("ids is None; give the list of ids to delete")
        gone = set(checked_ids(ids))
        with self._lock:
            if not gone.isdisjoint(self._rows):
                self._rows = {name: row for name, row in self._rows.items() if name not in gone}
        return True

    async def adelete(self, ids: Iterable[str] | None = None, **kwargs: Any) -> bool:
        return await self._aside(self.delete, ids, **kwargs)

    def _put(self, documents: list[Document], embeddings: Sequence[Sequence[float]]) -> list[str]:
        vectors = unit_vectors(embeddings)
        if len(vectors) != len(documents):
            raise InvalidArgumentError(
                f"the embedding returned {len(vectors)} vectors for {len(documents)} texts"
            )
        names = [str(document.id) for document in documents]
        with self._lock:
            self._check_dimension(vectors)
            self._tidy()
            index = self._index or faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
            first, last = self._next_number, self._next_number + len(names)
            self._next_number = last  # whatever happens now, a number is used once
            index.add_with_ids(vectors, np.arange(first, last, dtype=np.int64))
            self._index = index
            self._ids.update(zip(range(first, last), names, strict=True))
            rows = zip(range(first, last), documents, strict=True)
            self._rows.update(zip(names, rows, strict=True))
        return names

    def _tidy(self) -> None:
        """Remove the vectors of documents that were deleted or replaced. The lock is held."""
        if not self._rows:
            self._index, self._ids = None, {}
        elif self._index.ntotal > len(self._rows):
            live = {number for number, _ in self._rows.values()}
            stored = faiss.vector_to_array(self._index.id_map).tolist()
            gone = [number for number in stored if number not in live]
            self._index.remove_ids(np.array(gone, dtype=np.int64))
            self._ids = {number: name for name, (number, _) in self._rows.items()}

    # --- asked

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents with these ids, in this order, without those that are not there."""
        names = checked_ids(ids)
        rows = self._rows
        found = [rows.get(name) for name in names]
        return [copied(row[1]) for row in found if row is not None]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return self.get_by_ids(ids)

    def get_vectors_by_ids(self, ids: Sequence[str], /) -> Vectors:
        """Return the vectors of these documents, (n_ids, dimension), float32, each of length 1.

        Raises `InvalidArgumentError` for an id that is not in the store.
        """
        names = checked_ids(ids)
        with self._lock:
            self._tidy()
            for name in names:
                if name not in self._rows:
                    raise InvalidArgumentError(f"no document has the id {name!r:.60}")
            vectors = [self._index.reconstruct(self._rows[name][0]) for name in names]
            dimension = self._index.d if self._index is not None else 0
        return np.array(vectors, dtype=np.float32).reshape(len(names), dimension)

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """Return the ``k`` nearest documents, best first."""
        return _documents(self.similarity_search_with_score(query, k, **kwargs))

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        return _documents(await self.asimilarity_search_with_score(query, k, **kwargs))

    def similarity_search_by_vector(
        self, embedding: Sequence[float], k: int = 4, **kwargs: Any
    ) -> list[Document]:
        return _documents(self.similarity_search_with_score_by_vector(embedding, k, **kwargs))

    async def asimilarity_search_by_vector(
        self, embedding: Sequence[float], k: int = 4, **kwargs: Any
    ) -> list[Document]:
        return await self._aside(self.similarity_search_by_vector, embedding, k, **kwargs)

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> Scored:
        """Return the ``k`` nearest documents, best first, each with its cosine."""
        query = _check_search(query, k, kwargs)
        vector = self._embedding.embed_query(query)
        return self.similarity_search_with_score_by_vector(vector, k, **kwargs)

    async def asimilarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> Scored:
        query = _check_search(query, k, kwargs)
        vector = await self._embedding.aembed_query(query)
        return await self._aside(self.similarity_search_with_score_by_vector, vector, k, **kwargs)

    def similarity_search_with_score_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        *,
        filter: Filter | None = None,
        score_key: str | None = None,
        **kwargs: Any,
    ) -> Scored:
        """Return what `similarity_search_with_score` returns, for a vector."""
        found = self._search(embedding, k, filter, kwargs)[0]
        return [(_scored(document, score, score_key), score) for document, score in found]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Return ``k`` of the ``fetch_k`` nearest documents, each unlike those before it.

        ``lambda_mult`` from 0 to 1 weighs nearness to the query against unlikeness.
        """
        query = _check_search(query, k, kwargs)
        vector = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(
            vector, k, fetch_k, lambda_mult, **kwargs
        )

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        query = _check_search(query, k, kwargs)
        vector = await self._embedding.aembed_query(query)
        search = self.max_marginal_relevance_search_by_vector
        return await self._aside(search, vector, k, fetch_k, lambda_mult, **kwargs)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[Document]:
        search = self.max_marginal_relevance_search_with_score_by_vector
        return _documents(search(embedding, k, fetch_k, lambda_mult, **kwargs))

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[Document]:
        search = self.max_marginal_relevance_search_by_vector
        return await self._aside(search, embedding, k, fetch_k, lambda_mult, **kwargs)

    def max_marginal_relevance_search_with_score_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter | None = None,
        score_key: str | None = None,
        **kwargs: Any,
    ) -> Scored:
        """Return what `max_marginal_relevance_search_by_vector` returns, each with its cosine."""
        k = check_whole_number("k", k, least=1)
        fetch_k = check_whole_number("fetch_k", fetch_k, least=1)
        lambda_mult = check_number("lambda_mult", lambda_mult)
        if not 0.0 <= lambda_mult <= 1.0:
            raise InvalidArgumentError(f"lambda_mult must be from 0 to 1, got {lambda_mult}")
        found, vectors = self._search(embedding, max(k, fetch_k), filter, kwargs)
        cosines = np.array([score for _, score in found], dtype=np.float32)
        chosen = [found[index] for index in most_diverse(cosines, vectors, lambda_mult, k)]
        return [(_scored(document, score, score_key), score) for document, score in chosen]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        # Rounding may bring the cosine of a vector with itself to 1.0000001.
        return lambda cosine: min(max((1.0 + cosine) / 2.0, 0.0), 1.0)

    def _search(
        self, embedding: Sequence[float], k: int, filter: Filter | None, options: dict[str, Any]
    ) -> tuple[Scored, Vectors]:
        """Return the nearest documents, the store's own, and their vectors, (n, dimension)."""
        _no_options(options)
        k = check_whole_number("k", k, least=1)
        wanted = compiled(filter)
        query = unit_vectors([embedding])
        allowed = None
        if wanted is not None:  # without the lock: it may take long, or use the store
            with self._lock:
                rows = list(self._rows.values())
            allowed = np.array([number for number, row in rows if wanted(row)], dtype=np.int64)
        with self._lock:
            self._tidy()
            if not self._rows or (allowed is not None and not len(allowed)):
                return [], np.empty((0, query.shape[1]), dtype=np.float32)
            self._check_dimension(query)
            parameters = None
            if allowed is not None:
                parameters = faiss.SearchParameters()
                selector = faiss.IDSelectorBatch(allowed)
                parameters.sel = selector  # a bare pointer: the variable keeps it alive
            scores, numbers = self._index.search(query, min(k, len(self._rows)), params=parameters)
            found = [
                (number, score)
                for number, score in zip(numbers[0].tolist(), scores[0].tolist(), strict=True)
                if number >= 0
            ]
            vectors = [self._index.reconstruct(number) for number, _ in found]
            documents = [(self._rows[self._ids[number]][1], score) for number, score in found]
        return documents, np.array(vectors, dtype=np.float32).reshape(-1, query.shape[1])

    def _check_dimension(self, vectors: Vectors) -> None:
        if self._rows and vectors.shape[1] != self._index.d:
            raise InvalidArgumentError(
                f"the embedding has {vectors.shape[1]} dimensions, but this store holds vectors of "
                f"{self._index.d}; use the embedding it was made with, or make a new store"
            )

    async def _aside(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return ``work(...)``, from a thread where it may hold the event loop up."""
        index = self._index
        if kwargs.get("filter") is None and (index is None or index.ntotal * index.d < _SMALL):
            return work(*args, **kwargs)
        return await run_in_executor(None, work, *args, **kwargs)

    # --- saved and copied

    def save_local(self, folder_path: str | os.PathLike[str]) -> None:
        """Write the store into a folder, as JSON and a FAISS index, whole or not at all.

        Several processes may save into one folder and load from it: of two stores the one saved
        last stays. Raises `InvalidArgumentError` for a document that JSON does not hold and where
        the folder cannot be written.
        """
        with self._saving:  # an older state never overwrites a newer one
            content, rows = self._state()
            write_folder(Path(folder_path), content, rows.values())

    @classmethod
    def load_local(
        cls, folder_path: str | os.PathLike[str], embeddings: Embeddings, **kwargs: Any
    ) -> FaissVectorStore:
        """Return the store that `save_local` wrote; ``embeddings`` must be the same model.

        Raises `DataFormatError` where the folder holds anything else.
        """
        _no_options(kwargs)
        store = cls(embeddings)
        store._index, documents = read_folder(Path(folder_path))
        store._restore({str(row.id): (number, row) for number, row in documents.items()})
        return store

    def _state(self) -> tuple[bytes, dict[str, tuple[int, Document]]]:
        with self._lock:
            self._tidy()
            index = self._index
            return b"" if index is None else faiss.serialize_index(index).tobytes(), dict(
                self._rows
            )

    def _restore(self, rows: dict[str, tuple[int, Document]]) -> None:
        self._rows = rows
        self._ids = {number: name for name, (number, _) in rows.items()}
        self._next_number = max(self._ids, default=-1) + 1

    def __getstate__(self) -> dict[str, Any]:
        content, rows = self._state()
        own = {name: value for name, value in vars(self).items() if name not in _MADE_ANEW}
        return {**own, "content": content, "rows": rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        content, rows = state.pop("content"), state.pop("rows")
        vars(self).update(state)
        self._lock, self._saving = threading.Lock(), threading.Lock()
        self._index = None
        if content:
            self._index = faiss.deserialize_index(np.frombuffer(content, dtype=np.uint8))
        self._restore(rows)

    def __deepcopy__(self, memo: dict[int, Any]) -> FaissVectorStore:
        # Documents never leave the store, so that a copy may share them, and an embedding is a
        # model or a client, of which there should be one.
        return copy.copy(self)


_MADE_ANEW = frozenset({"_index", "_rows", "_ids", "_next_number", "_lock", "_saving"})


def _texts(documents: list[Document]) -> list[str]:
    return [document.page_content for document in documents]


def _documents(found: Scored) -> list[Document]:
    return [document for document, _ in found]


def _scored(document: Document, score: float, key: str | None) -> Document:
    document = copied(document)
    if key is not None:
        document.metadata[check_text("score_key", key)] = score
    return document


def _check_search(query: str, k: int, options: dict[str, Any]) -> str:
    """Return the query; refuse before the embedding is asked, which costs."""
    k = check_whole_number("k", k, least=1)
    compiled(options.get("filter"))
    _no_options({key: 0 for key in options if key not in ("filter", "score_key")})
    return check_query(query)


def _no_options(options: dict[str, Any]) -> None:
    for name in options:
        if name not in _NOT_NEEDED:
            raise InvalidTypeError(
                f"unknown option {name!r} for FaissVectorStore; see its docstring"
            )

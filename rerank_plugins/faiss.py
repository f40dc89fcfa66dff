"""A LangChain vector store on FAISS: exact search by cosine, in memory, saved without pickle.

::

    store = FaissVectorStore.from_texts(texts, embedding)
    retriever = store.as_retriever(search_kwargs={"k": 50, "score_key": "score"})
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError, require_extra

require_extra("langchain_core", "faiss", extra="langchain,faiss", purpose="rerank_plugins.faiss")

import faiss  # noqa: E402
from langchain_core.documents import Document  # noqa: E402
from langchain_core.embeddings import Embeddings  # noqa: E402
from langchain_core.vectorstores import VectorStore  # noqa: E402
from langchain_core.vectorstores.utils import maximal_marginal_relevance  # noqa: E402

from rerank_plugins.faiss_folder import read_folder, write_folder  # noqa: E402

__all__ = ["FaissVectorStore"]

Vectors = NDArray[np.float32]
Filter = Callable[[Document], bool]


class FaissVectorStore(VectorStore):
    """Documents, and a FAISS index of their vectors brought to length 1.

    A score is the cosine of query and document, from -1 to 1, higher is more similar; a relevance
    score (`similarity_search_with_relevance_scores`, ``score_threshold``) is ``(1 + cosine) / 2``,
    from 0 to 1. Search is exact. The dimension is that of the first vector added. An id that is
    added again replaces its document. Threads may add, delete and search at the same time.
    """

    def __init__(self, embedding: Embeddings) -> None:
        self._embedding = embedding
        self._index: Any = None
        # FAISS knows its vectors by number, LangChain its documents by string.
        self._numbers: dict[str, int] = {}
        self._documents: dict[int, Document] = {}
        self._next_number = 0
        self._lock = threading.RLock()

    @property
    def embeddings(self) -> Embeddings:
        return self._embedding

    def __len__(self) -> int:
        return len(self._documents)

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
        _no_options(kwargs)
        store = cls(embedding)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        _no_options(kwargs)
        texts = list(texts)
        _check_counts(texts, metadatas, ids)  # before the embedding, which may cost money
        vectors = self._embedding.embed_documents(texts) if texts else []
        return self.add_embeddings(zip(texts, vectors, strict=True), metadatas, ids=ids)

    def add_embeddings(
        self,
        text_embeddings: Iterable[tuple[str, Sequence[float]]],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
    ) -> list[str]:
        """Add texts with vectors that are there already, and return the ids."""
        pairs = list(text_embeddings)
        texts = [text for text, _ in pairs]
        _check_counts(texts, metadatas, ids)
        if not pairs:
            return []
        vectors = _unit_vectors([vector for _, vector in pairs])
        names = [name or str(uuid.uuid4()) for name in ids or [None] * len(pairs)]
        rows = dict(zip(names, range(len(names)), strict=True))  # of an id given twice, the last
        with self._lock:
            self._check_dimension(vectors)
            self._index = self._index or faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
            self.delete(list(rows))
            numbers = np.arange(self._next_number, self._next_number + len(rows), dtype=np.int64)
            self._next_number += len(rows)
            self._index.add_with_ids(vectors[list(rows.values())], numbers)
            for (name, row), number in zip(rows.items(), numbers.tolist(), strict=True):
                metadata = dict(metadatas[row]) if metadatas else {}
                document = Document(id=name, page_content=texts[row], metadata=metadata)
                self._numbers[name] = number
                self._documents[number] = document
        return names

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete the documents with these ids; ids that are not there are passed over."""
        _no_options(kwargs)
        if ids is None:
            raise InvalidArgumentError("ids is None; give the list of ids to delete")
        with self._lock:
            found = [self._numbers.pop(name) for name in ids if name in self._numbers]
            for number in found:
                del self._documents[number]
            if found:
                self._index.remove_ids(np.array(found, dtype=np.int64))
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents with these ids, in this order, without those that are not there."""
        with self._lock:
            found = [self._numbers[name] for name in ids if name in self._numbers]
            return [_copy(self._documents[number]) for number in found]

    def similarity_search(
        self, query: str, k: int = 4, *, score_key: str | None = None, **kwargs: Any
    ) -> list[Document]:
        """Return the ``k`` nearest documents, best first.

        ``score_key`` names a metadata key to put the cosine under, where a second stage finds it.
        """
        found = self.similarity_search_with_score(query, k, **kwargs)
        if score_key is not None:
            for document, score in found:  # copies, so the store stays as it is
                document.metadata[score_key] = score
        return [document for document, _ in found]

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: Any
    ) -> list[Document]:
        found = self.similarity_search_with_score_by_vector(embedding, k, **kwargs)
        return [document for document, _ in found]

    def similarity_search_with_score(
        self, query: str, k: int = 4, *, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Return the ``k`` nearest documents, best first, each with its cosine."""
        _no_options(kwargs)
        vector = self._embedding.embed_query(query)
        return self.similarity_search_with_score_by_vector(vector, k, filter=filter)

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, *, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Return what `similarity_search_with_score` returns, for a vector that is there already.

        ``filter(document)`` says which documents may be found.
        """
        _no_options(kwargs)
        with self._lock:
            found = self._search(embedding, k, filter)
            return [(_copy(self._documents[number]), score) for number, score in found]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        vector = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(
            vector, k, fetch_k, lambda_mult, **kwargs
        )

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        _no_options(kwargs)
        with self._lock:
            numbers = [number for number, _ in self._search(embedding, fetch_k, filter)]
            vectors = [self._index.reconstruct(number) for number in numbers]
            query = _unit_vectors([embedding])[0]
            chosen = maximal_marginal_relevance(query, vectors, lambda_mult, k)
            return [_copy(self._documents[numbers[place]]) for place in chosen]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        # Rounding may bring the cosine of a vector with itself to 1.0000001.
        return lambda cosine: min(max((1.0 + cosine) / 2.0, 0.0), 1.0)

    def _search(
        self, embedding: Sequence[float], k: int, filter: Filter | None
    ) -> list[tuple[int, float]]:
        if k < 1:
            raise InvalidArgumentError(f"k must be at least 1, got {k}")
        vectors = _unit_vectors([embedding])
        if not self._documents:
            return []
        self._check_dimension(vectors)
        parameters = None
        if filter is not None:
            allowed = [number for number, document in self._documents.items() if filter(document)]
            parameters = faiss.SearchParameters()
            selector = faiss.IDSelectorBatch(np.array(allowed, dtype=np.int64))
            parameters.sel = selector  # a bare pointer: the variable keeps it alive
        k = min(k, len(self._documents))
        scores, numbers = self._index.search(vectors, k, params=parameters)
        found = zip(numbers[0].tolist(), scores[0].tolist(), strict=True)
        return [(number, score) for number, score in found if number >= 0]

    def _check_dimension(self, vectors: Vectors) -> None:
        if self._index is not None and vectors.shape[1] != self._index.d:
            raise InvalidArgumentError(
                f"the embedding has {vectors.shape[1]} dimensions, but this store holds vectors of "
                f"{self._index.d}; use the embedding it was made with, or make a new store"
            )

    def save_local(self, folder_path: str | os.PathLike[str]) -> None:
        """Write the store into a folder, as JSON and a FAISS index."""
        with self._lock:
            write_folder(Path(folder_path), self._index, self._documents)

    @classmethod
    def load_local(
        cls, folder_path: str | os.PathLike[str], embeddings: Embeddings
    ) -> FaissVectorStore:
        """Return the store that `save_local` wrote; ``embeddings`` must be the same model."""
        store = cls(embeddings)
        store._index, store._documents = read_folder(Path(folder_path))
        store._numbers = {str(row.id): number for number, row in store._documents.items()}
        store._next_number = max(store._documents, default=-1) + 1
        return store


def _unit_vectors(embeddings: Sequence[Sequence[float]]) -> Vectors:
    """Return the vectors as an (n, dimension) array, each of length 1, or 0 if it was 0."""
    try:
        vectors = np.array(embeddings, dtype=np.float32)
    except ValueError as error:
        sizes = sorted({len(vector) for vector in embeddings})
        raise InvalidArgumentError(
            f"the embedding returned vectors of different dimensions: {sizes}"
        ) from error
    if vectors.ndim != 2 or vectors.shape[1] == 0 or not np.isfinite(vectors).all():
        raise InvalidArgumentError(
            f"the embedding must return one non-empty vector of finite numbers for each text, got "
            f"an array of shape {vectors.shape}: {vectors.ravel()[:4].tolist()} ..."
        )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    # A vector of length 1 stays as it is to the last bit, and so do rankings made from it.
    lengths[(lengths == 0.0) | (np.abs(lengths - 1.0) < 1e-6)] = 1.0
    return np.ascontiguousarray(vectors / lengths)


def _check_counts(texts: Sequence[str], *columns: Sequence[object] | None) -> None:
    for name, column in zip(("metadatas", "ids"), columns, strict=True):
        if column is not None and len(column) != len(texts):
            raise InvalidArgumentError(
                f"{name} has {len(column)} entries for {len(texts)} texts; give one for each"
            )


def _copy(document: Document) -> Document:
    """Return a document that the caller may change without changing the store."""
    return document.model_copy(update={"metadata": dict(document.metadata)})


def _no_options(options: dict[str, Any]) -> None:
    if options:
        raise InvalidTypeError(
            f"unknown option {next(iter(options))!r} for FaissVectorStore; see its docstring"
        )

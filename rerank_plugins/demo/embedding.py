"""Text to vectors for the first stage: latent semantics without a download, or a given model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rerank_plugins.errors import ModelLoadError, require_extra

Vectors = NDArray[np.float32]

N_DIMENSIONS = 256
# scikit-learn's list of English stop words has "first", "last", "find", "fill", "call" and "name",
# which is what questions about a library are about.
_FUNCTION_WORDS = (
    "a an and are as at be but by can could do does for from had has have how i if in into is it "
    "its me my no of on or should so some that the their them then there these they this to was "
    "we what when where which while who why will with would you your"
).split()


class Embedding(Protocol):
    """What the first stage needs; both methods return one vector of length 1 a row."""

    name: str

    def embed_documents(self, texts: Sequence[str]) -> Vectors: ...

    def embed_query(self, text: str) -> Vectors: ...


class LatentSemanticEmbedding:
    """Latent semantic analysis: weighted word counts, projected on a corpus's main directions.

    It knows the words of the corpus it was fitted on and no others; a text without any of them
    gets the vector 0. The same corpus gives the same vectors.
    """

    def __init__(self, corpus: Sequence[str], *, n_dimensions: int = N_DIMENSIONS) -> None:
        require_extra("sklearn", extra="demo", purpose="LatentSemanticEmbedding")
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from threadpoolctl import threadpool_limits

        # A word ends at an underscore too: read_text is about reading text. A word that stands
        # in one passage only has no neighbours to learn from.
        self._words = TfidfVectorizer(
            sublinear_tf=True,
            stop_words=_FUNCTION_WORDS,
            token_pattern=r"[^\W_]+",
            min_df=2 if len(corpus) > N_DIMENSIONS else 1,
            dtype=np.float32,
        )
        weights = self._words.fit_transform(corpus)
        n_dimensions = max(1, min(n_dimensions, min(weights.shape) - 1))
        # One thread: with more, thin matrices gain little, a busy machine loses a lot to threads
        # that wait for each other, and the last bits depend on the number of cores.
        with threadpool_limits(1):
            self._directions = TruncatedSVD(n_dimensions, random_state=0).fit(weights)
        self.name = f"LSA, {n_dimensions} dimensions"

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        vectors = self._directions.transform(self._words.transform(texts))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(lengths == 0.0, 1.0, lengths)
        return np.asarray(vectors, dtype=np.float32)

    def embed_query(self, text: str) -> Vectors:
        return self.embed_documents([text])


class SentenceTransformerEmbedding:
    """A sentence-transformers model, by its Hub id or as a local folder."""

    def __init__(self, name: str, *, device: str | None = None) -> None:
        require_extra("sentence_transformers", extra="bench", purpose=f"--embedding {name}")
        from sentence_transformers import SentenceTransformer

        try:
            self._model = SentenceTransformer(name, device=device)
        except (OSError, ValueError) as error:
            raise ModelLoadError(
                f"the embedding model {name!r} cannot be loaded: {error}; leave --embedding out to "
                "use latent semantic analysis, which needs no download"
            ) from error
        self.name = name

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return self._embedded(self._model.encode_document, texts)

    def embed_query(self, text: str) -> Vectors:
        return self._embedded(self._model.encode_query, [text])

    @staticmethod
    def _embedded(encode: Callable[..., object], texts: Sequence[str]) -> Vectors:
        vectors = encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

"""Vectors of a FAISS store: brought to length 1, and chosen to be unlike each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rerank_plugins.errors import InvalidArgumentError

__all__ = ["Vectors", "most_diverse", "unit_vectors"]

Vectors = NDArray[np.float32]


def unit_vectors(embeddings: Sequence[Sequence[float]] | Vectors) -> Vectors:
    """Return the vectors as an (n, dimension) array, each of length 1, or 0 if it was 0."""
    try:
        with np.errstate(over="ignore"):  # found below, as an infinite number
            vectors: Vectors = np.array(embeddings, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        try:
            sizes = sorted({len(vector) for vector in embeddings})
        except TypeError:
            sizes = []
        if len(sizes) > 1:
            raise InvalidArgumentError(
                f"the embedding returned vectors of different dimensions: {sizes}"
            ) from error
        raise InvalidArgumentError(
            f"the embedding must return one vector of finite numbers for each text ({error})"
        ) from error
    if vectors.ndim != 2 or vectors.shape[1] == 0 or not np.isfinite(vectors).all():
        raise InvalidArgumentError(
            f"the embedding must return one non-empty vector of finite numbers for each text, got "
            f"an array of shape {vectors.shape}: {vectors.ravel()[:4].tolist()} ..."
        )
    # The squares of very large and very small numbers have no place in float32.
    peaks = np.abs(vectors).max(axis=1, keepdims=True, initial=0.0)
    scaled = (peaks > 0.0) & ((peaks > 1e15) | (peaks < 1e-15))
    vectors = np.divide(vectors, np.where(scaled, peaks, 1.0), dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    # A vector of length 1 stays as it is to the last bit, and so do rankings made from it.
    lengths[(lengths == 0.0) | (np.abs(lengths - 1.0) < 1e-6)] = 1.0
    return np.ascontiguousarray(vectors / lengths)


def most_diverse(cosines: Vectors, vectors: Vectors, weight: float, k: int) -> list[int]:
    """Return the indices of up to ``k`` of ``vectors``, (n, dimension), in the order of choice.

    Each is the one with the greatest ``weight * cosine - (1 - weight) * likeness``: its cosine
    with the query, of shape (n,), and its greatest cosine with those chosen before.
    """
    chosen: list[int] = []
    likeness = np.zeros(len(vectors), dtype=np.float32)
    while len(chosen) < min(k, len(vectors)):
        gains = weight * cosines - (1.0 - weight) * likeness
        gains[chosen] = -np.inf
        best = int(np.argmax(gains)) if chosen else int(np.argmax(cosines))
        near = vectors @ vectors[best]
        likeness = np.maximum(likeness, near) if chosen else near
        chosen.append(best)
    return chosen

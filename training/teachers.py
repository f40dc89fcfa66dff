"""The teachers: a bi-encoder, a sparse encoder and BM25, and the target that their mix gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModel, BertForMaskedLM

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Progress = Callable[[int], None]

MAX_TOKENS = 256
# Cosines of MiniLM spread by about 0.15 in a list of candidates: this makes them logits.
COSINE_SCALE = 20.0
# BM25's spread in a list beside that of the cosines: of the weights tried (0 to 1), 0.4 put the own
# passage highest in the validation lists.
BM25_WEIGHT = 0.4
# 30,522 logits a token: more tokens at once would leave the caches.
SPARSE_BATCH_TOKENS = 1_024
ENCODED_AT_ONCE = 8_192


def _batches(
    texts: Sequence[str], tokenizer: Tokenizer, *, tokens: int
) -> list[tuple[list[int], Tensor, Tensor]]:
    encoded = tokenizer.encode_batch_fast(list(texts))
    lengths = [len(encoding.ids) for encoding in encoded]
    order = sorted(range(len(texts)), key=lambda index: -lengths[index])
    batches, start = [], 0
    while start < len(order):
        # Few distinct shapes: a CPU compiles its kernels anew for every one.
        width = -(-lengths[order[start]] // 16) * 16
        chosen = order[start : start + max(1, tokens // width)]
        ids = torch.zeros(len(chosen), width, dtype=torch.int32)
        mask = torch.zeros(len(chosen), width, dtype=torch.int32)
        for row, index in enumerate(chosen):
            ids[row, : lengths[index]] = torch.tensor(encoded[index].ids)
            mask[row, : lengths[index]] = 1
        batches.append((chosen, ids, mask))
        start += len(chosen)
    return batches


def _tokenizer(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


class DenseTeacher:
    """all-MiniLM-L6-v2: unit vectors whose dot product is the teacher's score."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = _tokenizer(folder)
        self._model = AutoModel.from_pretrained(folder).eval().to(torch.bfloat16)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], *, progress: Progress | None = None) -> FloatArray:
        """Return unit vectors (n_texts, 384)."""
        vectors = np.zeros((len(texts), self._model.config.hidden_size), dtype=np.float32)
        for start in range(0, len(texts), ENCODED_AT_ONCE):
            part = texts[start : start + ENCODED_AT_ONCE]
            for chosen, ids, mask in _batches(part, self._tokenizer, tokens=4_096):
                hidden = self._model(ids, attention_mask=mask).last_hidden_state.float()
                weights = mask[..., None].float()
                mean = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
                vectors[[start + index for index in chosen]] = F.normalize(mean, dim=-1).numpy()
            if progress is not None:
                progress(len(part))
        return vectors


class SparseTeacher:
    """splade-tiny: a weight for each vocabulary entry: max over tokens of log(1 + relu(logit))."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = _tokenizer(folder)
        self._model = BertForMaskedLM.from_pretrained(folder, dtype=torch.bfloat16)
        self._model.train(mode=False)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], *, progress: Progress | None = None) -> sp.csr_matrix:
        """Return weights (n_texts, vocabulary)."""
        parts = []
        for start in range(0, len(texts), ENCODED_AT_ONCE):
            part = texts[start : start + ENCODED_AT_ONCE]
            rows: list[npt.NDArray[Any]] = []
            columns: list[npt.NDArray[Any]] = []
            values: list[npt.NDArray[Any]] = []
            for chosen, ids, mask in _batches(part, self._tokenizer, tokens=SPARSE_BATCH_TOKENS):
                hidden = self._model.bert(ids, attention_mask=mask).last_hidden_state
                hidden = self._model.cls.predictions.transform(hidden)
                # Padding becomes a second [CLS], which changes no maximum.
                hidden = torch.where(mask[..., None] == 1, hidden, hidden[:, :1])
                logits = self._model.cls.predictions.decoder(hidden)
                # Both functions rise, so the maximum over the tokens can come first.
                weights = torch.log1p(torch.relu(logits.amax(dim=1).float()))
                weights[weights < 0.02] = 0.0
                row, column = weights.nonzero(as_tuple=True)
                rows.append(np.asarray(chosen)[row.numpy()])
                columns.append(column.numpy())
                values.append(weights[row, column].numpy())
            shape = (len(part), self._model.config.vocab_size)
            entries = (np.concatenate(rows), np.concatenate(columns))
            parts.append(sp.csr_matrix((np.concatenate(values), entries), shape=shape))
            if progress is not None:
                progress(len(part))
        return sp.vstack(parts, format="csr", dtype=np.float32)


def sparse_scores(
    queries: sp.csr_matrix, passages: sp.csr_matrix, candidates: IntArray, *, rows: int = 2_000
) -> FloatArray:
    """Return the dot product of each query with each of its candidates (n_lists, n_candidates).

    >>> matrix = sp.csr_matrix([[1.0, 0.0], [2.0, 3.0]])
    >>> sparse_scores(matrix, matrix, np.array([[0, 1], [1, 1]])).tolist()
    [[1.0, 2.0], [13.0, 13.0]]
    """
    n_lists, n_candidates = candidates.shape
    scores = np.zeros((n_lists, n_candidates), dtype=np.float32)
    for start in range(0, n_lists, rows):
        stop = min(start + rows, n_lists)
        chosen = passages[candidates[start:stop].ravel()]
        repeated = queries[np.repeat(np.arange(start, stop), n_candidates)]
        products = np.asarray(chosen.multiply(repeated).sum(axis=1))
        scores[start:stop] = products.reshape(stop - start, n_candidates)
    return scores


def dense_scores(
    queries: FloatArray, passages: FloatArray, query: IntArray, candidates: IntArray
) -> FloatArray:
    """Return the dot product of query ``query[i]`` with each of ``candidates[i]``.

    >>> vectors = np.array([[1.0, 0.0], [2.0, 3.0]], dtype=np.float32)
    >>> dense_scores(vectors, vectors, np.array([1, 0]), np.array([[0, 1], [1, 1]])).tolist()
    [[2.0, 13.0], [2.0, 2.0]]
    """
    scores = np.zeros(candidates.shape, dtype=np.float32)
    for start in range(0, len(query), 4_000):
        rows = slice(start, start + 4_000)
        scores[rows] = np.einsum("qh,qch->qc", queries[query[rows]], passages[candidates[rows]])
    return scores


def mixed_targets(
    dense: FloatArray,
    sparse: FloatArray,
    bm25: FloatArray,
    *,
    sparse_weight: float = 1.0,
    bm25_weight: float = BM25_WEIGHT,
    own: FloatArray | None = None,
    own_bonus: float = 0.0,
) -> FloatArray:
    """Return the target logits (n_lists, size): the three scores of each list on one scale.

    Column 0 gets ``own_bonus`` more where ``own`` (n_lists,) is 1: that a query was asked of a
    passage is what no teacher knows.

    The sparse scores and BM25's get the spread of the dense ones, list by list, times
    their weights; where a list has no spread at all they add nothing.
    """
    cosine = COSINE_SCALE * (dense - dense.mean(axis=1, keepdims=True))
    wanted = cosine.std(axis=1, keepdims=True)

    def scaled(scores: FloatArray) -> FloatArray:
        centred: FloatArray = scores - scores.mean(axis=1, keepdims=True)
        spread = centred.std(axis=1, keepdims=True)
        factor = np.where(spread > 1e-6, wanted / np.maximum(spread, 1e-6), 0.0)
        product: FloatArray = centred * factor
        return product

    mixed = cosine + sparse_weight * scaled(sparse) + bm25_weight * scaled(bm25)
    targets: FloatArray = mixed.astype(np.float32)
    if own is not None:
        targets[:, 0] += own_bonus * own
    return targets

"""The students: BERT cross-encoders, started from an encoder that was taught something else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel

CLS, SEP = 101, 102
# Few distinct shapes: a CPU compiles its kernels anew for every one.
WIDTH_STEP = 16
TOKENS_AT_ONCE = 8_192

Ids = npt.NDArray[np.int32]


def new_student(splade: Path, *, pretrained: bool = True) -> BertForSequenceClassification:
    """Return the start: splade-tiny's encoder under a new pooler and a new classifier.

    Without ``pretrained`` the encoder is random too, to see what the start is worth.
    """
    body = BertForMaskedLM.from_pretrained(splade, dtype=torch.float32)
    student = _untrained(splade)
    if pretrained:
        student.bert.load_state_dict(body.bert.state_dict(), strict=False)
    with torch.no_grad():
        # The pooler starts as the identity: what the encoder puts into [CLS] passes through.
        tensors = student.state_dict()
        tensors["bert.pooler.dense.weight"].copy_(torch.eye(student.config.hidden_size))
        tensors["bert.pooler.dense.bias"].zero_()
    return student


def new_l6_student(minilm: Path) -> BertForSequenceClassification:
    """Return the other start: all-MiniLM-L6-v2, its pooler too, under a new classifier."""
    student = _untrained(minilm)
    body = BertModel.from_pretrained(minilm, dtype=torch.float32)
    student.bert.load_state_dict(body.state_dict())
    return student


def _untrained(folder: Path) -> BertForSequenceClassification:
    config = BertConfig.from_pretrained(folder)
    config.num_labels = 1
    # With dropout a forward pass takes five times as long on a CPU, and these texts are read once.
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    config.tie_word_embeddings = True
    torch.manual_seed(0)
    return BertForSequenceClassification(config)


class TokenStore:
    """The token ids of many texts, each cut at ``max_tokens``, without special tokens."""

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer, *, max_tokens: int) -> None:
        self.ids: list[Ids] = []
        for start in range(0, len(texts), 20_000):
            encoded = tokenizer.encode_batch_fast(
                list(texts[start : start + 20_000]), add_special_tokens=False
            )
            self.ids.extend(np.asarray(row.ids[:max_tokens], dtype=np.int32) for row in encoded)

    def __getitem__(self, index: int) -> Ids:
        return self.ids[index]


def plain_tokenizer(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def padded_pairs(
    pairs: Sequence[tuple[Ids, Ids]], *, max_length: int, offset: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return ids, token types, positions (all (n_pairs, width)) and lengths (n_pairs,).

    A pair is ``[CLS] query [SEP] passage [SEP]``, its passage cut to fit. The passage's positions
    start ``offset`` later than usual, so that late positions are trained on short passages.
    """
    passages = [passage[: max_length - 3 - len(query)] for query, passage in pairs]
    lengths = [
        len(query) + len(passage) + 3 for (query, _), passage in zip(pairs, passages, strict=True)
    ]
    width = -(-max(lengths) // WIDTH_STEP) * WIDTH_STEP
    ids = np.zeros((len(pairs), width), dtype=np.int64)
    types = np.zeros_like(ids)
    positions = np.tile(np.arange(width), (len(pairs), 1))
    for row, ((query, _), passage) in enumerate(zip(pairs, passages, strict=True)):
        first = len(query) + 2
        ids[row, 0] = CLS
        ids[row, 1 : first - 1] = query
        ids[row, first - 1] = SEP
        ids[row, first : lengths[row] - 1] = passage
        ids[row, lengths[row] - 1] = SEP
        types[row, first : lengths[row]] = 1
        positions[row, first : lengths[row]] += offset
    return (
        torch.from_numpy(ids),
        torch.from_numpy(types),
        torch.from_numpy(positions),
        torch.tensor(lengths),
    )


def logits(
    student: BertForSequenceClassification,
    ids: Tensor,
    types: Tensor,
    positions: Tensor,
    lengths: Tensor,
) -> Tensor:
    """Return the logits (n_pairs,) that ``student`` itself would return, at two thirds of the cost.

    In the last layer only ``[CLS]`` asks: its keys and values are needed for every token, the
    rest for one.
    """
    # The layers' classes are not in the stubs' view of a ModuleList.
    bert: Any = student.bert
    mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None])[:, None, None, :]
    hidden = bert.embeddings(input_ids=ids, token_type_ids=types, position_ids=positions)
    layers = list(bert.encoder.layer)
    for layer in layers:
        asking = hidden[:, :1] if layer is layers[-1] else hidden
        attention = layer.attention.self

        def heads(projected: Tensor) -> Tensor:
            shape = (*projected.shape[:2], student.config.num_attention_heads, -1)
            return projected.view(shape).transpose(1, 2)

        queries, keys = heads(attention.query(asking)), heads(attention.key(hidden))
        # Written out: on a CPU the backward pass of torch's fused attention takes longer than
        # everything else together.
        likeness = queries @ keys.transpose(2, 3) / queries.shape[-1] ** 0.5
        weights = likeness.masked_fill(~mask, -1e9).softmax(dim=-1)
        context = weights.to(queries.dtype) @ heads(attention.value(hidden))
        context = context.transpose(1, 2).flatten(2)
        attended = layer.attention.output(context, asking)
        hidden = layer.output(layer.intermediate(attended), attended)
    pooled: Tensor = student.classifier(bert.pooler(hidden))
    return pooled[:, 0].float()


def score_pairs(
    student: BertForSequenceClassification,
    pairs: Sequence[tuple[Ids, Ids]],
    *,
    max_length: int,
    offsets: Sequence[int] = (0,),
    tokens_at_once: int = TOKENS_AT_ONCE,
) -> Tensor:
    """Return logits (n_pairs,), batched by length; differentiable, on the student's device.

    ``offsets`` are taken in turn, one a batch.
    """
    order = sorted(
        range(len(pairs)), key=lambda index: -len(pairs[index][0]) - len(pairs[index][1])
    )
    parts: list[Tensor] = []
    start = 0
    while start < len(order):
        query, passage = pairs[order[start]]
        longest = min(max_length, len(query) + len(passage) + 3)
        width = -(-longest // WIDTH_STEP) * WIDTH_STEP
        rows = order[start : start + max(1, tokens_at_once // width)]
        offset = min(
            offsets[len(parts) % len(offsets)], student.config.max_position_embeddings - width
        )
        batch = padded_pairs([pairs[row] for row in rows], max_length=max_length, offset=offset)
        parts.append(logits(student, *(tensor.to(student.device) for tensor in batch)))
        start += len(rows)
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order, dtype=torch.long)] = torch.arange(len(order))
    return torch.cat(parts)[back.to(student.device)] if parts else torch.zeros(0)

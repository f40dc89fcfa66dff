"""The general path: architectures that have no forward pass of their own here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import WORDS
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from rerank_plugins import CrossEncoderScorer
from rerank_plugins.errors import InvalidArgumentError, ModelLoadError

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "num_labels": 1,
    "vocab_size": 100,
}
QUERY = "how do i sort a list"
PASSAGES = ["sort the list", "", "the capital of france is paris", "river " * 90, "zzz unknown"]


def tokenizer(pair: str, *, max_length: int, types: bool = False) -> PreTrainedTokenizerFast:
    """Return a tokenizer of words; ``pair`` is its template with <s> and </s>."""
    vocabulary = {
        token: index
        for index, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *dict.fromkeys(WORDS)])
    }
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair=pair, special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    make: Any = PreTrainedTokenizerFast
    wrapped: PreTrainedTokenizerFast = make(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=max_length,
        model_input_names=["input_ids", *(["token_type_ids"] * types), "attention_mask"],
    )
    return wrapped


@pytest.fixture(params=["xlm-roberta", "deberta-v2", "modernbert"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model: Any
    if request.param == "xlm-roberta":  # bge-reranker: two positions before the first token
        config = XLMRobertaConfig(**SIZES, max_position_embeddings=66, pad_token_id=1)
        model = XLMRobertaForSequenceClassification(config)
        tokens = tokenizer("<s> $A </s> </s> $B </s>", max_length=64)
    elif request.param == "deberta-v2":  # mxbai-rerank
        model = DebertaV2ForSequenceClassification(
            DebertaV2Config(
                **SIZES,
                max_position_embeddings=64,
                type_vocab_size=0,
                relative_attention=True,
                pos_att_type=["p2c", "c2p"],
                position_biased_input=False,
                pad_token_id=1,
            )
        )
        tokens = tokenizer("<s> $A </s> $B:1 </s>:1", max_length=64, types=True)
    else:  # gte-reranker-modernbert
        model = ModernBertForSequenceClassification(
            ModernBertConfig(
                **SIZES,
                max_position_embeddings=64,
                pad_token_id=1,
                bos_token_id=0,
                eos_token_id=2,
                cls_token_id=0,
                sep_token_id=2,
            )
        )
        tokens = tokenizer("<s> $A </s> $B </s>", max_length=64)
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.ndim == 2:
                tensor.normal_(0.0, 0.3)
    model.save_pretrained(tmp_path)
    tokens.save_pretrained(tmp_path)
    return tmp_path


def test_scores_equal_transformers_one_pair_at_a_time(folder: Path) -> None:
    tokens = PreTrainedTokenizerFast.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).train(False)
    expected = []
    with torch.no_grad():
        for passage in PASSAGES:
            inputs = tokens(
                [QUERY], [passage], truncation="longest_first", max_length=64, return_tensors="pt"
            )
            expected.append(torch.sigmoid(model(**inputs).logits[0, 0]).item())
    assert max(expected) - min(expected) > 1e-3
    with CrossEncoderScorer(str(folder), device="cpu") as scorer:
        assert scorer.score(QUERY, PASSAGES) == pytest.approx(expected, abs=2e-5)
        assert scorer.max_length == 64
        assert scorer.stats.padding_tokens > 0


def test_a_missing_head_is_refused_and_not_filled_with_noise(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match="classifier"):
        CrossEncoderScorer(str(folder), device="cpu")


def test_int8_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="int8"):
        CrossEncoderScorer(str(folder), device="cpu", dtype="int8")

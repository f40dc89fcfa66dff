"""Models of other families, plain and saved by sentence-transformers, score as it scores them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as T
from checkpoints import WORDS
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from rerank_plugins import CrossEncoderScorer
from rerank_plugins.errors import UnsupportedModelError

PAIRS = [
    ("how do i sort a list", "sort a list of words"),
    ("how do i sort a list", "the river long short water"),
    ("what is the capital of france", "paris is the capital of france"),
    ("capital of france", " ".join(WORDS)),
    ("line", ""),
]
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_labels": 1,
}
POSITIONS = {**SMALL, "max_position_embeddings": 64}
OFFSET = {**SMALL, "max_position_embeddings": 66, "pad_token_id": 0}
DECODER = {**POSITIONS, "num_key_value_heads": 1, "pad_token_id": 0}
DISENTANGLED = {**POSITIONS, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
LINEAR = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "num_labels": 1}
FAMILIES: dict[str, dict[str, Any]] = {
    "Bert": POSITIONS,
    "Roberta": OFFSET,
    "XLMRoberta": OFFSET,
    "Deberta": DISENTANGLED,
    "DebertaV2": DISENTANGLED,
    "Electra": {**POSITIONS, "embedding_size": 16},
    "DistilBert": {**LINEAR, "max_position_embeddings": 64},
    "Albert": {**POSITIONS, "embedding_size": 16},
    "MPNet": OFFSET,
    "ModernBert": {**POSITIONS, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3},
    "Longformer": {**OFFSET, "attention_window": [16, 16]},
    "BigBird": {**POSITIONS, "attention_type": "original_full"},
    "SqueezeBert": {**POSITIONS, "embedding_size": 32},
    "MobileBert": {**POSITIONS, "embedding_size": 16, "intra_bottleneck_size": 16},
    "ConvBert": {**POSITIONS, "embedding_size": 32},
    "Nystromformer": {**POSITIONS, "num_landmarks": 8, "segment_means_seq_len": 64},
    "Qwen2": DECODER,
    "Qwen3": {**DECODER, "head_dim": 16},
    "Llama": DECODER,
    "Gemma": {**DECODER, "head_dim": 16},
    "Mistral": DECODER,
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "num_labels": 1,
             "pad_token_id": 0},
    "T5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2,
           "num_labels": 1, "pad_token_id": 0, "eos_token_id": 3, "decoder_start_token_id": 0},
}  # fmt: skip
TYPED = ("Bert", "Electra", "Albert", "BigBird", "MobileBert", "ConvBert", "DebertaV2")


def tokenizer(family: str) -> Any:
    words = ["<pad>", "<unk>", "<s>", "</s>", *dict.fromkeys(WORDS)]
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B:1 </s>:1",
        special_tokens=[("<s>", 2), ("</s>", 3)],
    )
    make: Any = T.PreTrainedTokenizerFast
    return make(
        tokenizer_object=backend,
        model_max_length=64,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        model_input_names=[
            "input_ids",
            *(["token_type_ids"] if family in TYPED else []),
            "attention_mask",
        ],
    )


def write(family: str, folder: Path, **config: object) -> Path:
    """Write a small random classifier of ``family`` and return its folder."""
    torch.manual_seed(1)
    tokens = tokenizer(family)
    settings = {**FAMILIES[family], "vocab_size": len(tokens), **config}
    made = getattr(T, f"{family}Config")(**settings)
    model = getattr(T, f"{family}ForSequenceClassification")(made)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim > 1:
                tensor.normal_(0.0, 0.2)
            elif "bias" in name:
                tensor.normal_(0.0, 0.05)
    model.save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


def theirs(folder: Path) -> Any:
    from sentence_transformers import CrossEncoder

    logging.disable(logging.WARNING)
    try:
        peer = CrossEncoder(str(folder), device="cpu")
        # One pair at a time: in some families the padding of a batch leaks into its scores.
        return np.array([float(peer.predict([pair])[0]) for pair in PAIRS])
    finally:
        logging.disable(logging.NOTSET)


def ours(folder: Path) -> Any:
    with CrossEncoderScorer(str(folder), device="cpu") as scorer:
        return np.array(scorer.score_pairs(PAIRS))


def assert_equal_or_refused(folder: Path) -> None:
    try:
        scores = ours(folder)
    except UnsupportedModelError:
        return
    np.testing.assert_allclose(scores, theirs(folder), atol=2e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_scores_as_sentence_transformers(family: str, tmp_path: Path) -> None:
    assert_equal_or_refused(write(family, tmp_path))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["Bert", "Roberta", "ModernBert", "Qwen3"])
def test_a_family_saved_by_sentence_transformers_scores_the_same(
    family: str, tmp_path: Path
) -> None:
    from sentence_transformers import CrossEncoder

    plain, saved = write(family, tmp_path / "plain"), tmp_path / "saved"
    CrossEncoder(str(plain), device="cpu").save_pretrained(str(saved))
    np.testing.assert_allclose(ours(saved), ours(plain), atol=2e-6)
    np.testing.assert_allclose(ours(saved), theirs(saved), atol=2e-5)


BERT_CHANGES: list[dict[str, Any]] = [
    {"layer_norm_eps": 1e-3},
    {"hidden_act": "relu"},
    {"hidden_act": "gelu_fast"},
    {"hidden_act": "quick_gelu"},
    {"chunk_size_feed_forward": 1},
    {"is_decoder": True},
    {"num_hidden_layers": 1},
    {"nobody_knows_this": 7},
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("change", BERT_CHANGES, ids=str)
def test_a_config_key_is_never_left_out(change: dict[str, Any], tmp_path: Path) -> None:
    import json

    path = write("Bert", tmp_path) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert_equal_or_refused(tmp_path)


def test_what_old_configs_say_of_generating_keeps_the_quick_path(tmp_path: Path) -> None:
    import json

    path = write("Bert", tmp_path) / "config.json"
    old = {"do_sample": False, "num_beams": 1, "top_k": 50, "eos_token_ids": 0, "pruned_heads": {}}
    path.write_text(json.dumps(json.loads(path.read_text()) | old))
    # int8 is for the models that have a forward pass of their own here.
    with CrossEncoderScorer(str(tmp_path), device="cpu", dtype="int8") as scorer:
        assert len(scorer.score_pairs(PAIRS)) == len(PAIRS)

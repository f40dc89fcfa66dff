"""A score does not depend on the other pairs of its batch, whatever the model does with padding."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from test_automodel import QUERY, tokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASS_NAMES,
)

from rerank_plugins import CrossEncoderScorer
from rerank_plugins.cross_encoder.forward.automodel import PADDING_SAFE
from rerank_plugins.errors import UnsupportedModelError

# Every family's words for the same few sizes; each takes those that its config knows.
SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 2),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
    **dict.fromkeys(("num_key_value_heads", "num_experts_per_tok"), 2),
    **dict.fromkeys(("intermediate_size", "d_inner", "hidden_dim", "n_inner", "ffn_dim"), 64),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "d_ff"), 64),
    **dict.fromkeys(("head_dim", "d_kv", "d_head", "true_hidden_size", "attention_window"), 16),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 400),
    **dict.fromkeys(("num_experts", "num_local_experts"), 4),
    "moe_intermediate_size": 32,
    "intra_bottleneck_size": 16,
    "word_embed_proj_dim": 32,
    "attention_types": [[["global"], 2]],
    "vocab_size": 100,
    "num_labels": 1,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "cls_token_id": 0,
    "sep_token_id": 2,
    "decoder_start_token_id": 0,
}


def random_model(family: str, **changes: Any) -> Any:
    """Return a small model of ``family`` with random weights."""
    config_class: Any = CONFIG_MAPPING[family]
    known = {"num_labels", "pad_token_id", *inspect.signature(config_class.__init__).parameters}
    for each in config_class.__mro__:
        known |= set(getattr(each, "__annotations__", {}))
    if family == "t5":
        known.add("decoder_start_token_id")
    config = config_class(**{name: SIZES[name] for name in known & set(SIZES)}, **changes)
    torch.manual_seed(0)
    name = CLASS_NAMES[family]
    model = getattr(transformers, name)(config)
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.ndim > 1:
                tensor.normal_(0.0, 0.12)
    return model.train(False)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(PADDING_SAFE))
def test_a_family_that_is_padded_ignores_padding(family: str) -> None:
    if family not in CLASS_NAMES:
        pytest.skip(f"this transformers has no {family}")
    model = random_model(family)
    for short, long in ((5, 9), (7, 40), (100, 300)):
        ids = torch.randint(3, 60, (2, long), generator=torch.Generator().manual_seed(short))
        ids[0, short - 1] = ids[1, -1] = 2
        mask = torch.ones_like(ids)
        ids[0, short:], mask[0, short:] = 1, 0
        with torch.inference_mode():
            beside = model(input_ids=ids, attention_mask=mask).logits[0]
            alone = model(input_ids=ids[:1, :short], attention_mask=mask[:1, :short]).logits[0]
        torch.testing.assert_close(beside, alone, atol=4e-6, rtol=1e-6)


def saved(family: str, folder: Path, *, padding_side: str = "right", **changes: Any) -> Path:
    random_model(family, **changes).save_pretrained(folder)
    tokens = tokenizer("<s> $A </s> $B </s>", max_length=64)
    tokens.padding_side = padding_side
    tokens.save_pretrained(folder)
    return folder


def alone_and_beside(folder: Path) -> tuple[float, float, int]:
    """Return a passage's score alone and beside longer ones, and how much padding there was."""
    with CrossEncoderScorer(str(folder), device="cpu") as scorer:
        alone = scorer.score(QUERY, ["sort the list"])[0]
        passages = ["river " * 40, "sort the list", "the capital of france is paris"]
        beside = scorer.score(QUERY, passages)[1]
        return alone, beside, scorer.stats.padding_tokens


@pytest.mark.parametrize("family", ["mobilebert", "convbert", "fnet", "xlnet"])
def test_a_family_whose_padding_leaks_is_not_padded(family: str, tmp_path: Path) -> None:
    alone, beside, n_padding = alone_and_beside(saved(family, tmp_path))
    assert beside == pytest.approx(alone, abs=4e-6)
    assert n_padding == 0


@pytest.mark.parametrize("family", ["xlm-roberta", "deberta-v2"])
def test_the_tokenizers_padding_side_changes_no_score(family: str, tmp_path: Path) -> None:
    alone, beside, n_padding = alone_and_beside(saved(family, tmp_path, padding_side="left"))
    assert beside == pytest.approx(alone, abs=4e-6)
    assert n_padding > 0


def test_attention_that_depends_on_earlier_texts_is_refused_by_name(tmp_path: Path) -> None:
    sparse = saved("big_bird", tmp_path / "sparse")
    with pytest.raises(UnsupportedModelError, match=r"block_sparse.*original_full"):
        CrossEncoderScorer(str(sparse), device="cpu")
    full = saved("big_bird", tmp_path / "full", attention_type="original_full")
    alone, beside, _ = alone_and_beside(full)
    assert beside == pytest.approx(alone, abs=4e-6)

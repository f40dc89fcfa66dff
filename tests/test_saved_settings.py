"""What a folder says beside its tensors is done as sentence-transformers does it, or refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_saved_models import PAIRS, ours, theirs, tokenizer, write

from rerank_plugins import CrossEncoderScorer
from rerank_plugins.errors import ModelLoadError, RerankError, UnsupportedModelError

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write("Bert", tmp_path / "plain")


@pytest.fixture
def saved(plain: Path, tmp_path: Path) -> Path:
    from sentence_transformers import CrossEncoder

    CrossEncoder(str(plain), device="cpu").save_pretrained(str(tmp_path / "saved"))
    return tmp_path / "saved"


def edit(path: Path, **values: object) -> None:
    data = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**data, **values}))


def assert_equal(folder: Path) -> None:
    np.testing.assert_allclose(ours(folder), theirs(folder), atol=2e-5)


FLAT = """{{ messages | map(attribute="role") | join(" ") }} river
{{ messages | selectattr("role", "eq", "query") | map(attribute="content") | first }} paris
{{ messages | selectattr("role", "eq", "document") | map(attribute="content") | first }} london"""
STRUCTURED = """{% for m in messages %}{{ m.content[0].text }} water {% endfor %}</s>"""


@pytest.mark.parametrize("template", [FLAT, STRUCTURED], ids=["flat", "structured"])
@pytest.mark.parametrize("prompt", ["", "what is the "])
def test_pairs_are_rendered_through_a_chat_template(
    template: str, prompt: str, plain: Path, tmp_path: Path
) -> None:
    from sentence_transformers import CrossEncoder

    before = ours(plain)
    tokens = tokenizer("Bert")
    tokens.chat_template = template
    tokens.save_pretrained(plain)
    if prompt:
        folder = tmp_path / "prompted"
        peer = CrossEncoder(
            str(plain), device="cpu", prompts={"q": prompt}, default_prompt_name="q"
        )
        peer.save_pretrained(str(folder))
    else:
        folder = plain
    assert np.abs(ours(folder) - before).max() > 1e-3
    assert_equal(folder)


def test_a_template_that_drops_the_pair_is_refused(plain: Path) -> None:
    tokens = tokenizer("Bert")
    tokens.chat_template = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    tokens.save_pretrained(plain)
    with pytest.raises(UnsupportedModelError, match=r"chat_template.*query.*document"):
        ours(plain)


def test_a_default_prompt_goes_before_every_query(saved: Path) -> None:
    before = ours(saved)
    edit(
        saved / "config_sentence_transformers.json",
        prompts={"query": "what is the ", "document": ""},
        default_prompt_name="query",
    )
    assert np.abs(ours(saved) - before).max() > 1e-3
    assert_equal(saved)
    with (
        CrossEncoderScorer(str(saved), device="cpu") as plain,
        CrossEncoderScorer(str(saved), device="cpu", query_prefix="river ") as prefixed,
    ):  # the saved prompt goes before the prefix too
        assert prefixed.score("a", ["b"]) == pytest.approx(plain.score("river a", ["b"]), abs=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"max_seq_length": 12},
        {"processing_kwargs": {"text": {"max_length": 12, "truncation": True}}},
        {"do_lower_case": True},
        {"query_length": 8},
    ],
    ids=str,
)
def test_sentence_bert_config_is_followed(change: dict[str, Any], saved: Path) -> None:
    edit(saved / "sentence_bert_config.json", **change)
    assert_equal(saved)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("sentence_bert_config.json", {"model_kwargs": {"attn_implementation": "eager"}}),
        ("sentence_bert_config.json", {"unheard_of": 1}),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": {"stride": 3}}}),
        ("config_sentence_transformers.json", {"default_prompt_name": "none"}),
        ("config_sentence_transformers.json", {"unheard_of": 1}),
        ("config.json", {"quantization_config": {"quant_method": "gptq"}}),
        ("config.json", {"sentence_transformers": {"unheard_of": 1}}),
        ("tokenizer_config.json", {"model_max_length": 0}),
        ("tokenizer_config.json", {"model_max_length": False}),
        ("tokenizer_config.json", {"model_max_length": 0.5}),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_by_name(
    file: str, change: dict[str, Any], saved: Path
) -> None:
    edit(saved / file, **change)
    with pytest.raises(UnsupportedModelError) as caught:
        ours(saved)
    key, value = next(iter(change.items()))
    inner = next(iter(value)) if isinstance(value, dict) else value
    assert key in str(caught.value)
    assert str(inner) in str(caught.value)


def test_a_sub_folder_of_modules_json_is_followed(saved: Path) -> None:
    expected = ours(saved)
    (saved / "0_Transformer").mkdir()
    kept = ("modules.json", "config_sentence_transformers.json", "README.md")
    for path in list(saved.iterdir()):
        if path.is_file() and path.name not in kept:
            path.rename(saved / "0_Transformer" / path.name)
    modules = json.loads((saved / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (saved / "modules.json").write_text(json.dumps(modules))
    assert ours(saved).tolist() == expected.tolist()
    modules[0]["path"] = "../plain"
    (saved / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelLoadError, match=r"\.\./plain"):
        ours(saved)


def test_token_types_are_given_only_where_the_tokenizer_names_them(plain: Path) -> None:
    before = ours(plain)
    edit(plain / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])
    assert np.abs(ours(plain) - before).max() > 1e-4
    assert_equal(plain)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.int32])
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"], ids=["own path", "general path"])
def test_quantised_weights_are_refused(dtype: torch.dtype, activation: str, plain: Path) -> None:
    edit(plain / "config.json", hidden_act=activation)
    tensors = load_file(plain / "model.safetensors")
    name = next(name for name in tensors if "layer.0" in name and tensors[name].ndim == 2)
    tensors[name] = tensors[name].to(dtype)
    save_file(tensors, plain / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnsupportedModelError, match=rf"{name}.*float32"):
        ours(plain)


@pytest.mark.parametrize("beside", [True, False], ids=["beside the weights", "alone"])
def test_an_adapter_is_applied_as_peft_does(beside: bool, plain: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForSequenceClassification

    before = ours(plain)
    base = AutoModelForSequenceClassification.from_pretrained(plain)
    settings = peft.LoraConfig(
        task_type="SEQ_CLS", r=4, lora_alpha=16, target_modules=["query", "value"]
    )
    adapted = peft.get_peft_model(base, settings)
    torch.manual_seed(2)
    with torch.no_grad():
        for name, tensor in adapted.named_parameters():
            if "lora_" in name:
                tensor.normal_(0.0, 0.3)
    folder = tmp_path / "adapter"
    adapted.save_pretrained(folder)
    tokenizer("Bert").save_pretrained(folder)
    if beside:
        shutil.copy(plain / "model.safetensors", folder)
        shutil.copy(plain / "config.json", folder)
    assert np.abs(ours(folder) - before).max() > 1e-3
    merged = tmp_path / "merged"
    adapted.merge_and_unload().save_pretrained(merged)
    tokenizer("Bert").save_pretrained(merged)
    np.testing.assert_allclose(ours(folder), ours(merged), atol=2e-5)
    if beside:  # sentence-transformers wants a config.json beside an adapter
        assert_equal(folder)


@pytest.mark.parametrize("name", ["../other.safetensors", "/dev/zero", "fifo.safetensors", 3, "."])
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"], ids=["own path", "general path"])
def test_an_index_names_plain_files_of_its_folder(
    name: object, activation: str, plain: Path
) -> None:
    edit(plain / "config.json", hidden_act=activation)
    (plain / "model.safetensors").rename(plain.parent / "other.safetensors")
    os.mkfifo(plain / "fifo.safetensors")
    edit(plain / "model.safetensors.index.json", weight_map={"a": name})
    with pytest.raises(ModelLoadError, match="model"):
        ours(plain)


def test_a_link_out_of_the_folder_is_refused(plain: Path) -> None:
    (plain / "model.safetensors").rename(plain.parent / "other.safetensors")
    (plain / "part.safetensors").symlink_to(plain.parent / "other.safetensors")
    edit(plain / "model.safetensors.index.json", weight_map={"a": "part.safetensors"})
    with pytest.raises(ModelLoadError, match="outside"):
        ours(plain)


def test_an_overwritten_file_does_not_reach_a_loaded_model(plain: Path) -> None:
    edit(plain / "config.json", hidden_act="quick_gelu")
    with CrossEncoderScorer(str(plain), device="cpu") as scorer:
        before = scorer.score_pairs(PAIRS)
        os.truncate(plain / "model.safetensors", 0)
        assert scorer.score_pairs(PAIRS) == before


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"], ids=["own path", "general path"])
@pytest.mark.parametrize("state", ["autocast", "inference", "device", "dtype", "grad"])
def test_torchs_state_of_the_caller_stays_outside(state: str, activation: str, plain: Path) -> None:
    edit(plain / "config.json", hidden_act=activation)
    expected = ours(plain).tolist()
    contexts: dict[str, Any] = {
        "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        "inference": torch.inference_mode,
        "device": lambda: torch.device("meta"),
        "grad": torch.enable_grad,
    }
    if state == "dtype":
        torch.set_default_dtype(torch.float64)
        try:
            assert ours(plain).tolist() == expected
        finally:
            torch.set_default_dtype(torch.float32)
    else:
        with contexts[state]():
            scorer = CrossEncoderScorer(str(plain), device="cpu")
            assert scorer.score_pairs(PAIRS) == expected
        with scorer:
            assert scorer.score_pairs(PAIRS) == expected


def test_loading_is_silent(plain: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edit(plain / "config.json", hidden_act="quick_gelu")
    ours(plain)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("token", ["hf_secret\n", "hf secret", ["hf_secret"]])
def test_a_token_is_in_no_error(token: Any) -> None:
    with pytest.raises(RerankError) as caught:
        CrossEncoderScorer("some/model", token=token, device="cpu")
    error: BaseException | None = caught.value
    while error is not None:
        assert "secret" not in repr(error)
        error = error.__cause__ or error.__context__

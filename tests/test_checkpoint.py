"""Every row of the published table loads from its own file format and scores by its own rule."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import write_card, write_safetensors, write_tokenizer
from model_shapes import CARDS, ModelCard
from oracle import bert_cat_logits, published_scores, transformers_logits

from rerank_plugins import CrossEncoderScorer
from rerank_plugins.errors import ModelLoadError, UnsupportedModelError
from rerank_plugins.models import EMBEDDED_MODEL

QUERY = "how do I sort a list?"
PASSAGES = [
    "list sorts the list in place",
    "The Capital of France is Paris.",
    "",
    "read a file line by line " * 40,
    "日本語 éü",
]
PAIRS = [(QUERY, passage) for passage in PASSAGES]


@pytest.mark.parametrize("card", CARDS[:-1], ids=lambda card: card.model)
def test_each_row_of_the_table_scores_as_published(card: ModelCard, tmp_path: Path) -> None:
    tensors = write_card(card, tmp_path)
    if card.model_type == "BERT_Cat":
        logits = bert_cat_logits(tmp_path, tensors, PAIRS)
    else:
        logits = transformers_logits(tmp_path, PAIRS)
    expected = published_scores(card, logits)
    assert np.std(expected) > 1e-3, "the oracle must tell the passages apart"
    with CrossEncoderScorer(str(tmp_path), device="cpu") as scorer:
        assert scorer.score(QUERY, PASSAGES) == pytest.approx(expected, abs=2e-5)
        assert scorer.score_unit == ("probability" if "sigmoid" in card.head.rule else "logit")


def test_the_embedded_row_scores_as_transformers_computes() -> None:
    from rerank_plugins.cross_encoder.checkpoint.hub import EMBEDDED_FOLDER

    expected = published_scores(CARDS[-1], transformers_logits(EMBEDDED_FOLDER, PAIRS))
    with CrossEncoderScorer(EMBEDDED_MODEL, device="cpu") as scorer:
        assert scorer.score(QUERY, PASSAGES) == pytest.approx(expected, abs=2e-5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_card(CARDS[0], tmp_path)
    return tmp_path


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_safetensors_are_preferred_over_a_pickle(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"not to be read")
    CrossEncoderScorer(str(folder), device="cpu").close()


def test_a_pickle_that_runs_code_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    ran = folder / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (ran,))

    torch.save({"bert.pooler.dense.weight": Payload()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match=r"pytorch_model\.bin"):
        CrossEncoderScorer(str(folder), device="cpu")
    assert not ran.exists()


def test_sharded_weights_are_put_together(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    expected = CrossEncoderScorer(str(folder), device="cpu").score(QUERY, PASSAGES)
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert CrossEncoderScorer(str(folder), device="cpu").score(QUERY, PASSAGES) == expected


@pytest.mark.parametrize(
    "key", ["sbert_ce_default_activation_function", "sentence_transformers", "its own file"]
)
def test_the_activation_is_read_under_either_key(folder: Path, key: str) -> None:
    sigmoid = "torch.nn.modules.activation.Sigmoid"
    change_config(folder, sentence_transformers=None)
    if key == "its own file":
        saved = {"activation_fn": sigmoid}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(saved))
    elif key == "sentence_transformers":
        change_config(folder, sentence_transformers={"activation_fn": sigmoid})
    else:
        change_config(folder, **{key: sigmoid})
    with CrossEncoderScorer(str(folder), device="cpu") as scorer:
        assert scorer.score_unit == "probability"
        assert all(0.0 < score < 1.0 for score in scorer.score(QUERY, PASSAGES))


def test_an_unknown_activation_is_named_and_never_imported(folder: Path) -> None:
    change_config(folder, sentence_transformers={"activation_fn": "antigravity.Fly"})
    with pytest.raises(UnsupportedModelError, match=r"antigravity\.Fly.*Identity, Sigmoid"):
        CrossEncoderScorer(str(folder), device="cpu")


def test_softmax_over_one_label_is_refused(folder: Path) -> None:
    change_config(
        folder, sentence_transformers={"activation_fn": "torch.nn.modules.activation.Softmax"}
    )
    with pytest.raises(UnsupportedModelError, match="single label"):
        CrossEncoderScorer(str(folder), device="cpu")


def test_a_folder_without_weights_says_which_files_it_wants(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelLoadError, match=r"model\.safetensors or pytorch_model\.bin"):
        CrossEncoderScorer(str(folder), device="cpu")


def test_a_folder_without_a_config_says_so(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    with pytest.raises(ModelLoadError, match=r"no config\.json"):
        CrossEncoderScorer(str(tmp_path), device="cpu")


def test_a_damaged_config_is_named(folder: Path) -> None:
    (folder / "config.json").write_text("{not json")
    with pytest.raises(ModelLoadError, match=r"config\.json cannot be read"):
        CrossEncoderScorer(str(folder), device="cpu")


def test_damaged_weights_are_named(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(ModelLoadError, match=r"model\.safetensors cannot be read"):
        CrossEncoderScorer(str(folder), device="cpu")


def test_an_encoder_without_a_head_is_refused_and_not_filled_with_noise(folder: Path) -> None:
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    write_safetensors({n: t for n, t in tensors.items() if "classifier" not in n}, folder)
    with pytest.raises(ModelLoadError, match=r"classifier\.weight"):
        CrossEncoderScorer(str(folder), device="cpu")


def test_a_folder_without_a_tokenizer_says_so(folder: Path) -> None:
    for file in (*folder.glob("tokenizer*"), *folder.glob("vocab*")):
        file.unlink()
    with pytest.raises(ModelLoadError, match="tokenizer"):
        CrossEncoderScorer(str(folder), device="cpu")


def test_a_model_with_more_labels_is_no_reranker(tmp_path: Path) -> None:
    from checkpoints import vocabulary, write_model
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=len(vocabulary()),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        id2label={0: "no", 1: "maybe", 2: "yes"},
    )
    write_model(BertForSequenceClassification(config), tmp_path)
    with pytest.raises(UnsupportedModelError, match="3 labels"):
        CrossEncoderScorer(str(tmp_path), device="cpu")


def test_a_decoder_is_refused_with_what_to_use_instead(folder: Path) -> None:
    change_config(folder, architectures=["Qwen3ForCausalLM"], model_type="qwen3")
    with pytest.raises(UnsupportedModelError, match=r"Qwen3ForCausalLM.*sequence-classification"):
        CrossEncoderScorer(str(folder), device="cpu")

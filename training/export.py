"""The trained student as a Hugging Face folder: float16 weights, config, tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import BertForSequenceClassification

from rerank_plugins.cross_encoder.checkpoint.folder import ROW_SCALE

SPECIAL_TOKENS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def int8_rows(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return a matrix (rows, columns) as int8, and the float32 scale of each row.

    >>> rows, scales = int8_rows(torch.tensor([[1.27, -0.64], [0.0, 0.0]]))
    >>> rows.tolist()
    [[127, -64], [0, 0]]
    >>> [round(scale, 4) for scale in scales.tolist()]
    [0.01, 1.0]
    """
    largest = matrix.float().abs().amax(dim=1)
    scales = torch.where(largest > 0, largest / 127, 1.0)
    return (matrix.float() / scales[:, None]).round().to(torch.int8), scales


def stored_tensors(student: BertForSequenceClassification, *, int8: bool) -> dict[str, Tensor]:
    """Return the tensors as the file holds them: float16, or with ``int8`` matrices as int8 rows.

    The classifier stays float16: it is one row, whose rounding every score would show.
    """
    tensors = {}
    for name, tensor in student.state_dict().items():
        if name.endswith("position_ids"):
            continue
        if int8 and tensor.ndim == 2 and tensor.shape[0] > 1:
            tensors[name], tensors[name + ROW_SCALE] = int8_rows(tensor.detach())
        else:
            tensors[name] = tensor.detach().to(torch.float16).contiguous()
    return tensors


def export(
    student: BertForSequenceClassification,
    tokenizer_folder: Path,
    folder: Path,
    *,
    int8: bool = False,
) -> None:
    """Write the model folder that this package loads.

    In float16 `transformers` and sentence-transformers load it too; int8 rows are this package's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = stored_tensors(student, int8=int8)
    weights = folder / "model.safetensors"
    save_file(tensors, weights, metadata={"format": "pt"})
    # safetensors writes for the owner only; a package is for everyone.
    weights.chmod(0o644)
    sizes = student.config
    config = {
        "architectures": ["BertForSequenceClassification"],
        "attention_probs_dropout_prob": 0.1,
        "classifier_dropout": None,
        "hidden_act": sizes.hidden_act,
        "hidden_dropout_prob": 0.1,
        "hidden_size": sizes.hidden_size,
        "id2label": {"0": "LABEL_0"},
        "initializer_range": sizes.initializer_range,
        "intermediate_size": sizes.intermediate_size,
        "label2id": {"LABEL_0": 0},
        "layer_norm_eps": sizes.layer_norm_eps,
        "max_position_embeddings": sizes.max_position_embeddings,
        "model_type": "bert",
        "num_attention_heads": sizes.num_attention_heads,
        "num_hidden_layers": sizes.num_hidden_layers,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "sentence_transformers": {
            "activation_fn": "torch.nn.modules.linear.Identity",
            "version": "5.0.0",
        },
        # What a loader computes in: the file holds float16 to be small, not to be computed in.
        "torch_dtype": "float32",
        "type_vocab_size": sizes.type_vocab_size,
        "vocab_size": sizes.vocab_size,
    }
    _write_json(config, folder / "config.json")
    tokenizer = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    # The caller pads and truncates; what is saved here would be taken as a wish.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(folder / "tokenizer.json"))
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token, _ in vocabulary), "utf-8")
    _write_json(
        {
            **SPECIAL_TOKENS,
            "clean_up_tokenization_spaces": True,
            "do_basic_tokenize": True,
            "do_lower_case": True,
            "model_max_length": 512,
            "never_split": None,
            "strip_accents": None,
            "tokenize_chinese_chars": True,
            "tokenizer_class": "BertTokenizer",
        },
        folder / "tokenizer_config.json",
    )
    _write_json(SPECIAL_TOKENS, folder / "special_tokens_map.json")


def copy_model(source: Path, target: Path) -> None:
    """Copy an exported model over another, keeping the target's model card."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.is_file():
            shutil.copy2(path, target / path.name)


def _write_json(value: object, path: Path) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")

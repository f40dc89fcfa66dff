"""A model folder's tokenizer, as transformers builds it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import normalizers

from rerank_plugins.errors import ModelLoadError, UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)


def has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def tokenizer_base(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Return the model whose tokenizer that of ``folder`` is; None where it has its own."""
    # BERT_Cat was published without a tokenizer; its config names where it is from.
    without = config.get("architectures") == ["BERT_Cat"] and not has_tokenizer(folder)
    return str(config["bert_model"]) if without else None


def load_tokenizer(
    folder: Path, config: Mapping[str, Any], *, lowercase: bool = False, trust_remote_code: bool
) -> PreTrainedTokenizerBase:
    """Return the folder's tokenizer, as transformers builds it; ``lowercase`` texts first."""
    from transformers import AutoTokenizer, PreTrainedTokenizerBase

    if not has_tokenizer(folder):  # transformers would make one up, with an empty vocabulary
        raise ModelLoadError(
            f"{folder} has no tokenizer: expected {' or '.join(TOKENIZER_FILES[:2])}; download the "
            "whole repository, or save the tokenizer there with save_pretrained()"
        )
    try:
        if config.get("architectures") == ["BERT_Cat"]:
            # The name says "fast" for transformers 4; in 5 it is an alias, which mypy does not see.
            from transformers import BertTokenizerFast  # type: ignore[attr-defined]

            tokenizer = BertTokenizerFast.from_pretrained(folder)
        else:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except MemoryError:
        raise
    except Exception as error:  # each kind of tokenizer fails in its own way over a wrong file
        raise ModelLoadError(
            f"{folder} holds no tokenizer that can be read: {error}; "
            "download the whole repository afresh"
        ) from error
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    if not tokenizer.is_fast:
        raise UnsupportedModelError(
            f"{type(tokenizer).__name__} of {folder} is a tokenizer in Python; this package needs "
            "one with a tokenizer.json (save it once with AutoTokenizer(..., use_fast=True))"
        )
    if tokenizer.truncation_side != "right":
        raise UnsupportedModelError(
            f"{folder} truncates on the {tokenizer.truncation_side}; passages are cut at their end "
            "here. Set truncation_side to 'right' in tokenizer_config.json"
        )
    length = tokenizer.model_max_length
    if isinstance(length, bool) or not isinstance(length, (int, float)) or not length >= 1:
        raise UnsupportedModelError(
            f"{folder} sets model_max_length to {length!r}; set it to a number of tokens in "
            "tokenizer_config.json, or remove it"
        )
    tokenizer.model_max_length = int(min(length, sys.maxsize))  # saved as 1e30 for "no limit"
    if lowercase:
        backend = tokenizer.backend_tokenizer
        steps = [] if backend.normalizer is None else [backend.normalizer]
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])
    return tokenizer

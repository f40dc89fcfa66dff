"""The general path: any other AutoModelForSequenceClassification, run padded by transformers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rerank_plugins.cross_encoder.pairs import PackedPairs
from rerank_plugins.errors import ModelLoadError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class AutomodelForward:
    """A transformers model behind the same interface as our own forward passes."""

    def __init__(
        self,
        folder: Path,
        tokenizer: PreTrainedTokenizerBase,
        *,
        device: torch.device,
        dtype: torch.dtype,
        trust_remote_code: bool,
    ) -> None:
        self.model = _load(folder, trust_remote_code=trust_remote_code).train(False)
        torch.nn.Module.to(self.model, device, dtype)
        self._device = device
        self._pad_id = tokenizer.pad_token_id
        self._pads_left = tokenizer.padding_side == "left"
        self._takes_types = "token_type_ids" in tokenizer.model_input_names

    def __call__(self, pairs: PackedPairs) -> Tensor:
        """Return float32 logits (n_pairs, n_labels)."""
        n_labels = self.model.config.num_labels
        if pairs.n_pairs == 0:
            return torch.empty(0, n_labels)
        places = np.arange(pairs.max_length)[None, :]
        lengths = pairs.lengths[:, None]
        mask = (
            places >= pairs.max_length - lengths if self._pads_left else places < lengths
        )  # (n_pairs, max_length)
        # A model without a padding token (jina, some decoders' heads) never sees the masked ids.
        ids = np.full(mask.shape, self._pad_id or 0, np.int64)
        ids[mask] = pairs.ids
        inputs = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
        if self._takes_types:
            types = np.zeros(mask.shape, np.int64)
            types[mask] = pairs.type_ids
            inputs["token_type_ids"] = types
        tensors = {name: torch.from_numpy(array).to(self._device) for name, array in inputs.items()}
        logits = self.model(**tensors).logits
        assert isinstance(logits, Tensor)
        return logits.float().reshape(pairs.n_pairs, n_labels)


def _load(folder: Path, *, trust_remote_code: bool) -> PreTrainedModel:
    from transformers import AutoModelForSequenceClassification

    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, AttributeError) as error:
        raise ModelLoadError(
            f"{folder} cannot be loaded as a sequence-classification model: {error}"
        ) from error
    # transformers fills missing tensors with random numbers; random scores help nobody.
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelLoadError(
            f"{folder} has no tensor {missing[0]!r} ({len(missing)} missing); it may be an encoder "
            "without its classification head. Use a cross-encoder checkpoint"
        )
    return model  # type: ignore[no-any-return]

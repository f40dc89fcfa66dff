"""The general path: any other AutoModelForSequenceClassification, run by transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rerank_plugins.cross_encoder.pairs import PackedPairs

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


# Families whose logits ignore padding to the right, each tried in a test with random weights. In
# others padding leaks: through convolutions (ConvBERT), embeddings of neighbours (MobileBERT),
# landmarks (Nystromformer) or the Fourier transform (FNet); or the longest pair decides the rotary
# factors of all (Phi-3). What nobody has tried may do any of it.
PADDING_SAFE = frozenset(
    """
    albert arcee bart bert bloom camembert data2vec-text deberta deberta-v2 distilbert electra ernie
    esm eurobert flaubert gemma gemma2 gemma3_text glm gpt2 gpt_neo gpt_neox gte ibert
    jina_embeddings_v3 llama longformer mbart megatron-bert mistral mixtral modernbert
    modernbert-decoder mpnet nomic_bert olmo olmo2 opt phi qwen2 qwen2_moe qwen3 qwen3_moe rembert
    roberta roberta-prelayernorm roformer smollm3 squeezebert stablelm t5 umt5 xlm xlm-roberta
    xlm-roberta-xl
    """.split()
)


class AutomodelForward:
    """A transformers model, which is moved, behind the interface of our own forward passes.

    Families of `PADDING_SAFE` are padded to the longest pair of a batch. All others, and code that
    came with the model, see pairs of one length at a time, without padding: slower, but a score
    never depends on the other pairs of its batch.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.model = model.train(False)
        torch.nn.Module.to(self.model, device, dtype)
        config = self.model.config
        self.pads_to_longest = config.model_type in PADDING_SAFE and type(
            self.model
        ).__module__.startswith("transformers.models.")
        self._device = device
        # A model that looks for padding among the ids (to count positions, or to find the last
        # token) looks for its config's id.
        pad_ids = (config.pad_token_id, tokenizer.pad_token_id, 0)
        self._pad_id = next(pad_id for pad_id in pad_ids if pad_id is not None)
        self._takes_types = "token_type_ids" in tokenizer.model_input_names

    def __call__(self, pairs: PackedPairs) -> Tensor:
        """Return float32 logits (n_pairs, n_labels)."""
        if pairs.n_pairs == 0:
            return torch.empty(0, self.model.config.num_labels, dtype=torch.float32)
        # Threads that call this may be in a mode of their own, such as autocast.
        with torch.inference_mode(), torch.autocast(self._device.type, enabled=False):
            if self.pads_to_longest:
                return self._logits(pairs)
            return torch.cat([self._logits(part) for part in pairs.equal_lengths()])

    def _logits(self, pairs: PackedPairs) -> Tensor:
        """Return float32 logits (n_pairs, n_labels) of one padded batch."""
        mask = np.arange(pairs.max_length) < pairs.lengths[:, None]  # (n_pairs, max_length)
        ids = np.full(mask.shape, self._pad_id, np.int64)
        ids[mask] = pairs.ids
        inputs = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
        if self._takes_types:
            types = np.zeros(mask.shape, np.int64)
            types[mask] = pairs.type_ids
            inputs["token_type_ids"] = types
        tensors = {name: torch.from_numpy(array).to(self._device) for name, array in inputs.items()}
        logits: Tensor = self.model(**tensors).logits
        return logits.float().reshape(pairs.n_pairs, self.model.config.num_labels)

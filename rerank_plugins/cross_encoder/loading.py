"""A model's name in, everything that scores with it out: tokens, head rule, copies on devices."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from rerank_plugins.cross_encoder.checkpoint.config import read_config
from rerank_plugins.cross_encoder.checkpoint.hub import model_folder
from rerank_plugins.cross_encoder.checkpoint.tokenizer import has_tokenizer, load_tokenizer
from rerank_plugins.cross_encoder.checkpoint.weights import bert_weights
from rerank_plugins.cross_encoder.devices import (
    DTYPES,
    Forward,
    ModelReplica,
    default_batch_tokens,
    resolve_devices,
    resolve_dtype,
)
from rerank_plugins.cross_encoder.head_rule import HeadRule, head_rule
from rerank_plugins.cross_encoder.tokens.encoders import text_encoder
from rerank_plugins.cross_encoder.tokens.pairs import PairEncoder
from rerank_plugins.cross_encoder.tokens.template import PairTemplate
from rerank_plugins.errors import DeviceError, InvalidArgumentError, ModelLoadError, RerankError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rerank_plugins.cross_encoder.forward.bert import BertWeights

# Position tables of these begin after the padding index, so two rows are not for tokens.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer")


@dataclass(slots=True)
class Model:
    """A loaded model. ``max_length`` is in tokens a pair, special ones included."""

    name: str
    rule: HeadRule
    encoder: PairEncoder
    replicas: list[ModelReplica]
    device_names: list[str]
    dtype: str
    max_length: int
    max_batch_tokens: int


def load_model(
    name: str,
    *,
    revision: str | None,
    device: str | Sequence[str] | None,
    dtype: str,
    local_files_only: bool,
    token: str | bool | None,
    cache_folder: str | None,
    trust_remote_code: bool,
) -> Model:
    """Load ``name`` onto its devices; see `CrossEncoderScorer` for the arguments and errors."""
    try:
        model = _loaded(
            name,
            device,
            dtype,
            revision=revision,
            token=token,
            cache_folder=cache_folder,
            local_files_only=local_files_only,
            trust_remote_code=trust_remote_code,
        )
    except (RerankError, MemoryError):
        raise
    except Exception as error:
        # A model folder is foreign data, and what reads it fails in many ways.
        raise _load_error(name, device, error) from error
    # Importing and loading makes hundreds of thousands of objects. Counted off now, they do not
    # bring on a full collection, which stops every thread for 0.1 s, amid the first calls.
    gc.collect()
    return model


def _loaded(name: str, device: str | Sequence[str] | None, dtype: str, **source: Any) -> Model:
    devices = resolve_devices(device)
    dtypes = {resolve_dtype(dtype, each) for each in devices}
    if len(dtypes) > 1:
        raise InvalidArgumentError(
            f"dtype='auto' means {' and '.join(sorted(dtypes))} on {device!r}; name one dtype"
        )
    folder = model_folder(name, **source)
    config = read_config(folder)
    tokenizer_folder = folder
    if config.get("architectures") == ["BERT_Cat"] and not has_tokenizer(folder):
        # This checkpoint was published without a tokenizer; its config names where it is from.
        tokenizer_folder = model_folder(
            config["bert_model"], **{**source, "revision": None}, tokenizer_only=True
        )
    trust_remote_code = source["trust_remote_code"]
    tokenizer = load_tokenizer(tokenizer_folder, config, trust_remote_code=trust_remote_code)
    weights = bert_weights(folder, config)
    dtype_name = dtypes.pop()
    if weights is not None:
        n_labels = weights.head.classifier.weight.shape[0]
        hidden_size = weights.hidden_size
        n_positions = weights.embeddings.position.shape[0]
        forwards = [_bert_forward(weights, each, dtype_name) for each in devices]
        pads_to_longest = False
    else:
        from rerank_plugins.cross_encoder.forward.automodel import AutomodelForward

        if dtype_name == "int8":
            raise InvalidArgumentError(
                f"dtype='int8' is for BERT-shaped models, and {name!r} is a "
                f"{config.get('model_type')}; use dtype='float32' or 'bfloat16'"
            )
        automodels = [
            AutomodelForward(
                folder,
                tokenizer,
                device=each,
                dtype=DTYPES[dtype_name],
                trust_remote_code=trust_remote_code,
            )
            for each in devices
        ]
        settings = automodels[0].model.config
        n_labels, hidden_size = settings.num_labels, getattr(settings, "hidden_size", 768)
        n_positions = _positions(settings)
        forwards = list(automodels)
        pads_to_longest = automodels[0].pads_to_longest
    rule = head_rule(n_labels, config)
    replicas = [
        ModelReplica(
            forward,
            rule,
            n_workers=torch.get_num_threads() if each.type == "cpu" else 1,
            runs_ahead=each.type == "cuda",
            pads_to_longest=pads_to_longest,
        )
        for forward, each in zip(forwards, devices, strict=True)
    ]
    return Model(
        name=name,
        rule=rule,
        encoder=_pair_encoder(tokenizer),
        replicas=replicas,
        device_names=[str(each) for each in devices],
        dtype=dtype_name,
        max_length=min(n_positions, tokenizer.model_max_length),
        max_batch_tokens=min(default_batch_tokens(each, hidden_size) for each in devices),
    )


def _bert_forward(weights: BertWeights, device: torch.device, dtype: str) -> Forward:
    if device.type != "cpu":
        from rerank_plugins.cross_encoder.forward.gpu import GpuForward

        return GpuForward(weights, device=device, dtype=DTYPES[dtype])
    if dtype == "int8":
        from rerank_plugins.cross_encoder.forward.int8 import QuantizedForward

        quantized: Forward = QuantizedForward(weights)
        return quantized
    from rerank_plugins.cross_encoder.forward.cpu import CpuForward

    return CpuForward(weights, dtype=DTYPES[dtype])


def _pair_encoder(tokenizer: PreTrainedTokenizerBase) -> PairEncoder:
    backend = tokenizer.backend_tokenizer
    return PairEncoder(text_encoder(backend), PairTemplate.of(tokenizer), backend.to_str())


def _positions(config: Any) -> int:
    """Return how many tokens a transformers config allows; any number where it is silent."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions < 0:
        return sys.maxsize
    offset = config.pad_token_id + 1 if config.model_type in _OFFSET_POSITIONS else 0
    return int(positions) - offset


def _load_error(name: str, device: object, error: Exception) -> RerankError:
    if "forked subprocess" in str(error):
        return DeviceError(
            f"device={device!r} cannot be used in a process that was forked from one which had "
            "used CUDA; start processes with multiprocessing.get_context('spawn')"
        )
    return ModelLoadError(
        f"model {name!r} cannot be loaded: {type(error).__name__}: {error}; compare its "
        "config.json with that of a cross-encoder which works, or download it afresh"
    )

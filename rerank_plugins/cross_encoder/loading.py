"""A model's name in, everything that scores with it out: tokens, head rule, copies on devices."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from rerank_plugins.cross_encoder.checkpoint.hub import model_folder
from rerank_plugins.cross_encoder.checkpoint.quiet import quiet_transformers
from rerank_plugins.cross_encoder.checkpoint.saved_settings import SavedSettings, read_settings
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
from rerank_plugins.cross_encoder.tokens.chat import ChatPairEncoder
from rerank_plugins.cross_encoder.tokens.encoders import text_encoder
from rerank_plugins.cross_encoder.tokens.pairs import PairEncoder
from rerank_plugins.cross_encoder.tokens.template import PairTemplate
from rerank_plugins.errors import (
    DeviceError,
    InvalidArgumentError,
    ModelLoadError,
    RerankError,
    UnsupportedModelError,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rerank_plugins.cross_encoder.forward.bert import BertWeights

# Position tables of these begin after the padding index, so two rows are not for tokens.
_MOST_OFFSET = 2
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer")


@dataclass(slots=True)
class LoadedModel:
    """A loaded model. ``max_length`` is in tokens a pair, special ones included.

    ``way`` says what computes the forward pass, and why.
    """

    name: str
    rule: HeadRule
    encoder: PairEncoder
    replicas: list[ModelReplica]
    device_names: list[str]
    dtype: str
    max_length: int
    max_batch_tokens: int
    way: str


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
) -> LoadedModel:
    """Load ``name`` onto its devices; see `CrossEncoderScorer` for the arguments and errors."""
    devices = resolve_devices(device)
    dtypes = {resolve_dtype(dtype, each) for each in devices}
    if len(dtypes) > 1:
        raise InvalidArgumentError(
            f"dtype='auto' means {' and '.join(sorted(dtypes))} on {device!r}; name one dtype"
        )
    with _undisturbed(), quiet_transformers():
        try:
            model = _loaded(
                name,
                devices,
                dtypes.pop(),
                revision=revision,
                token=token,
                cache_folder=cache_folder,
                local_files_only=local_files_only,
                trust_remote_code=trust_remote_code,
            )
        except (RerankError, MemoryError):
            raise
        except Exception as error:
            # The caller's arguments are checked by now. What is left is foreign data, and what
            # reads it fails in many ways.
            raise _load_error(name, device, error) from error
    # Importing and loading makes hundreds of thousands of objects. Counted off now, they do not
    # bring on a full collection, which stops every thread for 0.1 s, amid the first calls.
    gc.collect()
    return model


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep what the caller has set for torch away from a model that others will use too.

    Dtypes are named wherever tensors are made, since torch's default is the whole process's.
    """
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
        torch.device("cpu"),
    ):
        yield


def _loaded(name: str, devices: list[torch.device], dtype_name: str, **source: Any) -> LoadedModel:
    settings = read_settings(model_folder(name, **source))
    folder, config = settings.folder, settings.config
    tokenizer_folder = folder
    if config.get("architectures") == ["BERT_Cat"] and not has_tokenizer(folder):
        # This checkpoint was published without a tokenizer; its config names where it is from.
        tokenizer_folder = model_folder(
            config["bert_model"], **{**source, "revision": None}, tokenizer_only=True
        )
    trust_remote_code = source["trust_remote_code"]
    tokenizer = load_tokenizer(
        tokenizer_folder,
        config,
        lowercase=settings.lowercase,
        trust_remote_code=trust_remote_code,
    )
    weights = None if settings.has_adapter else bert_weights(folder, config)
    if weights is not None:
        n_labels = weights.head.classifier.weight.shape[0]
        hidden_size = weights.hidden_size
        n_positions = weights.embeddings.position.shape[0]
        forwards = []
        for each in devices:
            forward, way = _bert_forward(weights, each, dtype_name)
            forwards.append(forward)
        pads_to_longest = False
    else:
        from rerank_plugins.cross_encoder.checkpoint.automodel import load_automodel
        from rerank_plugins.cross_encoder.forward.automodel import AutomodelForward

        if dtype_name == "int8":
            raise InvalidArgumentError(
                f"dtype='int8' is for BERT-shaped models, and {name!r} is a "
                f"{config.get('model_type')}; use dtype='float32' or 'bfloat16'"
            )
        automodels = [
            AutomodelForward(
                load_automodel(folder, trust_remote_code=trust_remote_code),
                tokenizer,
                device=each,
                dtype=DTYPES[dtype_name],
            )
            for each in devices
        ]
        loaded = automodels[0].model.config
        config = {**loaded.to_dict(), **config}  # of an adapter's base, too
        n_labels, hidden_size = loaded.num_labels, getattr(loaded, "hidden_size", 768)
        n_positions = _positions(loaded)
        forwards = list(automodels)
        pads_to_longest, way = automodels[0].pads_to_longest, "PyTorch"
    rule = head_rule(n_labels, config)
    replicas = [
        ModelReplica(
            forward,
            rule,
            n_workers=torch.get_num_threads() if each.type == "cpu" else 1,
            launches_async=each.type == "cuda",
            pads_to_longest=pads_to_longest,
        )
        for forward, each in zip(forwards, devices, strict=True)
    ]
    return LoadedModel(
        name=name,
        rule=rule,
        encoder=_pair_encoder(tokenizer, settings),
        replicas=replicas,
        device_names=[str(each) for each in devices],
        dtype=dtype_name,
        max_length=_max_length(settings, n_positions, tokenizer.model_max_length),
        max_batch_tokens=min(default_batch_tokens(each, hidden_size) for each in devices),
        way=way,
    )


def _bert_forward(weights: BertWeights, device: torch.device, dtype: str) -> tuple[Forward, str]:
    """Return the forward pass, and what it is."""
    if device.type != "cpu":
        from rerank_plugins.cross_encoder.forward.gpu import GpuForward

        return GpuForward(weights, device=device, dtype=DTYPES[dtype]), "PyTorch"
    if dtype == "int8":
        from rerank_plugins.cross_encoder.forward.int8 import QuantizedForward

        return QuantizedForward(weights), "PyTorch"
    from rerank_plugins.cross_encoder.forward.cpu import CpuForward
    from rerank_plugins.cross_encoder.forward.native.choice import native_forward

    native, way = native_forward(weights, dtype)
    return native or CpuForward(weights, dtype=DTYPES[dtype]), way


def _pair_encoder(tokenizer: PreTrainedTokenizerBase, settings: SavedSettings) -> PairEncoder:
    backend = tokenizer.backend_tokenizer
    texts = text_encoder(backend)
    if tokenizer.chat_template and settings.chat_template:
        return ChatPairEncoder(
            texts,
            tokenizer,
            backend.to_str(),
            query_prompt=settings.query_prompt,
            message_format=settings.message_format,
            chat_kwargs=settings.chat_kwargs,
        )
    template = PairTemplate.of(tokenizer)
    return PairEncoder(texts, template, backend.to_str(), query_prompt=settings.query_prompt)


def _max_length(settings: SavedSettings, n_positions: int, tokenizer_length: int) -> int:
    saved = settings.max_length
    if saved is not None and saved > n_positions + _MOST_OFFSET:
        raise UnsupportedModelError(
            f"{settings.folder} sets max_seq_length or max_length to {saved}, and the model has "
            f"{n_positions} positions; set it to {n_positions} in sentence_bert_config.json"
        )
    return min(n_positions, tokenizer_length if saved is None else saved)


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

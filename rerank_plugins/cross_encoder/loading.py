"""A model's name in, everything that scores with it out: tokens, head rule, copies on devices."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from rerank_plugins.cross_encoder.checkpoint.hub import model_folder
from rerank_plugins.cross_encoder.checkpoint.quiet import quiet_transformers
from rerank_plugins.cross_encoder.checkpoint.saved_settings import SavedSettings, read_settings
from rerank_plugins.cross_encoder.checkpoint.tokenizer import load_tokenizer, tokenizer_base
from rerank_plugins.cross_encoder.checkpoint.weights import bert_weights
from rerank_plugins.cross_encoder.devices import (
    DTYPES,
    Forward,
    ModelReplica,
    default_batch_tokens,
    resolved,
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
)
from rerank_plugins.options import ScorerOptions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rerank_plugins.cross_encoder.forward.bert import BertWeights

# The options that say where a model is from.
_SOURCE = ("revision", "token", "cache_folder", "local_files_only", "trust_remote_code")


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


def load_model(options: ScorerOptions) -> LoadedModel:
    """Load the model onto its devices; see `CrossEncoderScorer` for the options and errors."""
    here = resolved(options)
    with _undisturbed(), quiet_transformers():
        try:
            model = _loaded(here)
        except (RerankError, MemoryError):
            raise
        except Exception as error:
            # The caller's arguments are checked by now. What is left is foreign data, and what
            # reads it fails in many ways.
            raise _load_error(options, error) from error
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


def _loaded(options: ScorerOptions) -> LoadedModel:
    devices = [torch.device(name) for name in options.device or ()]
    source = {name: getattr(options, name) for name in _SOURCE}
    settings = read_settings(model_folder(options.model, **source))
    folder, config = settings.folder, settings.config
    tokenizer_folder, base = folder, tokenizer_base(folder, config)
    if base is not None:
        tokenizer_folder = model_folder(base, **{**source, "revision": None}, tokenizer_only=True)
    tokenizer = load_tokenizer(
        tokenizer_folder,
        config,
        lowercase=settings.lowercase,
        trust_remote_code=options.trust_remote_code,
    )
    weights = None if settings.has_adapter else bert_weights(folder, config)
    if weights is not None:
        n_labels = weights.head.classifier.weight.shape[0]
        hidden_size = weights.hidden_size
        n_positions = weights.embeddings.position.shape[0]
        forwards = []
        for each in devices:
            forward, way = _bert_forward(weights, each, options.dtype)
            forwards.append(forward)
        pads_to_longest = False
    else:
        from rerank_plugins.cross_encoder.checkpoint.automodel import load_automodel, positions
        from rerank_plugins.cross_encoder.forward.automodel import AutomodelForward

        if options.dtype == "int8":
            raise InvalidArgumentError(
                f"dtype='int8' is for BERT-shaped models, and {options.model!r} is a "
                f"{config.get('model_type')}; use dtype='float32' or 'bfloat16'"
            )
        automodels = [
            AutomodelForward(
                load_automodel(folder, trust_remote_code=options.trust_remote_code),
                tokenizer,
                device=each,
                dtype=DTYPES[options.dtype],
            )
            for each in devices
        ]
        loaded = automodels[0].model.config
        config = {**loaded.to_dict(), **config}  # of an adapter's base, too
        n_labels, hidden_size = loaded.num_labels, getattr(loaded, "hidden_size", 768)
        n_positions = positions(loaded)
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
        name=options.model,
        rule=rule,
        encoder=_pair_encoder(tokenizer, settings),
        replicas=replicas,
        device_names=[str(each) for each in devices],
        dtype=options.dtype,
        max_length=settings.length_within(n_positions, tokenizer.model_max_length),
        max_batch_tokens=min(default_batch_tokens(each, hidden_size) for each in devices),
        way=way,
    )


def _bert_forward(weights: BertWeights, device: torch.device, dtype: str) -> tuple[Forward, str]:
    """Return the forward pass, and what it is."""
    if device.type != "cpu":
        from rerank_plugins.cross_encoder.forward.gpu import GpuForward

        return GpuForward(weights, device=device, dtype=DTYPES[dtype]), "PyTorch"
    from rerank_plugins.cross_encoder.forward.native.choice import native_forward

    native, way = native_forward(weights, dtype)
    if native is not None:
        return native, way
    if dtype == "int8":
        from rerank_plugins.cross_encoder.forward.int8 import QuantizedForward

        return QuantizedForward(weights), way
    from rerank_plugins.cross_encoder.forward.cpu import CpuForward

    return CpuForward(weights, dtype=DTYPES[dtype]), way


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


def _load_error(options: ScorerOptions, error: Exception) -> RerankError:
    if "forked subprocess" in str(error):
        return DeviceError(
            f"device={options.device!r} cannot be used in a process that was forked from one which "
            "had used CUDA; start processes with multiprocessing.get_context('spawn')"
        )
    return ModelLoadError(
        f"model {options.model!r} cannot be loaded: {type(error).__name__}: {error}; compare its "
        "config.json with that of a cross-encoder which works, or download it afresh"
    )

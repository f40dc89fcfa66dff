"""A device's name in, a copy of the model on it out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rerank_plugins.cross_encoder.head_rule import HeadRule
from rerank_plugins.cross_encoder.pairs import FloatArray, PackedPairs
from rerank_plugins.errors import DeviceError, InvalidArgumentError, InvalidTypeError
from rerank_plugins.options import ScorerOptions

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
Forward = Callable[[PackedPairs], Tensor]


@dataclass(slots=True)
class ModelReplica:
    """A forward pass on one device, and how its outputs become one logit a pair."""

    forward: Forward
    rule: HeadRule
    n_workers: int
    launches_async: bool
    pads_to_longest: bool

    def launch(self, pairs: PackedPairs) -> Tensor:
        """Return outputs (n_pairs, n_labels), float32, which CUDA may still be computing."""
        return self.forward(pairs)

    def collect(self, launched: object) -> FloatArray:
        """Return logits (n_pairs,), float64, waiting for the device."""
        assert isinstance(launched, Tensor)
        return self.rule.logits(launched.cpu().numpy())


def resolve_devices(device: object) -> list[torch.device]:
    """Return the devices that a ``device`` argument names; None picks CUDA, then MPS, then CPU."""
    if device is None:
        if torch.cuda.is_available():
            return [torch.device("cuda", torch.cuda.current_device())]
        return [torch.device("mps" if torch.backends.mps.is_available() else "cpu")]
    if isinstance(device, (str, torch.device)):
        names: list[object] = [device]
    elif isinstance(device, Sequence):
        names = list(device)
    else:
        names = [device]  # no name of a device; refused below
    if not names:
        raise InvalidArgumentError("device is an empty list; name at least one, such as 'cpu'")
    return [_resolve(name) for name in names]


def _resolve(name: object) -> torch.device:
    available = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        available.append("mps")
    hint = f"here there is {', '.join(available)}"
    if not isinstance(name, (str, torch.device)):
        raise InvalidTypeError(
            f"device must be a name such as 'cpu' or 'cuda:0', or a list of these, got {name!r}; "
            f"{hint}"
        )
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device {name!r} is not a device name; {hint}") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise DeviceError(f"device {name!r} is not supported; {hint}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device {name!r} does not exist; {hint}")
    if str(device) == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    if device.type == "mps" and "mps" not in available:
        raise DeviceError(f"device {name!r} does not exist; {hint}")
    return device


def resolved(options: ScorerOptions) -> ScorerOptions:
    """Return ``options`` with the devices and the dtype that they become on this machine.

    ``"cuda"`` is the CUDA device that is current now. Raises `DeviceError` and
    `InvalidArgumentError`.
    """
    devices = resolve_devices(options.device)
    dtypes = {resolve_dtype(options.dtype, each) for each in devices}
    if len(dtypes) > 1:
        raise InvalidArgumentError(
            f"dtype='auto' means {' and '.join(sorted(dtypes))} on {options.device!r}; "
            "name one dtype"
        )
    return replace(options, device=tuple(str(each) for each in devices), dtype=dtypes.pop())


def resolve_dtype(dtype: str, device: torch.device) -> str:
    """Return the dtype's name that ``"auto"`` stands for: float16 on CUDA, float32 elsewhere."""
    names = ("auto", *DTYPES, "int8")
    if dtype not in names:
        raise InvalidArgumentError(f"dtype must be one of {', '.join(names)}; got {dtype!r}")
    if dtype == "auto":
        return "float16" if device.type == "cuda" else "float32"
    if dtype == "float16" and device.type == "cpu":
        raise InvalidArgumentError(
            "dtype='float16' is not for the CPU, where it is slower than float32; "
            "use 'float32', 'bfloat16' or 'int8'"
        )
    if dtype == "int8" and device.type != "cpu":
        raise InvalidArgumentError(
            f"dtype='int8' is for the CPU; on {device} use 'float16' or 'bfloat16'"
        )
    return dtype


def default_batch_tokens(device: torch.device, hidden_size: int) -> int:
    """Return the tokens a batch that suit the device's caches, or fill it.

    On a CPU a batch's activations should stay in a core's own cache; on a GPU a batch must be
    large enough to hide what the host does.
    """
    if device.type == "cpu":
        return max(512, 4096 * 128 // hidden_size)
    return max(8192, 131_072 * 128 // hidden_size)

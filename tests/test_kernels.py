"""Each kernel against its plain twin, and the compiler's word on what a GPU would run.

Kernels are interpreted on a CPU when TRITON_INTERPRET is set before Triton is imported, and then
never compiled. So a plain run compiles them (for GPUs that are not there), and runs this file once
more, interpreted, in a process of its own. With ``-m gpu`` the same comparisons run on a GPU.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from random_bert import random_pairs, random_weights

from rerank_plugins.cross_encoder.forward.bert import (
    ActivationName,
    LayerNorm,
    Linear,
    reference_logits,
)
from rerank_plugins.cross_encoder.forward.packed import PackedBatch, PackedForward, PackedWeights
from rerank_plugins.cross_encoder.forward.staging import BatchShape
from rerank_plugins.cross_encoder.forward.triton import attention_kernels, kernels
from rerank_plugins.cross_encoder.forward.triton.fused import FusedForward, unsupported
from rerank_plugins.cross_encoder.forward.triton.parity import disagreement, twins

triton = pytest.importorskip("triton")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
CPU = torch.device("cpu")
EVERY_WEIGHT = 2**62
# float32 shows a wrong kernel best; on a GPU it takes the general path, so there float16 must.
EXACT = {"cpu": torch.float32, "cuda": torch.float16}
LOGIT_TOLERANCE = {"cpu": 2e-5, "cuda": 2e-2}

interpreted_only = pytest.mark.skipif(not INTERPRETED, reason="runs in the interpreted process")
compiled_only = pytest.mark.skipif(INTERPRETED, reason="kernels are interpreted here")
on_each_device = pytest.mark.parametrize(
    "device",
    [
        pytest.param("cpu", marks=interpreted_only),
        pytest.param("cuda", marks=[pytest.mark.gpu, compiled_only]),
    ],
)

SHAPES: list[dict[str, Any]] = [
    {"hidden": 128, "n_heads": 2, "feed_forward": 512},  # TinyBERT-L2
    {"hidden": 78, "n_heads": 3, "feed_forward": 100},  # head width 26, nothing a power of two
    {"hidden": 16, "n_heads": 4, "feed_forward": 16},  # narrower than the least block
    {"hidden": 264, "n_heads": 3, "feed_forward": 130, "n_types": 0},  # 512 columns, no types
    {"hidden": 32, "n_heads": 2, "embedding": 20, "n_layers": 1},  # ELECTRA small
    {"hidden": 520, "n_heads": 2, "feed_forward": 64},  # wider than a row kernel and a head
]
TINYBERT_L2 = SHAPES[0]
MINILM = {"hidden": 384, "n_heads": 12, "feed_forward": 1536}
# What the compiler spills where it has 80 of 255 registers in use is not for want of them.
FEW_REGISTERS = 4
TINYBERT_L4 = {"hidden": 312, "n_heads": 12, "feed_forward": 1200}
BASE = {"hidden": 768, "n_heads": 12, "feed_forward": 96}
# On both sides of a block's edge, several blocks, and one token alone.
LENGTHS = [130, 65, 64, 63, 1]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    # Two threads on small products wait for each other for longer than they compute.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _poisoned() -> Iterator[None]:
    """Fill new memory with NaN, so that what a kernel leaves out shows (on the CPU)."""
    torch.use_deterministic_algorithms(INTERPRETED)
    yield
    torch.use_deterministic_algorithms(False)


def _assert_close(got: torch.Tensor, expected: torch.Tensor) -> None:
    tolerance = 2e-5 if got.dtype == torch.float32 else 16 * torch.finfo(got.dtype).eps
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=tolerance)


def _fused(
    shape: dict[str, Any], device: str, dtype: torch.dtype, *, max_weight: int = EVERY_WEIGHT
) -> FusedForward:
    weights = random_weights(**{"max_positions": 160, **shape})
    packed = PackedWeights.of(weights, device=torch.device(device), dtype=dtype)
    return FusedForward(packed, max_weight=max_weight)


def _batch(device: str, *, lengths: list[int] = LENGTHS, n_types: int = 2) -> PackedBatch:
    pairs = random_pairs(lengths, n_types=n_types)
    shape = BatchShape.of(pairs)
    return shape.batch(shape.host(pairs, pinned=False).to(device))


@compiled_only
def test_interpreted_kernels_agree_with_plain_pytorch() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        env={
            **os.environ,
            "TRITON_INTERPRET": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "OPENBLAS_NUM_THREADS": "1",  # NumPy's: as `_one_thread`
        },
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout


@on_each_device
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_operation_agrees_with_plain_pytorch(shape: dict[str, Any], device: str) -> None:
    fused = _fused(shape, device, EXACT[device])
    batch = _batch(device, n_types=shape.get("n_types", 2))
    operations = {name: (got, expected) for name, got, expected in twins(fused, batch)}
    assert len(operations) == (4 if shape.get("n_layers") == 1 else 7)
    for got, expected in operations.values():
        assert got.dtype == expected.dtype
        _assert_close(got, expected)


@on_each_device
@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_each_operation_agrees_in_16_bits_with_an_outlier(
    shape: dict[str, Any], dtype: torch.dtype, device: str
) -> None:
    if device == "cpu" and dtype == torch.bfloat16:
        pytest.skip("Triton's interpreter multiplies the bits of bfloat16, not the numbers")
    fused = _fused({**shape, "outlier": 12.0}, device, dtype)
    for _, got, expected in twins(fused, _batch(device, lengths=[66, 17])):
        _assert_close(got, expected)


@on_each_device
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "silu", "tanh"])
def test_each_activation_agrees(activation: ActivationName, device: str) -> None:
    shape = {"hidden": 32, "activation": activation, "n_layers": 1}
    fused = _fused(shape, device, EXACT[device])
    for _, got, expected in twins(fused, _batch(device, lengths=[9, 2])):
        _assert_close(got, expected)


@on_each_device
@pytest.mark.parametrize("width", [48, 600])
def test_a_norm_with_a_product_too_large_to_fuse_agrees(width: int, device: str) -> None:
    fused = _fused({"hidden": 32}, device, torch.float16, max_weight=0)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).half().to(device)

    linear = Linear(weight=random(width, 20), bias=random(width))
    norm = LayerNorm(weight=random(width), bias=random(width), eps=1e-12)
    arguments = random(131, 20), linear, random(131, width), norm
    expected = PackedForward(fused.weights).linear_norm(*arguments)
    _assert_close(fused.linear_norm(*arguments), expected)


@on_each_device
def test_logits_agree_with_one_pair_at_a_time(device: str) -> None:
    weights = random_weights(max_positions=160)
    packed = PackedWeights.of(weights, device=torch.device(device), dtype=EXACT[device])
    logits = FusedForward(packed)(_batch(device)).cpu()
    expected = reference_logits(weights, random_pairs(LENGTHS))
    torch.testing.assert_close(logits, expected, atol=LOGIT_TOLERANCE[device], rtol=0)


@on_each_device
def test_a_rounded_batch_gives_the_same_logits(device: str) -> None:
    weights = random_weights(max_positions=160)
    pairs = random_pairs([70, 31, 5])
    shape = BatchShape.of(pairs).rounded(max_positions=160)
    packed = PackedWeights.of(weights, device=torch.device(device), dtype=EXACT[device])
    logits = FusedForward(packed)(shape.batch(shape.host(pairs, pinned=False).to(device))).cpu()
    expected = reference_logits(weights, pairs)
    torch.testing.assert_close(
        logits[: pairs.n_pairs], expected, atol=LOGIT_TOLERANCE[device], rtol=0
    )


@on_each_device
def test_kernels_that_agree_are_taken(device: str) -> None:
    assert disagreement(_fused({}, device, torch.float16), torch.device(device)) is None


@on_each_device
def test_an_operation_that_differs_is_named(device: str) -> None:
    class Forgetful(FusedForward):
        def attention(self, query_key_value: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
            mixed = super().attention(query_key_value, batch)
            mixed[-1] = 0
            return mixed

    reason = disagreement(
        Forgetful(_fused({}, device, torch.float16).weights), torch.device(device)
    )
    assert reason is not None
    assert reason.startswith("attention differs from plain PyTorch by ")


@compiled_only
def test_without_triton_the_reason_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['triton'] = None; import torch\n"
        "from rerank_plugins.cross_encoder.forward.triton.fused import unsupported\n"
        "print(unsupported(torch.device('cuda'), torch.float16))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "pip install triton" in run.stdout


@compiled_only
def test_another_device_is_not_for_kernels() -> None:
    assert "not for cpu" in str(unsupported(CPU, torch.float16))


@compiled_only
def test_kernels_that_cannot_be_built_give_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class NoCompiler(_Gpu):
        def launcher_cls(self, src: Any, metadata: Any) -> Any:
            raise RuntimeError("Failed to find C compiler")

    fused = _fused({"hidden": 48}, "cpu", torch.float16)
    monkeypatch.setattr(triton.runtime.driver, "_active", NoCompiler(75, kib=64))
    assert disagreement(fused, CPU) == "RuntimeError: Failed to find C compiler"


class _Gpu:
    """A GPU as Triton sees one, that loads a kernel by its limits and launches nothing.

    ``loaded`` has the name of each kernel that was built for it.
    """

    def __init__(self, capability: int, *, kib: int) -> None:
        self.capability = capability
        self.loaded: list[str] = []
        properties = {"max_shared_mem": kib * 1024}
        self.utils = SimpleNamespace(
            get_device_properties=lambda device: properties, load_binary=self._load
        )

    def _load(self, name: str, binary: bytes, shared: int, device: int) -> tuple[Any, ...]:
        self.loaded.append(name)
        return "module", "function", 0, 0, 1024

    def launcher_cls(self, src: Any, metadata: Any) -> Any:
        return lambda *arguments: None

    def get_current_target(self) -> Any:
        return triton.backends.compiler.GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.capability  # Triton remembers what it built by the number of the device

    def get_current_stream(self, device: int) -> int:
        return 0


@compiled_only
@pytest.mark.parametrize(
    ("capability", "kib", "dtype", "shapes"),
    [
        # 8.9 has the kernels of 8.0 and less shared memory.
        (80, 99, torch.float16, [TINYBERT_L2, MINILM]),
        (90, 227, torch.bfloat16, [TINYBERT_L2, BASE]),
    ],
)
def test_kernels_fit_the_gpu_and_are_built_once(
    capability: int,
    kib: int,
    dtype: torch.dtype,
    shapes: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    gpu = _Gpu(capability, kib=kib)
    monkeypatch.setattr(triton.runtime.driver, "_active", gpu)
    for shape in shapes:
        packed = PackedWeights.of(random_weights(**shape), device=CPU, dtype=dtype)
        fused = FusedForward(packed)
        fused(_batch("cpu", lengths=[64, 7]))
        built = len(gpu.loaded)
        # No size of a batch, not even 1 or a multiple of 16, has a kernel built again.
        for lengths in ([1], [16] * 16, [5, 3]):
            fused(_batch("cpu", lengths=lengths))
        assert len(gpu.loaded) == built
    assert set(gpu.loaded) == {
        name
        for module in (kernels, attention_kernels)
        for name in vars(module)
        if name.endswith("_kernel")
    }


@compiled_only
@pytest.mark.parametrize(("capability", "kib"), [(86, 99), (90, 227)])
def test_no_kernel_of_the_published_shapes_spills_more_than_a_few_registers(
    capability: int, kib: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    # Triton remembers by the number of the device, and has built for this one in other tests.
    gpu = _Gpu(capability, kib=kib)
    monkeypatch.setattr(gpu, "get_current_device", lambda: 1000 + capability)
    monkeypatch.setattr(triton.runtime.driver, "_active", gpu)
    for shape in (TINYBERT_L2, TINYBERT_L4, MINILM, BASE):
        packed = PackedWeights.of(random_weights(**shape), device=CPU, dtype=torch.float16)
        FusedForward(packed)(_batch("cpu", lengths=[64, 7]))
    assembler = triton.backends.nvidia.compiler.get_ptxas(capability).path
    sources = sorted(tmp_path.rglob("*_kernel.ptx"))
    assert {source.stem for source in sources} == set(gpu.loaded)
    for source in sources:
        [target] = re.findall(r"^\.target (\w+)", source.read_text(), re.MULTILINE)
        assert target.startswith(f"sm_{capability}")
        log = subprocess.run(
            [assembler, "-v", f"-arch={target}", source, "-o", os.devnull],
            capture_output=True,
            text=True,
            check=True,
        ).stderr
        [spilled] = re.findall(r"(\d+) bytes spill stores", log)
        assert int(spilled) <= 4 * FEW_REGISTERS, f"{source}: {log}"

"""Whether an error means that memory ran out, and giving back what can be given back."""

from __future__ import annotations

import torch

# What allocators other than torch's own raise as a plain RuntimeError.
_MESSAGES = (
    "can't allocate memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether ``error`` means that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _MESSAGES)
    )


def release_memory() -> None:
    """Give back what torch keeps on CUDA devices for later, so that a smaller batch fits."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

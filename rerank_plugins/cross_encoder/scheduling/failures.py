"""What a foreign error means: whether memory ran out, and which error a caller gets for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rerank_plugins.errors import OutOfMemoryError, RerankError, ScoringError

# What libraries below torch raise as a plain RuntimeError when an allocation fails. oneDNN says
# no more than that it could not create something.
_OUT_OF_MEMORY = re.compile(
    r"can't allocate memory|out of memory|bad_alloc|DefaultCPUAllocator|ALLOC_FAILED"
    r"|could not create a primitive(?! desc)|could not create a memory"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether ``error`` means that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None
    )


def tokenising_error(n_pairs: int, error: BaseException) -> BaseException:
    """Return what a call of ``n_pairs`` fails with, whose texts ended in ``error``."""
    if isinstance(error, RerankError):
        return error
    failure: RerankError
    if is_out_of_memory(error):
        failure = OutOfMemoryError(
            f"the tokens of up to {n_pairs} pairs do not fit into memory ({error}); "
            "send fewer or shorter passages"
        )
    else:
        failure = ScoringError(
            f"the pairs could not be tokenised: {type(error).__name__}: {error}; "
            "score them one by one to find the text"
        )
    failure.__cause__ = error
    return failure


@contextmanager
def named_tokenising_errors(n_pairs: int) -> Iterator[None]:
    """Make what a tokenizer raises within the block the error that `score` would raise."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # the tokenizers package also raises BaseException
        failure = tokenising_error(n_pairs, error)
        if failure is error:
            raise
        raise failure from error

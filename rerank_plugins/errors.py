"""Every error this package raises on its own account.

::

    RerankError
    ├── InvalidArgumentError      a caller's mistake; also a ValueError
    │   └── InvalidTypeError      ... of the wrong type; also a TypeError
    ├── DataFormatError           a malformed file, with its path and line; also a ValueError
    ├── MissingExtraError         an optional dependency is not installed; also an ImportError
    ├── ModelLoadError            the model cannot be had, or cannot be read
    │   └── UnsupportedModelError it was read, and is not a cross-encoder that can be scored
    ├── DeviceError               the device does not exist here; also a ValueError
    ├── ScoringError              a scorer's answer does not fit its request
    │   └── NonFiniteScoreError   NaN or infinity, with the passage; also a ValueError
    ├── RemoteError               a rerank API refused, or cannot be reached; has its ``status``
    ├── OutOfMemoryError          one single pair does not fit the device; also a MemoryError
    ├── OverloadedError           the queue is full
    ├── OutputInUseError          another process is writing into the same folder
    ├── DeadlineExceededError     the call's own time limit passed; also a TimeoutError
    └── ScorerClosedError         the scorer was closed; also a RuntimeError

A message names the value, what was expected, and what to do next.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable

__all__ = [
    "DataFormatError",
    "DeadlineExceededError",
    "DeviceError",
    "InvalidArgumentError",
    "InvalidTypeError",
    "MissingExtraError",
    "ModelLoadError",
    "NonFiniteScoreError",
    "OutOfMemoryError",
    "OutputInUseError",
    "OverloadedError",
    "RemoteError",
    "RerankError",
    "ScorerClosedError",
    "ScoringError",
    "UnsupportedModelError",
    "closest_name",
    "require_extra",
    "unknown_name",
]


class RerankError(Exception):
    """The root of all errors that this package raises itself."""


class InvalidArgumentError(RerankError, ValueError):
    """An argument has a value that cannot be used."""


class InvalidTypeError(InvalidArgumentError, TypeError):
    """An argument has a type that cannot be used."""


class DataFormatError(RerankError, ValueError):
    """A file holds something that its format does not allow."""


class MissingExtraError(RerankError, ImportError):
    """An optional dependency is not installed; the message holds the ``pip install`` line."""


class ModelLoadError(RerankError):
    """The model cannot be had or cannot be read."""


class UnsupportedModelError(ModelLoadError):
    """The checkpoint was read, but nothing here can score with it."""


class DeviceError(RerankError, ValueError):
    """The device is unknown or is not on this machine."""


class ScoringError(RerankError):
    """A scorer's answer does not fit its request."""


class NonFiniteScoreError(ScoringError, ValueError):
    """A score is NaN or infinite."""


class RemoteError(RerankError):
    """A rerank API refused a request, or cannot be reached (``status`` None)."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class OutOfMemoryError(RerankError, MemoryError):
    """A single pair does not fit into the memory of the device."""


class OverloadedError(RerankError):
    """The queue holds as many pairs as it may."""


class OutputInUseError(RerankError):
    """Another process is writing into the same folder."""


class DeadlineExceededError(RerankError, TimeoutError):
    """The scores were not ready within the call's own time limit."""


class ScorerClosedError(RerankError, RuntimeError):
    """The scorer was closed, before or during the call."""


def require_extra(*modules: str, extra: str, purpose: str) -> None:
    """Raise `MissingExtraError` with the exact install line when one of ``modules`` is missing.

    >>> require_extra("json", extra="langchain", purpose="the LangChain adapter")
    """
    missing = [module for module in modules if not _installed(module)]
    if missing:
        raise MissingExtraError(
            f"{purpose} needs {', '.join(missing)}, not installed here: "
            f"pip install 'rerank_plugins[{extra}]'"
        )


def unknown_name(problem: str, name: object, known: Iterable[str], *, kind: str) -> str:
    """Return the message for a name that is not one of ``known``, with the closest that is.

    >>> unknown_name("no option 'devise'", "devise", ["dtype", "device"], kind="options")
    "no option 'devise'; did you mean 'device'? known options: device, dtype"
    """
    names = sorted(known)
    close = closest_name(name, names)
    hint = f"did you mean {close!r}? " if close else ""
    return f"{problem}; {hint}known {kind}: {', '.join(names)}"


def closest_name(name: object, known: Iterable[str]) -> str | None:
    """Return the one of ``known`` that was probably meant, None where none is near.

    >>> closest_name("devise", ["dtype", "device"])
    'device'
    """
    return next(iter(difflib.get_close_matches(str(name), list(known), n=1)), None)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that the module would be in
        return False

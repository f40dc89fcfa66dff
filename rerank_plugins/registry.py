"""One scorer for the whole process: the same settings give the same object.

Everything that loads a model on a user's behalf (the adapters, the command line) asks here, so
that two chains, engines or threads never hold two copies of one model.
"""

from __future__ import annotations

import difflib
import inspect
import os
import threading
from typing import TYPE_CHECKING, Any

from rerank_plugins.cards import DEFAULT_MODEL
from rerank_plugins.errors import InvalidTypeError

if TYPE_CHECKING:
    from rerank_plugins.cross_encoder import CrossEncoderScorer

_scorers: dict[tuple[object, ...], CrossEncoderScorer] = {}
_lock = threading.Lock()


def shared_scorer(model: str = DEFAULT_MODEL, **options: Any) -> CrossEncoderScorer:
    """Return the process-wide `CrossEncoderScorer` of these settings, loading it the first time.

    ``options`` are the keyword arguments of `CrossEncoderScorer`; an unknown one is a TypeError.
    Settings that mean the same (a default spelled out, or left out) give the same object. A
    scorer that was closed is replaced by a fresh one at the next call.
    """
    from rerank_plugins.cross_encoder import CrossEncoderScorer

    known = inspect.signature(CrossEncoderScorer).parameters
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise InvalidTypeError(
                f"unknown scorer option {name!r}; {hint}known options: {', '.join(known)}"
            )
    settings = {name: parameter.default for name, parameter in known.items()} | options
    settings["model"] = os.fspath(model)
    key = tuple((name, _hashable(value)) for name, value in sorted(settings.items()))
    # The lock is held while loading, so that two threads asking at once load one model. A load
    # never asks for another scorer, so this cannot deadlock.
    with _lock:
        scorer = _scorers.get(key)
        if scorer is None or scorer.closed:
            scorer = _scorers[key] = CrossEncoderScorer(settings.pop("model"), **settings)
        return scorer


def close_shared_scorers() -> None:
    """Close every shared scorer and give its memory back; later calls load afresh."""
    with _lock:
        scorers = list(_scorers.values())
        _scorers.clear()
    for scorer in scorers:
        scorer.close()


def _hashable(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _after_fork_in_child() -> None:
    # Another thread may have held the lock at the moment of the fork, and does not exist here.
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

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

from rerank_plugins.errors import InvalidTypeError
from rerank_plugins.models import DEFAULT_MODEL

if TYPE_CHECKING:
    from rerank_plugins.cross_encoder import CrossEncoderScorer


class _Slot:
    """A scorer, and the lock that is held while it is loaded."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.scorer: CrossEncoderScorer | None = None


_slots: dict[tuple[object, ...], _Slot] = {}


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
    slot = _slots.setdefault(key, _Slot())
    # Two threads that ask for one model at once load it once; nobody who asks for another one
    # waits. A load never asks for another scorer, so this cannot deadlock.
    with slot.lock:
        if slot.scorer is None or slot.scorer.closed:
            slot.scorer = CrossEncoderScorer(settings.pop("model"), **settings)
        return slot.scorer


def close_shared_scorers() -> None:
    """Close every shared scorer and give its memory back; later calls load afresh."""
    slots = list(_slots.values())
    _slots.clear()
    for slot in slots:
        with slot.lock:  # after a load that is on its way
            if slot.scorer is not None:
                slot.scorer.close()


def _hashable(value: object) -> object:
    if isinstance(value, list):
        return tuple(value)
    try:
        hash(value)
    except TypeError:
        return repr(value)  # no setting of ours; the scorer refuses it by name
    return value


def _after_fork_in_child() -> None:
    # Another thread may have held a lock at the moment of the fork, and does not exist here.
    for slot in _slots.values():
        slot.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

"""One scorer for the whole process: the same settings give the same object.

Everything that loads a model on a user's behalf (the adapters, the command line) asks here, so
that two chains, engines or threads never hold two copies of one model.
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from rerank_plugins.options import ScorerOptions, takes_options

if TYPE_CHECKING:
    from rerank_plugins.cross_encoder import CrossEncoderScorer


class _Slot:
    """The scorers of one model on its devices, and the lock that is held while one is loaded."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.scorers: list[CrossEncoderScorer] = []


class _Registry:
    def __init__(self) -> None:
        self.slots: dict[ScorerOptions, _Slot] = {}

    @takes_options(ScorerOptions)
    def shared_scorer(self, options: ScorerOptions) -> CrossEncoderScorer:
        """Return the process-wide `CrossEncoderScorer` of these options, loading it the first time.

        Options that mean the same give the same object: a default spelled out or left out, a
        folder by any of its paths, ``device=None`` and the device that it is here. A scorer that
        was closed is replaced by a fresh one at the next call.

        Raises what `CrossEncoderScorer` raises; an unknown option is an `InvalidTypeError`.
        """
        from rerank_plugins.cross_encoder import CrossEncoderScorer
        from rerank_plugins.cross_encoder.devices import resolved

        options = resolved(options)
        if options.cache_folder is not None:
            folder = os.path.abspath(os.path.expanduser(options.cache_folder))
            options = replace(options, cache_folder=folder)
        # What a None or "auto" here becomes is known once the model is loaded.
        key = replace(options, max_length=None, max_batch_tokens=None, score_unit="auto")
        slot = self.slots.setdefault(key, _Slot())
        # Two threads that ask for one model at once load it once; nobody who asks for another one
        # waits. A load never asks for another scorer, so this cannot deadlock.
        with slot.lock:
            slot.scorers = [scorer for scorer in slot.scorers if not scorer.closed]
            for scorer in slot.scorers:
                if scorer.options == scorer.resolved(options):
                    return scorer
            slot.scorers.append(CrossEncoderScorer(**options.changed()))
            return slot.scorers[-1]

    def close_shared_scorers(self) -> None:
        """Close every shared scorer and give its memory back; later calls load afresh."""
        slots = list(self.slots.values())
        self.slots.clear()
        for slot in slots:
            with slot.lock:  # after a load that is on its way
                for scorer in slot.scorers:
                    scorer.close()

    def after_fork_in_child(self) -> None:
        # Another thread may have held a lock at the moment of the fork, and does not exist here.
        for slot in self.slots.values():
            slot.lock = threading.Lock()


_registry = _Registry()
shared_scorer = _registry.shared_scorer
close_shared_scorers = _registry.close_shared_scorers

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_registry.after_fork_in_child)

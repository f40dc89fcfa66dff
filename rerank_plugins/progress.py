"""How long work tells how far it came: one protocol for everything that shows progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Advance", "Progress", "Silent"]

Advance = Callable[[int], None]
"""Called with the number of units that were done since the last call."""


class Progress(Protocol):
    """Is told of each step of the work, one after the other."""

    def step(self, what: str, total: int, unit: str = "", done: int = 0) -> Advance:
        """Hear that ``total`` units of work begin, ``done`` of them done by an earlier run."""


class Silent:
    """Shows nothing."""

    def step(self, what: str, total: int, unit: str = "", done: int = 0) -> Advance:
        return lambda n_units: None

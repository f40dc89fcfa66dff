"""A share of the work for one of several processes: ``2/8`` is the second of eight."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from rerank_plugins.checks import check_whole_number
from rerank_plugins.errors import InvalidArgumentError

__all__ = ["WHOLE", "Shard"]

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard ``index`` (from 1) of ``count``: a run of neighbours, so that shards concatenate.

    >>> [Shard(index, 3).part(["a", "b", "c", "d"]) for index in (1, 2, 3)]
    [['a'], ['b'], ['c', 'd']]
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        for name in ("index", "count"):
            check_whole_number(name, getattr(self, name), least=1)
        if not 1 <= self.index <= self.count:
            raise InvalidArgumentError(
                f"shard {self} does not exist; shards of {self.count} are 1/{self.count} to "
                f"{self.count}/{self.count}"
            )

    @classmethod
    def parsed(cls, text: str) -> Shard:
        """Return the shard that ``i/n`` names."""
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if match is None:
            raise InvalidArgumentError(f"--shard is {text!r}; expected i/n, such as 1/8")
        return cls(int(match[1]), int(match[2]))

    def part(self, items: Sequence[_Item]) -> Sequence[_Item]:
        """Return this shard of ``items``: as many as any other shard has, or one fewer."""
        return items[self.start(len(items)) : self.end(len(items))]

    def start(self, n_items: int) -> int:
        """Return the index of the shard's first item among ``n_items``."""
        return n_items * (self.index - 1) // self.count

    def end(self, n_items: int) -> int:
        """Return the index behind the shard's last item among ``n_items``."""
        return n_items * self.index // self.count

    @property
    def folder_name(self) -> str:
        """A name that sorts in the order of the shards.

        >>> Shard(2, 16).folder_name
        'shard-02-of-16'
        """
        return f"shard-{self.index:0{len(str(self.count))}}-of-{self.count}"

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


WHOLE = Shard(1, 1)

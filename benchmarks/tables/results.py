"""The raw results, looked up, and Markdown from rows of cells."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TINY, MINILM = "TinyBERT-L2 shape", "MiniLM-L6 shape"
PEER = "sentence-transformers float32"
OURS = "rerank_plugins float32"

Row = Sequence[object]


def markdown(header: Row, rows: Sequence[Row]) -> str:
    """Return a Markdown table, every column after the first right-aligned."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return the median with the range.

    >>> spread([3.0, 2.0, 4.0], 1)
    '3.0 (2.0-4.0)'
    """
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


class Speed:
    """The raw results of `benchmarks.run`, looked up by model, workload and contestant.

    Parts that were left out of a run are missing from its file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self._timings = {
            (timing["model"], timing["workload"], timing["contestant"]): timing
            for timing in self.raw["timings"]
        }

    def has(self, model: str, workload: str, contestant: str) -> bool:
        return (model, workload, contestant) in self._timings

    def contestants(self, model: str, workload: str) -> list[str]:
        return [key[2] for key in self._timings if key[:2] == (model, workload)]

    def timing(self, model: str, workload: str, contestant: str) -> dict[str, Any]:
        timing: dict[str, Any] = self._timings[model, workload, contestant]
        return timing

    def ratios(self, model: str, workload: str, contestant: str, peer: str) -> list[float]:
        """Return how many times faster, repeat by repeat, ascending."""
        own: list[float] = self.timing(model, workload, contestant)["seconds"]
        other: list[float] = self.timing(model, workload, peer)["seconds"]
        return sorted(theirs / mine for mine, theirs in zip(own, other, strict=True))

    def ratio(self, model: str, workload: str, contestant: str, peer: str = PEER) -> str:
        """Return the median ratio with its range, as ``3.1 (2.9-3.3)``."""
        return spread(self.ratios(model, workload, contestant, peer))

    def floor_share(self, contestant: str, model: str = TINY, workload: str = "bulk") -> float:
        """Return achieved over floor: the time that the arithmetic must take, by the time taken."""
        dtype = f"torch.{contestant.rsplit(' ', 1)[-1]}"
        flop, rate = self.raw["floor_flop_per_pair"][model], self.raw["matmul_flop_per_s"][dtype]
        docs_per_s: float = self.timing(model, workload, contestant)["docs_per_s"]
        return docs_per_s * float(flop) / float(rate)

    def noted(self, text: str, *parts: str) -> str:
        """Return ``text`` and, below it, which of its ``parts`` were measured after the rest."""
        later = self.raw.get("later_parts", {})
        notes = [
            f"Measured after the rest, {part}: commit {later[part]['commit']}, "
            f"{later[part]['date']}."
            for part in parts
            if part in later
        ]
        return "\n\n".join([text, *notes])

    def caption(self) -> str:
        """Return what the figures were measured on."""
        environment = self.raw["environment"]
        versions = ", ".join(f"{name} {v}" for name, v in environment["versions"].items())
        sizes = self.raw["best_batch_size"][TINY]
        lengths = self.raw["token_lengths"][TINY]
        return (
            f"{environment['cpu']}, {environment['threads']} threads, {versions}; text in to "
            f"scores out, pairs of {lengths['min']} to {lengths['max']} tokens (median "
            f"{lengths['median']}), max_length {self.raw['max_length']}; medians (and range) of "
            f"{self.raw['repeats']} interleaved repeats on new text each; sentence-transformers at "
            f"its best batch size ({sizes['float32']}). Raw: "
            f"[{self.path.name}](results/{self.path.name}), commit "
            f"{environment['commit']}, {environment['date']}."
        )

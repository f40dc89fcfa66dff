"""The demo on a terminal of 80 columns or more."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rerank_plugins.demo.pipeline import FIRST_STAGE, FUSED, Answer, Found
from rerank_plugins.demo.quality import MEASURES, SystemQuality, first_relevant
from rerank_plugins.terminal import harmless

N_ROWS = 5
_MARKS = {0: " ", 1: "○", 2: "●"}


class Display:
    """Tables on standard output; ``width`` None takes the terminal's, or 100 into a pipe."""

    def __init__(self, *, quiet: bool = False, width: int | None = None) -> None:
        console = Console(quiet=quiet, width=width)
        if width is None and not console.is_terminal:
            console = Console(quiet=quiet, width=100)
        self._console = console

    def lines(self, *lines: str) -> None:
        """Print plain lines."""
        self._console.print("\n".join(lines), highlight=False, markup=False)

    def answer(self, answer: Answer, judged: Mapping[str, int]) -> None:
        """Print the first stage and what each model makes of it, and what changed in words."""
        systems = shown_systems(answer)
        self._console.print()
        self._console.print(Text(harmless(answer.query), style="bold"))
        if judged:
            self.lines(*changes(answer, systems, judged))
            self.lines("● answers the question, ○ helps, ↑3 rose by three")
        table = Table(expand=True, pad_edge=False)
        table.add_column("#", justify="right", width=1)
        for name in systems:
            heading = name.replace(FUSED, f"\n{FUSED.strip()}")
            table.add_column(heading, ratio=1, no_wrap=True, overflow="ellipsis")
        room = (self._console.width - 5) // len(systems) - 3
        before = {found.id: rank for rank, found in enumerate(answer.rankings[FIRST_STAGE])}
        for rank in range(min(N_ROWS, len(before))):
            row = [str(rank + 1)]
            cells = [
                _cell(answer.query, answer.rankings[name][rank], judged, before, rank, room)
                for name in systems
            ]
            table.add_row(*row, *cells)
        self._console.print(table)
        best = answer.rankings[systems[-1]][0]
        self._console.print(
            Text(f"{systems[-1]}'s first: {best_sentence(answer.query, best)}", style="dim")
        )

    def quality(
        self, systems: Sequence[SystemQuality], *, n_queries: int, depth: int, share: float
    ) -> None:
        """Print the measures of every system over all judged questions."""
        table = Table(title=f"All {n_queries} judged questions", title_justify="left")
        table.add_column(f"FAISS' best {depth}")
        for name in (*MEASURES, "ms a question", "p"):
            table.add_column(name, justify="right")
        for system in systems:
            figures = [f"{system.figures[name]:.3f}" for name in MEASURES]
            p_value = "" if system.p_value is None else f"{system.p_value:.4f}"
            table.add_row(system.name, *figures, f"{system.ms:.0f}", p_value)
        self._console.print()
        self._console.print(table)
        self.lines(
            *remarks(systems),
            f"The {depth} candidates hold {share:.0%} of a question's judged passages on average.",
        )


def shown_systems(answer: Answer) -> list[str]:
    """Return the first stage and each model with its scores: how it is used behind FAISS."""
    return [name for name in answer.rankings if name == FIRST_STAGE or name.endswith(FUSED)]


def changes(answer: Answer, systems: Sequence[str], judged: Mapping[str, int]) -> list[str]:
    """Say in words where the answer stood and where it stands."""
    before = first_relevant(answer, FIRST_STAGE, judged)
    if before is None:
        return [f"No answer is among the {len(answer.rankings[FIRST_STAGE])} candidates."]
    lines = []
    for name in systems:
        after = first_relevant(answer, name, judged)
        if name == FIRST_STAGE or after is None:
            continue
        if after == before:
            lines.append(f"{name}: the answer stays at {before}.")
        else:
            verb = "rises" if after < before else "falls"
            lines.append(f"{name}: the answer {verb} from {before} to {after}.")
    return lines


def remarks(systems: Sequence[SystemQuality]) -> list[str]:
    """Say what the table does not, and name each system that is below the first stage."""
    lines = [
        "p: paired randomisation test of nDCG@10 against the first stage, Holm's correction.",
        "Both stages rank the same candidates; passages without a judgement count as not relevant.",
    ]
    first = systems[0].figures[MEASURES[0]]
    for system in systems[1:]:
        value = system.figures[MEASURES[0]]
        if value < first:
            advice = "take a larger model"
            if not system.name.endswith(FUSED):
                advice += ", or add the first stage's scores (first_stage_weight)"
            lines.append(
                f"{system.name} ranks worse than the first stage here ({value:.3f} against "
                f"{first:.3f}): {advice}."
            )
    return lines


def best_sentence(query: str, found: Found) -> str:
    """Return the sentence of a passage that shares most words with the question, cut to 200."""
    sentences = re.split(r"(?<=[.!?:])\s+|\n", found.text.partition("\n")[2])
    words = _words(query)
    best = max(sentences or [""], key=lambda sentence: len(words & _words(sentence)))
    return harmless(" ".join(best.split()))[:200]


def matched_label(query: str, found: Found) -> str:
    """Return what a passage is about; of several symbols, the one that meets the question.

    Without the names of packages, so that what tells two labels apart fits into a column.
    """
    owner, colon, names = found.title.partition(": ")
    if not colon:
        return ".".join(found.title.partition("(")[0].split(".")[-2:])
    symbols = names.split(", ")
    words = _words(query)
    lines = {s: next((ln for ln in found.text.split("\n") if f"{s}(" in ln), s) for s in symbols}
    best = max(symbols, key=lambda symbol: len(words & _words(lines[symbol] + " " + symbol)))
    return f"{owner.rpartition('.')[2]}.{best}"


def _words(text: str) -> set[str]:
    return {word.rstrip("s") for word in re.findall(r"[^\W_]{3,}", text.lower())}


def _cell(
    query: str,
    found: Found,
    judged: Mapping[str, int],
    before: Mapping[str, int],
    rank: int,
    room: int,
) -> Text:
    relevance = judged.get(found.id, 0)
    cell = Text(f"{_MARKS[relevance]} ", style="green")
    rose = before[found.id] - rank
    if rose > 0:
        cell.append(f"↑{rose} ", style="green" if relevance else "dim")
    label = harmless(matched_label(query, found))
    left = max(room - len(cell), 8)
    if len(label) > left:  # names that begin alike are told apart by their ends
        label = "…" + label[-left + 1 :]
    return cell.append(label, style="bold default")

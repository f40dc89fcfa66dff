"""The demo on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.bar import Bar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from rerank_plugins.demo.pipeline import Answer, Hit
from rerank_plugins.demo.report import MEASURES, STAGES, Quality, Report

T = TypeVar("T")

N_ROWS = 5
BAR_WIDTH = 8
FRAMEWORK_NAMES = {"langchain": "LangChain", "llama-index": "LlamaIndex"}
_STAGE_NAMES = {"first_stage": "first stage: FAISS", "reranked": "reranked: cross-encoder"}
_MARKS = {0: " ", 1: "○", 2: "●"}


class Display:
    """Tables on standard output, progress on standard error."""

    def __init__(self, *, quiet: bool = False) -> None:
        """With ``quiet`` only progress is shown."""
        console = Console(quiet=quiet)
        # Into a pipe there is no window to fit.
        self._console = console if console.is_terminal else Console(quiet=quiet, width=120)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            console=Console(stderr=True),
            transient=True,
        )

    def track(self, items: Sequence[T], description: str) -> Iterator[T]:
        """Yield ``items`` under a progress bar."""
        with self._progress:
            task = self._progress.add_task(description, total=len(items))
            try:
                for item in items:
                    yield item
                    self._progress.advance(task)
            finally:
                self._progress.remove_task(task)

    def track_files(self, files: Sequence[Path], description: str) -> Iterable[Path]:
        return self.track(files, description)

    @contextmanager
    def step(self, description: str) -> Iterator[None]:
        """Show a spinner during a step whose length nobody knows."""
        with Console(stderr=True).status(description):
            yield

    def header(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    def setting(self, report: Report) -> None:
        """Print what is searched, with what, and how long it took to get ready."""
        seconds = report.seconds
        for name, value in (
            ("passages", f"{report.n_passages:,} of Python's own documentation"),
            ("first stage", f"FAISS over {report.embedding}, best {report.top_k}"),
            ("reranker", f"{report.model} on {report.device}, scores are {report.score_unit}s"),
            ("getting ready", ", ".join(f"{key} {value:.1f} s" for key, value in seconds.items())),
        ):
            line = Text(f"{name:>14}  ", style="dim")
            self._console.print(line.append(value, style="default"), highlight=False)

    def answer(self, answer: Answer, relevance: Mapping[str, int]) -> None:
        """Print both rankings of one question side by side."""
        table = Table(title=Text(answer.query, style="bold"), title_justify="left", expand=True)
        table.add_column("#", justify="right", width=2)
        table.add_column("first stage: FAISS", ratio=1, no_wrap=True)
        table.add_column("score", width=BAR_WIDTH)
        table.add_column("reranked: cross-encoder", ratio=1, no_wrap=True)
        table.add_column("score", width=BAR_WIDTH)
        table.add_column("was", justify="right", width=3)
        before = {hit.id: rank for rank, hit in enumerate(answer.first_stage, start=1)}
        pairs = list(zip(answer.first_stage, answer.reranked, strict=True))[:N_ROWS]
        for rank, (old, new) in enumerate(pairs, start=1):
            table.add_row(
                str(rank),
                _source(old, relevance),
                _bar(old, answer.first_stage),
                _source(new, relevance),
                _bar(new, answer.reranked),
                Text(str(before[new.id]), style="green" if before[new.id] > rank else "dim"),
            )
        table.caption = (
            f"found in {answer.retrieve_ms:.0f} ms, {len(answer.reranked)} reranked in "
            f"{answer.rerank_ms:.0f} ms; bars go from the worst of them to the best"
        )
        table.caption_justify = "left"
        self._console.print()
        self._console.print(table)

    def marks(self) -> None:
        self._console.print("● judged as answering, ○ as helping", style="dim")

    def quality(self, quality: Quality, report: Report) -> None:
        """Print the measures of both stages over all judged questions."""
        table = Table(title=f"All {quality.n_queries} judged questions", title_justify="left")
        table.add_column("")
        for name in MEASURES:
            table.add_column(name, justify="right")
        for stage in STAGES:
            values = quality.values[stage]
            table.add_row(_STAGE_NAMES[stage], *(f"{values[name]:.3f}" for name in MEASURES))
        self._console.print()
        self._console.print(table)
        lines = [
            f"Both rank the first stage's best {quality.depth}, which hold "
            f"{quality.retrieved_share:.0%} of a question's judged passages on average; the others "
            "count as missed. Passages without a judgement count as not relevant.",
            f"A question takes {quality.retrieve_ms:.1f} ms to retrieve and "
            f"{quality.rerank_ms:.0f} ms to rerank (medians).",
        ]
        if report.not_in_this_python:
            keys = ", ".join(key for _, key in report.not_in_this_python)
            lines.append(f"Judged, but not in this Python's documentation: {keys}")
        self._console.print("\n".join(lines), highlight=False, markup=False)


def _source(hit: Hit, relevance: Mapping[str, int]) -> Text:
    words = " ".join(hit.text.partition("\n")[2].split())
    source = Text(f"{_MARKS[relevance.get(hit.id, 0)]} ", style="green")
    return source.append(hit.id, style="bold default").append(f"\n  {words[:200]}", style="dim")


def _bar(hit: Hit, hits: Sequence[Hit]) -> Bar:
    scores = [other.score for other in hits]
    worst, best = min(scores), max(scores)
    return Bar(size=best - worst or 1.0, begin=0.0, end=hit.score - worst, width=BAR_WIDTH)

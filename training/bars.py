"""Progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def counting(console: Console, label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar, and give the function that moves it by so many."""
    bar = _bar(console)
    task = bar.add_task(label, total=total)
    with bar:
        yield lambda count: bar.advance(task, count)


@contextmanager
def training_bar(console: Console, label: str) -> Iterator[Callable[[float, float], None]]:
    """Show a bar, and give the function that takes the share done and the loss."""
    bar = _bar(console)
    task = bar.add_task(label, total=1.0)

    def show(done: float, loss: float) -> None:
        bar.update(task, completed=done, description=f"{label}, loss {loss:.2f}")

    with bar:
        yield show


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )

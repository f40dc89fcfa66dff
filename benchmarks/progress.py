"""What a long run is doing: a line that changes on a terminal, lines in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.session import Tell

# Seconds between two lines of a log.
PAUSE_S = 5.0


@contextmanager
def progress() -> Iterator[Tell]:
    """Give a function that shows what is being done, on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        begin = last = time.perf_counter()

        def log(what: str) -> None:
            nonlocal last
            now = time.perf_counter()
            if now - last >= PAUSE_S or last == begin:
                last = now
                console.print(f"{now - begin:6.0f} s  {what}", highlight=False)

        yield log
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda what: bar.update(task, description=what)

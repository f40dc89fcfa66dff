"""What a command shows: text, JSON, tables and progress."""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from rerank_plugins.progress import Advance
from rerank_plugins.terminal import harmless

__all__ = ["CommandProgress", "print_json", "wide_console", "write_out"]

SECONDS_BETWEEN_LINES = 10.0


def write_out(text: str) -> None:
    """Write to standard output; a character that its encoding lacks becomes an escape."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def print_json(data: object) -> None:
    """Print data as JSON in UTF-8, whatever the locale."""
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:  # something else stands in the place of standard output
        sys.stdout.write(text)
        return
    sys.stdout.flush()
    binary.write(text.encode("utf-8", "backslashreplace"))
    binary.flush()


def wide_console() -> Console:
    """Return a console on standard output; into a pipe it is wide enough for a whole table."""
    console = Console(markup=False, highlight=False, emoji=False)
    if console.is_terminal:
        return console
    return Console(markup=False, highlight=False, emoji=False, width=160)


class CommandProgress:
    """Progress on standard error: a bar on a terminal, elsewhere a line every so often."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:3.0f}%  {task.fields[rate]}", markup=False),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> CommandProgress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def step(self, what: str, total: int, unit: str = "", done: int = 0) -> Advance:
        """Begin a step; what an earlier run did is said and is no part of the speed."""
        what = harmless(what)
        if done:
            self.console.print(f"{what}: {done:,} of {total:,} {unit} were done by an earlier run")
        for task in self._bars.task_ids:
            self._bars.remove_task(task)
        bar = self._bars.add_task(what, total=total, completed=done, rate="")
        begin = said = time.monotonic()
        n_done = done

        def advance(n_units: int) -> None:
            nonlocal n_done, said
            n_done += n_units
            now = time.monotonic()
            rate = (n_done - done) / (now - begin) if now > begin else 0.0
            told = f"{n_done:,}/{total:,} {unit}, {rate:,.0f} {unit or 'steps'}/s" if unit else ""
            self._bars.update(bar, completed=n_done, rate=told)
            if not self.console.is_terminal and now - said >= SECONDS_BETWEEN_LINES:
                said = now
                share = f"{100 * n_done / total:.0f}%" if total else ""
                self.console.print(", ".join(part for part in (f"{what}: {share}", told) if part))

        return advance

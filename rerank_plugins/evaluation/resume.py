"""How far a reranking came, kept beside the run file so that it can be gone on with."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from rerank_plugins.errors import DataFormatError
from rerank_plugins.fingerprint import check_unchanged
from rerank_plugins.written_files import PARTIAL, synced, write_text

__all__ = ["QueryTime", "UnfinishedRun"]


@dataclass(frozen=True, slots=True)
class QueryTime:
    """How long one query took: its texts in, its ranking out, nothing else.

    ``end`` is where its lines end in the run file.
    """

    query_id: str
    n_pairs: int
    seconds: float
    end: int


class UnfinishedRun:
    """A run that is being written, and beside it one line a finished query behind the settings.

    The run has ``.partial`` at the end of its name until every query is done, so that a file under
    the run's own name is always whole, and an older one stays until the new one is.
    """

    def __init__(self, run_path: Path, settings: dict[str, Any]) -> None:
        self.run_path = run_path
        self.partial = run_path.with_name(run_path.name + PARTIAL)
        self.path = run_path.with_name(run_path.name + ".progress.jsonl")
        self.settings = settings

    def done(self) -> list[QueryTime]:
        """Return what was finished before, and cut both files behind the last whole query."""
        if not self.path.exists():
            if self.run_path.exists():
                raise DataFormatError(
                    f"{self.run_path} is there already and was not written by an evaluation; give "
                    "another output folder, or move it away"
                )
            return []
        # A line without its end was being written when the process stopped.
        lines = self.path.read_bytes().split(b"\n")[:-1]
        if not lines:
            return []
        self._check_settings(self._record(lines[0], 1).get("settings"))
        run = self.partial if self.partial.exists() else self.run_path
        size = run.stat().st_size if run.exists() else 0
        done: list[QueryTime] = []
        for number, line in enumerate(lines[1:], start=2):
            try:
                time_of = QueryTime(**self._record(line, number))
            except TypeError as error:
                raise self._damaged(number) from error
            if time_of.end > size:  # noted, and the run's own lines were lost with the machine
                break
            done.append(time_of)
        kept = sum(len(line) + 1 for line in lines[: len(done) + 1])
        os.truncate(self.path, kept)
        if run.exists():
            os.truncate(run, done[-1].end if done else 0)
        return done

    def start(self, *, fresh: bool) -> None:
        """Make both files ready to be added to: new ones, or those that are there."""
        self.run_path.parent.mkdir(parents=True, exist_ok=True)
        if fresh:
            self.partial.write_bytes(b"")
            write_text(self.path, json.dumps({"settings": self.settings}) + "\n")
        elif not self.partial.exists() and self.run_path.exists():
            os.replace(self.run_path, self.partial)

    def append(
        self, run: BinaryIO, lines: str, query_id: str, n_pairs: int, seconds: float
    ) -> QueryTime:
        """Add a query's lines to the open ``run``, and only then note it as done."""
        run.write(lines.encode())
        run.flush()
        time_of = QueryTime(query_id, n_pairs, seconds, run.tell())
        with self.path.open("ab") as notes:
            notes.write(json.dumps(asdict(time_of)).encode() + b"\n")
        return time_of

    def finish(self) -> None:
        """Give the run its name, now that every query is in it."""
        if self.partial.exists():
            with self.partial.open("rb+") as run:
                synced(run)
            os.replace(self.partial, self.run_path)

    def _record(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._damaged(number) from error
        if not isinstance(record, dict):
            raise self._damaged(number)
        return record

    def _check_settings(self, before: Any) -> None:
        if not isinstance(before, dict):
            raise self._damaged(1)
        check_unchanged(self.run_path, before, self.settings)

    def _damaged(self, number: int) -> DataFormatError:
        return DataFormatError(
            f"{self.path}:{number}: not a line that an evaluation wrote; give another output "
            "folder, or discard what is there with --restart (restart=True)"
        )

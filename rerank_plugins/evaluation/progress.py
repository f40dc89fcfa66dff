"""How far a reranking came, kept beside the run file so that it can be gone on with."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from rerank_plugins.errors import DataFormatError

__all__ = ["ProgressFile", "QueryTime"]


@dataclass(frozen=True, slots=True)
class QueryTime:
    """How long one query took: its texts in, its ranking out, nothing else.

    ``end`` is where its lines end in the run file.
    """

    query_id: str
    pairs: int
    seconds: float
    end: int


class ProgressFile:
    """The run file and, beside it, one line a finished query behind a first line of settings."""

    def __init__(self, run_path: Path, settings: dict[str, Any]) -> None:
        self.run_path = run_path
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
        size = self.run_path.stat().st_size if self.run_path.exists() else 0
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
        if self.run_path.exists():
            os.truncate(self.run_path, done[-1].end if done else 0)
        return done

    def start(self, *, fresh: bool) -> None:
        """Write the first line, unless an earlier start did."""
        self.run_path.parent.mkdir(parents=True, exist_ok=True)
        if fresh or not self.path.exists() or not self.path.read_bytes().endswith(b"\n"):
            self.run_path.write_bytes(b"")
            self.path.write_text(json.dumps({"settings": self.settings}) + "\n", encoding="utf-8")

    def append(
        self, run: BinaryIO, lines: str, query_id: str, pairs: int, seconds: float
    ) -> QueryTime:
        """Add a query's lines to the open ``run``, and only then note it as done."""
        run.write(lines.encode())
        run.flush()
        time_of = QueryTime(query_id, pairs, seconds, run.tell())
        with self.path.open("ab") as notes:
            notes.write(json.dumps(asdict(time_of)).encode() + b"\n")
        return time_of

    def _record(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError as error:
            raise self._damaged(number) from error
        if not isinstance(record, dict):
            raise self._damaged(number)
        return record

    def _check_settings(self, before: Any) -> None:
        if not isinstance(before, dict):
            raise self._damaged(1)
        changed = [
            f"{name} was {before.get(name)!r} and is {self.settings.get(name)!r}"
            for name in {**before, **self.settings}
            if not _same(before.get(name), self.settings.get(name))
        ]
        if changed:
            raise DataFormatError(
                f"{self.run_path} was begun with other settings: {'; '.join(changed)}. Give "
                "another output folder, or discard what is there with --restart (restart=True)"
            )

    def _damaged(self, number: int) -> DataFormatError:
        return DataFormatError(
            f"{self.path}:{number}: not a line that an evaluation wrote; give another output "
            "folder, or discard what is there with --restart (restart=True)"
        )


def _same(before: Any, now: Any) -> bool:
    """Compare two settings; scores may differ by what rounding to another dtype's digits does."""
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = zip(before, now, strict=True)
        return all(math.isclose(left, right, rel_tol=0.01, abs_tol=0.02) for left, right in pairs)
    return bool(before == now)

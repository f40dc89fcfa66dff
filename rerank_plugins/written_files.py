"""Files that are written whole or not at all, into folders that one process at a time writes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from rerank_plugins.errors import OutputInUseError

__all__ = ["PARTIAL", "locked_folder", "synced", "whole_file", "write_text"]

PARTIAL = ".partial"
"""The end of the name of a file that is not finished."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[IO[bytes]]:
    """Yield a binary file that becomes ``path`` when the block ends without an error.

    Until then it has a name of its own in the same folder, which is made if need be. What was at
    ``path`` stays there when writing fails, as on a full disk. The next writer of the same path
    takes over what a killed process left.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            yield file
            synced(file)
        os.replace(partial, path)
    except BaseException:
        with suppress(FileNotFoundError):
            partial.unlink()
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8 by `whole_file`."""
    with whole_file(path) as file:
        file.write(text.encode())


def synced(file: IO[bytes]) -> None:
    """Bring to the disk what was written so far."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def locked_folder(folder: str | Path) -> Iterator[None]:
    """Make ``folder`` this process's to write into; `OutputInUseError` if it is another's.

    A process that ends, in whatever way, gives it back. What a killed one left half-written is
    removed first.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = _locked(folder)
    try:
        for left in folder.glob(f".*{PARTIAL}"):
            left.unlink()
        yield
    finally:
        os.close(lock)


def _locked(folder: Path) -> int:
    try:
        return _lock(folder)
    except (BlockingIOError, PermissionError) as error:
        # Windows says "permission denied" of a locked byte; elsewhere that is the folder's own.
        if isinstance(error, PermissionError) and sys.platform != "win32":
            raise
        raise OutputInUseError(
            f"{folder} is being written by another process; wait until it has ended, or give "
            "another output folder"
        ) from None


if sys.platform == "win32":

    def _lock(folder: Path) -> int:
        import msvcrt

        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

else:

    def _lock(folder: Path) -> int:
        import fcntl

        # The folder itself is locked, so that no lock file is left behind.
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

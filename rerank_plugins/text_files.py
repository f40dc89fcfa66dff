"""The one reader of text that users give: UTF-8 with or without a mark, faults by file and line."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from rerank_plugins.errors import DataFormatError
from rerank_plugins.progress import Advance

__all__ = ["STANDARD_INPUT", "check_writable", "decoded", "json_object", "numbered_lines"]

STANDARD_INPUT = "standard input"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_REPORT_EVERY = 1 << 20  # bytes


def numbered_lines(
    source: Path | None,
    advance: Advance | None = None,
    *,
    seekable: bool = False,
    begin: tuple[int, int] = (1, 0),
) -> Iterator[tuple[int, int, bytes]]:
    """Yield (1-based line number, first byte, line with its end); None is standard input.

    A byte order mark is passed over. ``.gz``, ``.bz2`` and ``.xz`` are decompressed, unless the
    caller wants to come back to a byte (``seekable``). ``advance`` is called with the bytes read
    from the file. ``begin`` is the number and the first byte of a line to begin with, as yielded
    earlier. Raises `DataFormatError` where the file cannot be read.
    """
    name = str(source or STANDARD_INPUT)
    if source and (source.suffix == ".zst" or (seekable and source.suffix in _OPENERS)):
        raise DataFormatError(
            f"{source} is compressed, and its lines are read in any order; decompress it first"
            if seekable
            else f"{source} is compressed with zstd, which is not read here; decompress it first"
        )
    (first, start), reported = begin, 0
    number = first - 1
    try:
        with _opened(source, start) as (file, raw_file):
            for number, line in enumerate(file, start=first):
                if number == 1 and line.startswith(_BYTE_ORDER_MARK):
                    start, line = len(_BYTE_ORDER_MARK), line[len(_BYTE_ORDER_MARK) :]
                yield number, start, line
                start += len(line)
                if advance and (position := raw_file.tell()) - reported >= _REPORT_EVERY:
                    advance(position - reported)
                    reported = position
            if advance:
                advance(raw_file.tell() - reported)
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataFormatError(
            f"{name}:{number + 1}: damaged compressed data ({error}); write or download it again"
        ) from error
    except OSError as error:
        raise DataFormatError(
            f"{name} cannot be read: {error.strerror or error}; check the path"
        ) from error


class _opened:
    """The lines of a source, and the file whose position says how far reading came."""

    def __init__(self, source: Path | None, start: int) -> None:
        self._source, self._start = source, start

    def __enter__(self) -> tuple[Iterator[bytes], IO[bytes]]:
        if self._source is None:
            # A test or a caller may have put plain lines in the place of standard input.
            raw = getattr(sys.stdin, "buffer", None)
            lines = raw if raw is not None else (line.encode() for line in sys.stdin)
            self._file: IO[bytes] = io.BytesIO()
            return iter(lines), self._file
        self._file = self._source.open("rb")
        lines = self._file
        if self._source.suffix in _OPENERS:
            lines = _OPENERS[self._source.suffix](self._file)
        if self._start:
            lines.seek(self._start)
        return iter(lines), self._file

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def decoded(raw: bytes, name: str | Path | None, number: int) -> str:
    """Return the text of a line, or raise `DataFormatError` with its number."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise DataFormatError(
            f"{name or STANDARD_INPUT}:{number}: not UTF-8 ({error.reason} at byte {error.start} "
            "of the line); convert the file to UTF-8"
        ) from None


def json_object(
    raw: bytes, name: str | Path | None, number: int, *, expected: str
) -> dict[str, Any]:
    """Return the JSON object on a line; ``expected`` says in an error what belongs there."""
    where = f"{name or STANDARD_INPUT}:{number}"
    text = decoded(raw, name, number)
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataFormatError(
            f"{where}: not JSON ({error.msg} at column {error.colno}): {shown(text)}"
        ) from None
    except RecursionError:
        raise DataFormatError(f"{where}: JSON that is nested too deeply: {shown(text)}") from None
    except ValueError:  # Python reads no number of more than 4,300 digits
        raise DataFormatError(f"{where}: a number has too many digits: {shown(text)}") from None
    if isinstance(record, list):
        raise DataFormatError(
            f"{where}: a JSON array, where {expected} is expected on each line; "
            "put each element on a line of its own"
        )
    if not isinstance(record, dict):
        raise DataFormatError(f"{where}: expected {expected}, got {shown(text)}")
    return record


def check_writable(text: str, what: str, where: str) -> str:
    """Return ``text``, or raise `DataFormatError` where it holds half a character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataFormatError(
            f"{where}: {what} holds half a character (\\u{ord(text[error.start]):04x}, a lone "
            "surrogate); write the whole character"
        ) from None
    return text


def shown(text: str) -> str:
    """Return the beginning of a text for an error message, on one line."""
    return ascii(text[:60].rstrip("\r\n")) if not text.isprintable() else repr(text[:60])

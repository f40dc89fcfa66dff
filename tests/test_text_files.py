"""Text that users give: with a mark or without, compressed or not, and its faults by line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from evaluation_files import small_collection, write_files

from rerank_plugins.errors import DataFormatError
from rerank_plugins.evaluation import read_collection
from rerank_plugins.text_files import json_object, numbered_lines

MARK = b"\xef\xbb\xbf"


def test_a_byte_order_mark_is_no_part_of_any_file(tmp_path: Path) -> None:
    plain = small_collection(tmp_path)
    (tmp_path / "marked").mkdir()
    files = write_files(tmp_path / "marked")
    for path in files.values():
        path.write_bytes(MARK + path.read_bytes())
    marked = read_collection(**files)
    assert marked.check() == plain.check()
    for query_id in plain.query_ids:
        candidates = plain.candidates(query_id)
        assert marked.candidates(query_id) == candidates
        assert marked.passages(candidates) == plain.passages(candidates)
    assert (marked.queries, marked.qrels) == (plain.queries, plain.qrels)


def test_the_first_byte_of_a_line_is_where_it_stands_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(MARK + "één\n\ntwo".encode())
    content = path.read_bytes()
    for number, start, line in numbered_lines(path):
        assert content[start : start + len(line)] == line
        assert number in (1, 2, 3)


def test_what_is_read_in_any_order_must_not_be_compressed(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress(b"{}\n"))
    with pytest.raises(DataFormatError, match="decompress it first"):
        list(numbered_lines(tmp_path / "corpus.jsonl.gz", seekable=True))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"\xff", "f:7: not UTF-8"),
        (b"[" * 100_000 + b"]" * 100_000, "f:7: JSON that is nested too deeply"),
        (b'{"m": ' + b"9" * 5_000 + b"}", "f:7: a number has too many digits"),
        (b'["a", "b"]', "f:7: a JSON array, where a thing is expected on each line"),
        (b'"a"', "f:7: expected a thing, got"),
        (b"{", "f:7: not JSON"),
    ],
)
def test_faults_of_json_lines_are_one_line_with_file_and_number(
    line: bytes, complaint: str
) -> None:
    with pytest.raises(DataFormatError) as error:
        json_object(line, "f", 7, expected="a thing")
    assert str(error.value).startswith(complaint)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("key", ["_id", "title", "text"])
def test_half_a_character_is_found_when_the_file_is_read(tmp_path: Path, key: str) -> None:
    files = write_files(tmp_path)
    record = {"_id": "d9", "title": "t", "text": "x"} | {key: "a \ud800"}
    with files["corpus"].open("a") as file:
        file.write(json.dumps(record) + "\n")
    with pytest.raises(DataFormatError, match=rf'corpus:6: "{key}" holds half a character'):
        read_collection(**files)

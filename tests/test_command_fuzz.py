"""Damaged input of every kind: a command says what is wrong in one line, and never a traceback."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from evaluation_files import Overlap, write_files

from rerank_plugins.cli import main
from rerank_plugins.commands import evaluate, rerank

# What real files go wrong by: other encodings, other formats, extremes, terminals, half lines.
PIECES = [
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\x00", b"\x1b[2J", b"\r", b"\n", b"\t", b" ", b"\xc3"),
    *(b"{", b"}", b"[", b'"', b"\\ud800", b"null", b"true", b"-1", b"1e999", b"NaN", b"inf"),
    *(b"9223372036854775808", b"9" * 5_000, b"[" * 20_000, b'{"text": 1}', b'{"_id": "d1"}'),
    *(b"query-id\tcorpus-id\tscore\n", b"q1 Q0 d1 1 1 x\n", b"\xe2\x80\xae", b"\xf0\x9f\x98\x80"),
]


class Loaded(Overlap):
    def close(self) -> None:
        """Hold nothing."""


@pytest.fixture(autouse=True)
def _scorers_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def shared_scorer(model: str, **options: Any) -> Loaded:
        return Loaded(model=model)

    monkeypatch.setattr(evaluate, "shared_scorer", shared_scorer)
    monkeypatch.setattr(rerank, "shared_scorer", shared_scorer)


def mutated(content: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        start = chance.randrange(len(content) + 1)
        end = min(len(content), start + chance.choice([0, 0, 1, 3, 20]))
        content = content[:start] + chance.choice([b"", *PIECES]) + content[end:]
    return content


def run_mutated(folder: Path, chance: random.Random) -> list[str]:
    files = write_files(folder)
    files["passages"] = folder / "passages"
    files["passages"].write_text(
        '{"id": "a", "title": "Fox", "text": "a red animal"}\n{"text": "tea"}\n'
    )
    name = chance.choice(list(files))
    files[name].write_bytes(mutated(files[name].read_bytes(), chance))
    if name == "passages":
        more = chance.choice([[], ["--jsonl"], ["--jsonl", "--json"]])
        return ["rerank", "-q", "red fox", str(files[name]), *more]
    words = [word for part in ("corpus", "queries", "qrels", "run") for word in (f"--{part}", part)]
    words = [str(files[word]) if word in files else word for word in words]
    return ["evaluate", *words, "--output", str(folder / "out"), "--restart", "--measure", "RR"]


@pytest.mark.parametrize(
    "n_mutations", [80, pytest.param(2_000, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_a_damaged_file_is_an_error_of_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], n_mutations: int
) -> None:
    n_refused = 0
    for seed in range(n_mutations):
        words = run_mutated(tmp_path, random.Random(seed))
        status = main(words)
        output = capsys.readouterr()
        assert status in (0, 1), (seed, words)
        if status:
            n_refused += 1
            assert output.out == "", seed
            assert output.err.startswith("rerank-plugins: "), (seed, output.err)
            assert len(output.err.splitlines()) == 1, (seed, output.err)
            for foreign in ("Error(", "None", "Traceback", "\x1b"):
                assert foreign not in output.err, (seed, output.err)
    assert 0.2 * n_mutations < n_refused < n_mutations

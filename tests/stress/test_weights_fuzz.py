"""A weight file with damaged bytes: it loads, or is refused by name; the process goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import write_card
from model_shapes import CARDS

_LOADS = """
import random, sys, warnings
from pathlib import Path
from rerank_plugins import CrossEncoderScorer
from rerank_plugins.errors import RerankError

warnings.simplefilter("ignore")
path = Path(sys.argv[1]) / "model.safetensors"
original = path.read_bytes()
header = 8 + int.from_bytes(original[:8], "little")
for seed in range(int(sys.argv[2])):
    chance = random.Random(seed)
    content = bytearray(original)
    for _ in range(chance.choice([1, 1, 4])):
        # Most of the damage goes where the names, shapes and offsets are.
        place = chance.randrange(header if chance.random() < 0.8 else len(content))
        kind = chance.random()
        if kind < 0.6:
            content[place] = chance.randrange(256)
        elif kind < 0.8:
            del content[place : place + chance.choice([1, 8, 1000])]
        else:
            content[place:place] = chance.choice([b"0", b"9" * 30, b'"', b"[" * 2000, b"\\xff"])
    end = len(content) if chance.random() < 0.9 else chance.randrange(len(content))
    path.write_bytes(content[:end])
    try:
        with CrossEncoderScorer(str(path.parent), device="cpu") as scorer:
            scorer.score("why", ["a list"])
        said = "loads"
    except RerankError as error:
        said = str(error)
        assert len(said) > 20, (seed, said)
    print(seed, said)
"""


@pytest.mark.slow
def test_damaged_bytes_are_refused_or_load(tmp_path: Path) -> None:
    write_card(next(card for card in CARDS if card.weights != "pytorch_model.bin"), tmp_path)
    n_files = 60
    done = subprocess.run(
        [sys.executable, "-c", _LOADS, str(tmp_path), str(n_files)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, (done.stdout.splitlines()[-1:], done.stderr)
    lines = done.stdout.splitlines()
    assert len(lines) == n_files
    assert 0 < sum(not line.endswith(" loads") for line in lines)

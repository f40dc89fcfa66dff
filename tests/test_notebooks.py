"""The notebooks run from top to bottom, offline, and are readable without running them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
DEMO = ("choose_a_model", "langchain_rag", "llama_index_rag")
NAMES = ("adapt_to_your_documents", *DEMO)


def test_every_notebook_is_tested() -> None:
    assert tuple(sorted(path.stem for path in FOLDER.glob("*.ipynb"))) == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs(name: str) -> None:
    command = [sys.executable, str(FOLDER / "run.py"), "--check", name]
    # Training on all questions takes minutes; what it came to is in the outputs that are kept.
    small = {**os.environ, "SMALL_SAMPLE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=small)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{name}.ipynb: runs\n"


@pytest.mark.parametrize("name", NAMES)
def test_its_outputs_are_kept(name: str) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert len(outputs) > 5
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    texts = [output.get("text", "") or output.data.get("text/plain", "") for output in outputs]
    assert not re.findall(r"/(?:tmp|home|root|Users)/.*", "\n".join(texts))


def test_adapting_helps_on_questions_that_were_held_out() -> None:
    text = (FOLDER / "adapt_to_your_documents.ipynb").read_text(encoding="utf-8")
    found = re.findall(r"adapted against embedded +(\S+) +([+-]\S+)  p = (\S+?)\\n", text)
    assert [measure for measure, _, _ in found] == ["RR@10", "nDCG@10"]
    assert all(float(difference) > 0.01 and float(p) < 0.05 for _, difference, p in found)


@pytest.mark.parametrize("name", DEMO)
def test_its_figures_are_the_published_ones(name: str) -> None:
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    published = json.loads((FOLDER.parent / "benchmarks/results/demo.json").read_text("utf-8"))
    expected = [system["figures"]["nDCG@10"] for system in published["systems"][:3]]
    if name == "choose_a_model":
        names = ["first stage", "embedded"]  # its weight is another one
        rows = re.findall(r"│ (first stage|embedded) +│ +(0\.\d+)", text)
    else:
        names = ["first stage", "reranked", "both"]
        rows = re.findall(r"(first stage|reranked|both) +nDCG@10 (0\.\d+)", text)
    assert {found for found, _ in rows} == set(names)
    for found, value in rows:
        # The published ones may be of bfloat16.
        assert float(value) == pytest.approx(expected[names.index(found)], abs=0.01)

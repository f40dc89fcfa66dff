"""Each short example prints what its docstring says, offline, and is short enough to paste."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
from pathlib import Path

import pytest

from rerank_plugins import close_shared_scorers

EXAMPLES = Path(__file__).parents[1] / "examples"
# Those over Python's documentation, and those of other engines, have tests of their own.
PROGRAMS = sorted(EXAMPLES.glob("[!_]*.py"), key=lambda path: path.name)
SHORT = [path for path in PROGRAMS if not re.search("_faiss_rag|^scale_", path.name)]


@pytest.mark.parametrize("program", SHORT, ids=lambda path: path.stem)
def test_it_prints_what_it_says(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    said = re.search(r'^"""(.*?)"""', program.read_text("utf-8"), re.DOTALL)
    assert said is not None
    expected = re.findall(r"((?:^    .*\n)+)", said[1].rpartition("prints")[2], re.MULTILINE)[-1]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(program), run_name="__main__")
    close_shared_scorers()
    assert printed.getvalue() == re.sub(r"^    ", "", expected, flags=re.MULTILINE)


@pytest.mark.parametrize("program", SHORT, ids=lambda path: path.stem)
def test_it_is_short_enough_to_paste(program: Path) -> None:
    assert len(program.read_text("utf-8").splitlines()) <= 60


def test_every_program_is_in_the_list_of_examples() -> None:
    listed = (EXAMPLES / "README.md").read_text("utf-8")
    assert [path.name for path in PROGRAMS if f"`{path.name}`" not in listed] == []

"""The README's code runs as printed, and its claims of version and files hold."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from rerank_plugins import __version__
from rerank_plugins.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = [
    (code, BLOCKS[at + 1][1] if BLOCKS[at + 1][0] == "text" else "")
    for at, (language, code) in enumerate(BLOCKS)
    if language == "python"
]
LINES = [line for language, code in BLOCKS if language == "bash" for line in code.splitlines()]


@pytest.mark.parametrize(("code", "printed"), PYTHON, ids=range(len(PYTHON)))
def test_a_python_block_prints_what_stands_below_it(code: str, printed: str) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert out.getvalue() == printed


@pytest.mark.parametrize("line", LINES)
def test_a_shell_line_runs_or_names_what_exists(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(line)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif words[:2] == ["pip", "install"]:
        extra = re.fullmatch(r"rerank_plugins\[(.+)\]", words[2])
        assert extra is not None
        assert f"\n{extra[1]} = [" in (ROOT / "pyproject.toml").read_text()
    else:
        assert Path(words[0]).name == "rerank-plugins"
        try:
            status = main(words[1:])
        except SystemExit as stopped:  # --help ends this way
            status = int(stopped.code or 0)
        assert status == 0
        assert capsys.readouterr().out


@pytest.mark.parametrize("target", re.findall(r"\]\(((?!http)[^)#]+)\)", README))
def test_a_link_leads_to_a_file(target: str) -> None:
    assert (ROOT / target).exists()


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert {language for language, _ in BLOCKS} == {"bash", "python", "text"}
    assert len(PYTHON) >= 3


def test_the_changelog_begins_with_this_version() -> None:
    newest = re.search(r"^## (\d\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__

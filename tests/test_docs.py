"""The documentation's code runs as printed, page by page, and its pages are all reached."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from rerank_plugins.cli import COMMANDS

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.glob("[!_]*.md"))
_BLOCK = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the fenced blocks of a page: language and text."""
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in page.read_text()], ids=lambda page: page.stem
)
def test_the_python_of_a_page_prints_what_stands_below_it(page: Path) -> None:
    found, names = blocks(page), dict[str, Any](__name__="docs")
    for at, (language, code) in enumerate(found):
        if language != "python":
            continue
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            block = compile(code, f"{page.name}, block {at}", "exec", dont_inherit=True)
            exec(block, names)
        follows = found[at + 1] if at + 1 < len(found) else ("", "")
        if follows[0] == "text":
            assert out.getvalue() == follows[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_that_a_page_names_exist(page: Path) -> None:
    for language, code in blocks(page):
        for line in code.splitlines() if language == "bash" else []:
            if line.startswith("rerank-plugins "):
                assert shlex.split(line.rstrip("\\"))[1] in COMMANDS


def test_every_page_is_in_the_table_of_contents() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    contents = set(re.findall(r"^(\w+)$", index, re.MULTILINE))
    assert {page.stem for page in PAGES} - {"index"} <= contents

"""The way the package is built: which module may import which, and what of it is public."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import rerank_plugins
from rerank_plugins.errors import MissingExtraError

PACKAGE = Path(rerank_plugins.__file__).parent
DOCS = Path(__file__).parent.parent / "docs"

# A module, or a module of a folder, imports its own folder and what stands before it here.
ORDER = """
errors checks progress terminal shards text_files written_files models
interpolation ranking fingerprint options
cross_encoder.pairs cross_encoder.tokens cross_encoder.forward cross_encoder.checkpoint
cross_encoder.scheduling cross_encoder registry rerank_plugins remote_api remote_http remote
adapters langchain llama_index faiss_documents faiss_filter faiss_vectors faiss_folder faiss
evaluation plots dataset dataset_files arrow workloads serving ray_serve ray testing demo commands
cli __main__
"""
# A pickled scorer comes back through the registry, which makes scorers.
UP = {("cross_encoder.scorer", "registry")}


def place(module: str) -> int:
    """Return where in `ORDER` the longest name stands that ``module`` is, or is in."""
    order, parts = ORDER.split(), module.split(".")
    names = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    found = [order.index(name) for name in names if name in order]
    assert found, f"{module} has no place yet: name it in ORDER and in docs/architecture.md"
    return found[0]


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__") or "rerank_plugins", path


def imported(path: Path) -> Iterator[str]:
    """Yield the modules of the package that are imported anywhere in a file, functions included."""
    known = dict(modules())
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, inside = name.partition(".")
            if top == "rerank_plugins":
                # The name may be one of a module, or of what stands in it.
                yield inside if inside in known else inside.rpartition(".")[0] or "rerank_plugins"


def test_imports_go_down() -> None:
    up = {
        (module, name)
        for module, path in modules()
        for name in imported(path)
        if place(name) > place(module)
    }
    assert up == UP


def test_the_architecture_page_has_the_same_order() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^## What may import what$.*?^```text\n(.*?)^```$", page, re.M | re.S)
    assert block.split() == ORDER.split()


def documented() -> dict[str, set[str] | None]:
    """Return the names that the reference lists for each module; None for all of `__all__`."""
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    found: dict[str, set[str] | None] = {}
    for section in page.split("\n## ")[1:]:
        module = section.partition("\n")[0].strip("`")
        classes = re.findall(rf"^\.\. autoclass:: {module}\.(\w+)$", section, re.M)
        members = re.search(r"^\.\. automodule:: \S+\n   :members:(.*)$", section, re.M)
        names = re.findall(r"\w+", members[1]) if members else []
        found[module] = None if members and not names else {*classes, *names}
    return found


@pytest.mark.parametrize("module", documented())
def test_what_a_module_lists_is_what_is_documented(module: str) -> None:
    try:
        found = importlib.import_module(module)
    except MissingExtraError as error:
        pytest.skip(str(error))
    assert documented()[module] in (None, set(found.__all__))
    for value in (getattr(found, name) for name in found.__all__):
        if inspect.isclass(value) or inspect.isroutine(value):
            assert value.__doc__, f"{value} has no docstring"


def test_the_types_that_callers_name_are_public() -> None:
    names = {"ScoreUnit", "Scorer", "Stats", "Window", "close_shared_scorers", "shared_scorer"}
    assert names <= set(rerank_plugins.__all__)


def test_all_other_modules_are_private_by_statement() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    section = page.partition("## What is public")[2].partition("\n## ")[0]
    names = re.findall(r"`(?:rerank_plugins)?(\.\w+)?`", section)
    assert {f"rerank_plugins{name}" for name in names} == documented().keys()
    assert "Every other module may change" in " ".join(section.split())

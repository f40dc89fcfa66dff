"""What importing the package and its adapters pulls in, seen from fresh interpreters."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "sentence_transformers", "tokenizers", "numpy", "pandas", "ray")
FRAMEWORKS = ("langchain_core", "langchain_classic", "llama_index", "pydantic")


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )


def loaded_by(statement: str, names: tuple[str, ...]) -> list[str]:
    result = run(f"import sys\n{statement}\nprint(*(n for n in {names} if n in sys.modules))")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.split()


def test_the_package_imports_nothing_heavy_and_no_framework() -> None:
    assert loaded_by("import rerank_plugins", HEAVY + FRAMEWORKS) == []


def test_the_langchain_adapter_imports_neither_torch_nor_the_other_framework() -> None:
    names = (*HEAVY, "llama_index", "langchain_classic")
    assert loaded_by("import rerank_plugins.langchain", names) == []


def test_the_llama_index_adapter_imports_neither_torch_nor_the_other_framework() -> None:
    # numpy is llama_index's own import.
    names = ("torch", "transformers", "sentence_transformers", "langchain_core", "langchain")
    assert loaded_by("import rerank_plugins.llama_index", names) == []


@pytest.mark.parametrize("module", ["langchain", "llama_index"])
def test_making_an_adapter_loads_no_model(module: str) -> None:
    made = (
        f"from rerank_plugins.{module} import CrossEncoderRerank\nCrossEncoderRerank(device='cpu')"
    )
    assert loaded_by(made, ("torch", "transformers")) == []


@pytest.mark.parametrize(
    ("module", "framework", "extra"),
    [
        ("langchain", "langchain_core", "langchain"),
        ("llama_index", "llama_index", "llama-index"),
        ("ray", "ray", "ray"),
    ],
)
def test_a_missing_framework_is_answered_with_the_install_line(
    module: str, framework: str, extra: str
) -> None:
    result = run(
        f"import sys\nsys.modules[{framework!r}] = None\n"
        "from rerank_plugins.errors import MissingExtraError\n"
        f"try:\n    import rerank_plugins.{module}\n"
        "except MissingExtraError as error:\n    print(error)"
    )
    assert f"pip install 'rerank_plugins[{extra}]'" in result.stdout, result.stderr
    assert framework in result.stdout

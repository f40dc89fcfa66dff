"""What is installed: the built wheel holds what the code looks for, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path
from typing import get_args

import pytest

import rerank_plugins

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    assert wheel.name.startswith(f"rerank_plugins-{rerank_plugins.__version__}-")
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.parametrize(
    "name",
    [
        "rerank_plugins/py.typed",
        "rerank_plugins/cross_encoder/scorer.py",
        "rerank_plugins/embedded/model.safetensors",
        "rerank_plugins/embedded/config.json",
        "rerank_plugins/embedded/tokenizer.json",
        "rerank_plugins/embedded/README.md",
    ],
)
def test_the_wheel_holds_what_the_package_reads(wheel_names: set[str], name: str) -> None:
    assert name in wheel_names


def test_the_wheel_holds_the_judged_questions(wheel_names: set[str]) -> None:
    assert any(name.endswith("questions.jsonl") for name in wheel_names)


def test_the_wheel_holds_no_tests_and_no_work_files(wheel_names: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"rerank_plugins"}


def test_frameworks_are_only_in_their_extras() -> None:
    base = {
        re.split(r"[\[<>=!~ ;]", requirement)[0].lower()
        for requirement in requires("rerank_plugins") or []
        if "extra ==" not in requirement
    }
    assert {"torch", "transformers"} <= base
    assert not base & {"langchain-core", "llama-index-core", "faiss-cpu", "sentence-transformers"}


@pytest.mark.parametrize("name", rerank_plugins.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(rerank_plugins, name)
    # A literal type, such as ScoreUnit, cannot carry a docstring.
    assert isinstance(value, str) or get_args(value) or value.__doc__


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        rerank_plugins.no_such_name  # noqa: B018

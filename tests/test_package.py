"""What is installed: the built wheel holds what the code looks for, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from email.message import Message
from importlib.metadata import requires
from pathlib import Path
from typing import get_args

import pytest

import rerank_plugins
from rerank_plugins.cross_encoder.forward.native.build import is_for_this_platform

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    (path,) = built.glob("*.whl")
    assert path.name.startswith(f"rerank_plugins-{rerank_plugins.__version__}-")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def wheel_names(wheel: zipfile.ZipFile) -> set[str]:
    return set(wheel.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile, wheel_names: set[str]) -> Message:
    (name,) = (name for name in wheel_names if name.endswith(".dist-info/METADATA"))
    return message_from_string(wheel.read(name).decode())


def test_a_wheel_with_compiled_parts_is_for_one_platform(
    built: Path, wheel_names: set[str]
) -> None:
    libraries = [name for name in wheel_names if name.endswith(".so")]
    (path,) = built.glob("*.whl")
    assert path.name.endswith("-py3-none-any.whl") == (not libraries)
    if is_for_this_platform() and shutil.which("g++"):
        assert libraries


@pytest.mark.slow
def test_without_a_compiler_the_wheel_is_for_all_platforms(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    environment = {**os.environ, "CXX": "no-such-compiler"}
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=environment)
    (path,) = tmp_path.glob("*-py3-none-any.whl")
    names = zipfile.ZipFile(path).namelist()
    assert "rerank_plugins/cross_encoder/forward/native/forward.cpp" in names
    assert not [name for name in names if name.endswith(".so")]


@pytest.mark.parametrize(
    "name",
    [
        "rerank_plugins/py.typed",
        "rerank_plugins/cross_encoder/scorer.py",
        "rerank_plugins/embedded/model.safetensors",
        "rerank_plugins/embedded/config.json",
        "rerank_plugins/embedded/tokenizer.json",
        "rerank_plugins/embedded/README.md",
        "rerank_plugins/embedded_l6/model.safetensors",
        "rerank_plugins/models.json",
        "rerank_plugins/serving/page/icon.svg",
        "rerank_plugins/serving/page/index.html",
        "rerank_plugins/testing/scorer.py",
    ],
)
def test_the_wheel_holds_what_the_package_reads(wheel_names: set[str], name: str) -> None:
    assert name in wheel_names


def test_the_wheel_holds_the_demos_corpus_and_not_its_maker(wheel_names: set[str]) -> None:
    data = {name.partition("demo/data/")[2] for name in wheel_names if "demo/data/" in name}
    assert data == {"corpus.jsonl.gz", "qrels.txt", "queries.jsonl"}
    assert not any("demo_corpus" in name for name in wheel_names)


def test_the_wheel_holds_no_tests_and_no_work_files(wheel_names: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"rerank_plugins"}


def test_the_wheel_is_small_enough_for_a_package_index(wheel: zipfile.ZipFile) -> None:
    assert sum(entry.compress_size for entry in wheel.infolist()) <= 45e6


def test_the_metadata_says_what_a_reader_of_the_index_looks_for(metadata: Message) -> None:
    assert metadata["Author"] == "The rerank_plugins authors"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    classifiers = metadata.get_all("Classifier") or []
    assert "Typing :: Typed" in classifiers
    oldest = metadata["Requires-Python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {oldest}" in classifiers


def test_the_source_distribution_can_be_tested_and_documented(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "constraints.txt"} <= names
    assert {"docs/conf.py", "tests/conftest.py", "examples/README.md"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith(".venv")]


def test_the_citation_is_of_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {rerank_plugins.__version__}\n" in citation
    assert "\nlicense: Apache-2.0\n" in citation


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

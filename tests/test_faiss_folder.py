"""A saved FAISS store is the old one or the new one, whoever reads, writes or is killed."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding

from rerank_plugins.errors import DataFormatError, InvalidArgumentError, InvalidTypeError
from rerank_plugins.faiss import FaissVectorStore

EMBEDDING = DeterministicFakeEmbedding(size=4)
on_posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def saved(folder: Path, n: int) -> FaissVectorStore:
    store = FaissVectorStore.from_texts([f"{n}: {i}" for i in range(n)], EMBEDDING)
    store.save_local(folder)
    return store


def loaded(folder: Path) -> FaissVectorStore:
    store = FaissVectorStore.load_local(folder, EMBEDDING)
    for document in store.similarity_search("x", k=99):
        assert document.page_content.startswith(f"{len(store)}: ")
    return store


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name != ".lock"}


@on_posix
def test_a_save_that_is_killed_anywhere_leaves_the_old_store_or_the_new_one(tmp_path: Path) -> None:
    new = FaissVectorStore.from_texts([f"3: {i}" for i in range(3)], EMBEDDING)
    sizes, calls, ended = [], 0, False
    while not ended:
        calls += 1
        saved(tmp_path, 2)
        child = os.fork()
        if child == 0:
            left = calls

            def die(frame: object, event: str, function: Any) -> None:
                nonlocal left
                if event == "c_call" and function.__module__ in ("posix", "_io", "fcntl"):
                    left -= 1
                    if left == 0:
                        os._exit(9)

            sys.setprofile(die)
            new.save_local(tmp_path)
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        sizes.append(len(loaded(tmp_path)))
        saved(tmp_path, 1)
        assert len(names(tmp_path)) == 2, "the next save clears what is left"
    assert calls > 10
    assert sizes == sorted(sizes)
    assert set(sizes) == {2, 3}


def write(folder: Path, seconds: float, n: int) -> None:
    store = FaissVectorStore.from_texts([f"{n}: {i}" for i in range(n)], EMBEDDING)
    latest = time.monotonic() + seconds
    while time.monotonic() < latest:
        store.add_texts([f"{n}: 0"], ids=["again"])
        store.delete(["again"])
        store.save_local(folder)


def read(folder: Path, seconds: float) -> None:
    latest = time.monotonic() + seconds
    while time.monotonic() < latest:
        assert len(loaded(folder)) in (5, 6)


@pytest.mark.parametrize("seconds", [3.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_two_writers_and_two_readers_share_a_folder(tmp_path: Path, seconds: float) -> None:
    saved(tmp_path, 5)
    context = multiprocessing.get_context("spawn")  # OpenMP does not survive a fork
    processes = [context.Process(target=write, args=(tmp_path, seconds, n)) for n in (5, 6)]
    processes += [context.Process(target=read, args=(tmp_path, seconds)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(seconds + 60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(loaded(tmp_path)) in (5, 6)
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize(
    ("text", "metadata"),
    [
        ("half \ud835", {}),
        ("x", {"a": "half \ud835"}),
        ("x", {"\udc00": 1}),
        ("x", {"a": float("nan")}),
        ("x", {"a": 10**5000}),
        ("x", {"a": (1, 2)}),
        ("x", {"a": {1: 2}}),
        ("x", {"a": {2, 3}}),
        ("x", {"a": b"bytes"}),
    ],
)
def test_what_cannot_be_written_is_named_before_a_byte_is(
    tmp_path: Path, text: str, metadata: dict[str, Any]
) -> None:
    before = saved(tmp_path, 2)
    there = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    before.add_embeddings([(text, [1.0, 0.0, 0.0, 0.0])], [metadata], ids=["page-7"])
    with pytest.raises(InvalidArgumentError, match="'page-7'"):
        before.save_local(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == there


def test_a_path_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidArgumentError, match=r"cannot be saved into .*file"):
        saved(tmp_path / "file", 1)
    with pytest.raises(DataFormatError, match="does not exist"):
        loaded(tmp_path / "file")


@pytest.mark.parametrize("offset", range(0, 200, 7))
def test_a_flipped_bit_in_the_index_is_found(tmp_path: Path, offset: int) -> None:
    saved(tmp_path, 5)
    (path,) = tmp_path.glob("*.faiss")
    content = bytearray(path.read_bytes())
    content[offset % len(content)] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataFormatError, match="hash"):
        loaded(tmp_path)


def flat(metric: int = faiss.METRIC_INNER_PRODUCT) -> Any:
    return faiss.IndexFlat(4, metric)


@pytest.mark.parametrize(
    "inner",
    [flat(faiss.METRIC_L2), faiss.IndexHNSWFlat(4, 8, faiss.METRIC_INNER_PRODUCT), None],
)
def test_another_kind_of_index_is_refused(tmp_path: Path, inner: Any) -> None:
    saved(tmp_path, 1)
    index = flat() if inner is None else faiss.IndexIDMap2(inner)
    vectors = np.ones((1, 4), dtype=np.float32)
    index.add(vectors) if inner is None else index.add_with_ids(vectors, np.zeros(1, np.int64))
    content = faiss.serialize_index(index).tobytes()
    name = f"index-{hashlib.sha256(content).hexdigest()[:16]}.faiss"
    (tmp_path / name).write_bytes(content)
    table = json.loads((tmp_path / "documents.json").read_text())
    (tmp_path / "documents.json").write_text(json.dumps({**table, "index": name}))
    with pytest.raises(DataFormatError, match="expected the inner-product IndexIDMap2"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2, and this version reads 1"),
        ({"format": True}, "format True"),
        ({"index": 5}, "not written by save_local"),
        ({"documents": {}}, "not written by save_local"),
        ({"documents": [{"number": "0", "id": "a"}]}, "not written by save_local"),
        ({"documents": []}, "do not match"),
        ({"index": None}, "do not match"),
    ],
)
def test_a_table_that_was_changed_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    saved(tmp_path, 2)
    table = json.loads((tmp_path / "documents.json").read_text())
    (tmp_path / "documents.json").write_text(json.dumps({**table, **change}))
    with pytest.raises(DataFormatError, match=message):
        loaded(tmp_path)


def test_a_document_listed_twice_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, 2)
    table = json.loads((tmp_path / "documents.json").read_text())
    table["documents"].append(table["documents"][0])
    (tmp_path / "documents.json").write_text(json.dumps(table))
    with pytest.raises(DataFormatError, match="3 documents"):
        loaded(tmp_path)


def test_a_folder_of_langchain_community_says_how_to_move(tmp_path: Path) -> None:
    for name in ("index.pkl", "index.faiss"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataFormatError, match=r"community.*from_embeddings"):
        loaded(tmp_path)
    with pytest.raises(InvalidTypeError, match="allow_dangerous_deserialization"):
        FaissVectorStore.load_local(tmp_path, EMBEDDING, allow_dangerous_deserialization=True)

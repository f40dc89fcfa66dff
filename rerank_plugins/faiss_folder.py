"""A FAISS store as a folder: ``documents.json`` and the index file that it names. No pickle.

The JSON file is replaced last and at once, so that a reader, or a crash half way, finds the old
store or the new one and never a mixture.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from langchain_core.documents import Document

from rerank_plugins.errors import DataFormatError, InvalidArgumentError


def write_folder(folder: Path, index: Any, documents: Mapping[int, Document]) -> None:
    """Write ``index`` (None: nothing was added yet) and the documents its numbers stand for."""
    rows = [_row(number, document) for number, document in documents.items()]
    content = b"" if index is None else faiss.serialize_index(index).tobytes()
    name = f"index-{hashlib.sha256(content).hexdigest()[:16]}.faiss" if content else None
    folder.mkdir(parents=True, exist_ok=True)
    if name:
        _replace(folder / name, content)
    table = {"format": 1, "index": name, "documents": rows}
    _replace(folder / "documents.json", json.dumps(table, ensure_ascii=False).encode())
    for path in folder.glob("index-*.faiss"):
        if path.name != name:
            path.unlink()


def read_folder(folder: Path) -> tuple[Any, dict[int, Document]]:
    """Return the index and the documents by number, checked to belong together."""
    path = folder / "documents.json"
    if not path.is_file():
        raise DataFormatError(f"{path} does not exist; save a store there with save_local")
    try:
        table = json.loads(path.read_text("utf-8"))
        documents = {int(row.pop("number")): Document(**row) for row in table["documents"]}
        # A name only: whatever the file says, nothing outside the folder is read.
        name = table["index"] and Path(table["index"]).name
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataFormatError(
            f"{path} was not written by save_local ({error!r}); save the store again"
        ) from error
    index = _read_index(folder / name) if name else None
    stored = faiss.vector_to_array(index.id_map).tolist() if index else []
    n_ids = len({document.id for document in documents.values()})
    if sorted(stored) != sorted(documents) or n_ids != len(stored):
        raise DataFormatError(
            f"{path} lists {len(documents)} documents with {n_ids} ids, and the index beside it "
            f"holds {len(stored)} vectors that do not match them; save the store again"
        )
    return index, documents


def _read_index(path: Path) -> Any:
    try:
        index = faiss.deserialize_index(np.frombuffer(path.read_bytes(), dtype=np.uint8))
    except (OSError, RuntimeError) as error:
        raise DataFormatError(
            f"{path} cannot be read as a FAISS index ({error}); save the store again"
        ) from error
    if not isinstance(index, faiss.IndexIDMap2) or index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise DataFormatError(
            f"{path} holds a {type(index).__name__}; expected the inner-product IndexIDMap2 "
            "that save_local writes"
        )
    return index


def _row(number: int, document: Document) -> dict[str, Any]:
    metadata = document.metadata
    try:
        same = json.loads(json.dumps(metadata)) == metadata
    except (TypeError, ValueError):
        same = False
    if not same:
        raise InvalidArgumentError(
            f"the metadata of document {document.id!r} would not survive JSON: {metadata!r:.200}; "
            "keep to strings, finite numbers, booleans, None, lists, and dicts with string keys"
        )
    return {
        "number": number,
        "id": document.id,
        "page_content": document.page_content,
        "metadata": metadata,
    }


def _replace(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)

"""A FAISS store as a folder: ``documents.json`` and the index file that it names. No pickle.

One writer at a time holds the folder. It writes the index under a name made of its hash, replaces
the JSON file at once, and removes what the JSON file does not name. So a reader, or a crash half
way, finds the old store or the new one and never a mixture.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from langchain_core.documents import Document

from rerank_plugins.errors import DataFormatError, InvalidArgumentError, OutputInUseError
from rerank_plugins.written_files import locked_folder, whole_file

FORMAT = 1
TABLE = "documents.json"
WAIT_S = 60.0
"""How long a save waits for another one into the same folder."""


def write_folder(folder: Path, content: bytes, documents: Iterable[tuple[int, Document]]) -> None:
    """Write an index, serialised by FAISS (empty: none yet), and its documents by number.

    Raises `InvalidArgumentError` for a document that cannot be written, before anything is, and
    where the file system refuses; `OutputInUseError` where another save does not end. The folder
    then holds what it held.
    """
    rows = [_row(number, document) for number, document in documents]
    name = f"index-{_hash(content)}.faiss" if content else None
    head = json.dumps({"format": FORMAT, "index": name})
    table = f'{head[:-1]}, "documents": [{", ".join(rows)}]}}'.encode()
    try:
        with _only_writer(folder):
            if name:
                with whole_file(folder / name) as file:
                    file.write(content)
            _replace(folder / TABLE, table)
            for path in folder.glob("index-*.faiss*"):
                if path.name != name:
                    with suppress(PermissionError):  # on Windows, while a reader has it open
                        path.unlink()
    except OSError as error:
        raise InvalidArgumentError(
            f"the store cannot be saved into {folder} ({error}); a store that was there still is"
        ) from error


def read_folder(folder: Path) -> tuple[Any, dict[int, Document]]:
    """Return the index (None: nothing was added) and the documents by number, fitting together.

    Raises `DataFormatError` for anything that `write_folder` did not write.
    """
    path = folder / TABLE
    while True:
        found = _stamp(path, folder)
        text = _content(path)
        table = _table(path, text)
        # A name only: whatever the file says, nothing outside the folder is read.
        index_path = table["index"] and folder / Path(table["index"]).name
        try:
            content = index_path.read_bytes() if index_path else b""
        except OSError as error:
            if isinstance(error, FileNotFoundError) and _stamp(path, folder) != found:
                continue  # a save came between the two files
            raise DataFormatError(
                f"{index_path} cannot be read as a FAISS index ({error}); save the store again"
            ) from error
        break
    index = _index(index_path, content) if index_path else None
    documents = _documents(path, table["documents"])
    stored = faiss.vector_to_array(index.id_map).tolist() if index else []
    n_ids = len({document.id for document in documents.values()})
    if sorted(stored) != sorted(documents) or not n_ids == len(stored) == len(table["documents"]):
        raise DataFormatError(
            f"{path} lists {len(table['documents'])} documents with {n_ids} ids, and the index "
            f"beside it holds {len(stored)} vectors that do not match them; save the store again"
        )
    return index, documents


def _stamp(path: Path, folder: Path) -> tuple[int, int]:
    """Return what changes whenever the table is replaced."""
    try:
        status = path.stat()
    except OSError as error:
        if (folder / "index.pkl").exists():
            raise DataFormatError(
                f"{folder} was saved by LangChain community's FAISS class. Its documents are a "
                "pickle, which is not read here: load it there, and give texts, vectors, "
                "metadatas and ids to FaissVectorStore.from_embeddings"
            ) from None
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise DataFormatError(
                f"{path} does not exist; save a store there with save_local"
            ) from None
        raise DataFormatError(f"{path} cannot be read ({error})") from error
    return status.st_ino, status.st_mtime_ns


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataFormatError(f"{path} cannot be read ({error})") from error


def _table(path: Path, content: bytes) -> dict[str, Any]:
    try:
        table = json.loads(content)
        if not isinstance(table["documents"], list) or not isinstance(table["index"], str | None):
            raise TypeError("documents must be a list, and index a name")
        number = table["format"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _foreign(path, error) from error
    if type(number) is not int or number != FORMAT:
        raise DataFormatError(
            f"{path} has format {number!r:.60}, and this version reads {FORMAT}; save the store "
            "again, or load it with the version that wrote it"
        )
    return dict(table)


def _documents(path: Path, rows: list[dict[str, Any]]) -> dict[int, Document]:
    try:
        return {
            _number(row["number"]): Document(
                id=row["id"], page_content=row["page_content"], metadata=row["metadata"]
            )
            for row in rows
        }
    except (KeyError, TypeError, ValueError) as error:
        raise _foreign(path, error) from error


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise TypeError(f"number {value!r:.60}")
    return value


def _foreign(path: Path, error: Exception) -> DataFormatError:
    return DataFormatError(
        f"{path} was not written by save_local ({error!r:.200}); save the store again"
    )


def _index(path: Path, content: bytes) -> Any:
    if path.name != f"index-{_hash(content)}.faiss":
        raise DataFormatError(
            f"{path} cannot be read as a FAISS index: the hash in its name is not that of its "
            "content, so that it was damaged; save the store again"
        )
    try:
        index: Any = faiss.deserialize_index(np.frombuffer(content, dtype=np.uint8))
    except RuntimeError as error:
        raise DataFormatError(
            f"{path} cannot be read as a FAISS index ({error}); save the store again"
        ) from error
    inner: Any = faiss.downcast_index(index.index) if hasattr(index, "id_map") else index
    if (
        not isinstance(index, faiss.IndexIDMap2)
        or not isinstance(inner, faiss.IndexFlat)
        or {index.metric_type, inner.metric_type} != {faiss.METRIC_INNER_PRODUCT}
        or index.d != inner.d
        or index.ntotal != inner.ntotal
        or index.ntotal != index.id_map.size()
        or inner.codes.size() != inner.ntotal * inner.d * 4
    ):
        raise DataFormatError(
            f"{path} holds a {type(index).__name__} of {type(inner).__name__}; expected the "
            "inner-product IndexIDMap2 of an IndexFlat that save_local writes"
        )
    return index


def _row(number: int, document: Document) -> str:
    row = {
        "number": number,
        "id": document.id,
        "page_content": document.page_content,
        "metadata": document.metadata,
    }
    reason = "tuples, and keys that are not strings, come back as something else"
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
        text.encode()
        same = json.loads(text) == row
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            f"document {document.id!r} cannot be saved: its text, id or metadata holds half of a "
            f"surrogate pair, which UTF-8 does not have ({error}); remove it, for example with "
            'text.encode("utf-8", "ignore").decode()'
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        same, reason = False, str(error)
    if not same:
        raise InvalidArgumentError(
            f"the metadata of document {document.id!r} would not survive JSON ({reason}); keep to "
            "strings, finite numbers, booleans, None, lists, and dicts with string keys"
        )
    return text


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    latest = time.monotonic() + WAIT_S
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(locked_folder(folder))
                break
            except OutputInUseError:
                if time.monotonic() > latest:
                    raise
                time.sleep(0.01)
        yield


def _replace(path: Path, content: bytes) -> None:
    with whole_file(path) as file:
        file.write(content)

"""Documents on their way into a FAISS store and out of it: checked, and copied deeply."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document

from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError

__all__ = ["checked_documents", "checked_ids", "copied"]


def checked_documents(
    texts: Iterable[str],
    metadatas: Iterable[Mapping[str, Any] | None] | None,
    ids: Iterable[str | int | None] | None,
) -> list[Document]:
    """Return one new document a text, with an id; what it holds is shared with nobody.

    Raises `InvalidArgumentError` where counts differ, something has another type or an id is
    there twice.
    """
    given = _listed("texts", texts)
    marks = [None] * len(given) if metadatas is None else _listed("metadatas", metadatas)
    names = [None] * len(given) if ids is None else _listed("ids", ids)
    for name, column in (("metadatas", marks), ("ids", names)):
        if len(column) != len(given):
            raise InvalidArgumentError(
                f"{name} has {len(column)} entries for {len(given)} texts; give one for each"
            )
    for index, (text, mark) in enumerate(zip(given, marks, strict=True)):
        if not isinstance(text, str):
            raise InvalidTypeError(f"texts[{index}] must be a string, got {text!r:.60}")
        if mark is not None and not isinstance(mark, dict):
            raise InvalidTypeError(
                f"metadatas[{index}] must be a dictionary or None, got {mark!r:.60}"
            )
    found = [str(uuid.uuid4()) if name is None else _id(name) for name in names]
    if len(set(found)) < len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise InvalidArgumentError(f"ids holds {twice!r} twice; give each document its own")
    return [
        Document(id=name, page_content=text, metadata=_copied_tree(mark or {}))
        for name, text, mark in zip(found, given, marks, strict=True)
    ]


def checked_ids(ids: Iterable[str | int]) -> list[str]:
    return [_id(name) for name in _listed("ids", ids)]


def copied(document: Document) -> Document:
    """Return a document that the caller may change without changing the store."""
    return document.model_copy(update={"metadata": _copied_tree(document.metadata)})


def _listed(name: str, values: Iterable[Any]) -> Sequence[Any]:
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise InvalidTypeError(f"{name} must be a list, got {values!r:.60}")
    return list(values)


def _id(name: object) -> str:
    # LangChain's own Document makes a string of a number, too.
    if isinstance(name, int) and not isinstance(name, bool):
        return str(name)
    if not isinstance(name, str):
        raise InvalidTypeError(f"an id must be a string, got {name!r:.60}")
    if not name:
        raise InvalidArgumentError("an id must not be empty; None gives a document a new one")
    return name


def _copied_tree(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return a deep copy; dictionaries and lists are not walked by recursion, so may be deep."""
    top: dict[str, Any] = {}
    copies: dict[int, Any] = {id(metadata): top}
    unfinished: list[tuple[Any, Any]] = [(metadata, top)]

    def of(value: Any) -> Any:
        kind = type(value)
        if kind in (str, int, float, bool, type(None)):
            return value
        if kind is not dict and kind is not list:
            return copy.deepcopy(value)
        if id(value) not in copies:
            copies[id(value)] = kind()
            unfinished.append((value, copies[id(value)]))
        return copies[id(value)]

    while unfinished:
        source, target = unfinished.pop()
        if isinstance(source, dict):
            target.update((key, of(value)) for key, value in source.items())
        else:
            target.extend(of(value) for value in source)
    return top

"""A request body in, the query and passages that it asks to score out.

Clients differ in what they send for "nothing" (absent, null, 0, ""), so null is taken for absent
and unknown fields are passed over: Cohere, Voyage and others send fields of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from rerank_plugins.serving.faults import RequestFault, invalid

Document = str | dict[str, Any]


class RerankBody(BaseModel):
    """What a client may send to rerank: the words of Cohere, Jina, Voyage, vLLM and TEI."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    query: str | None = Field(default=None, description="what the documents are ordered by")
    documents: list[Document] | str | None = Field(
        default=None, description="strings, or objects with a text"
    )
    texts: list[str] | None = Field(
        default=None, description="in place of documents: answer in the shape of TEI"
    )
    model: str | None = Field(default=None, description="one of /v1/models; absent: the first")
    top_n: int | None = Field(default=None, description="how many to return; absent or 0: all")
    top_k: int | None = Field(default=None, description="the same as top_n")
    return_documents: bool | None = None
    return_text: bool | None = None
    raw_scores: bool | None = Field(default=None, description="in the model's own unit")
    rank_fields: list[str] | None = Field(
        default=None, description="the fields of object documents that are read"
    )
    return_windows: bool | None = Field(
        default=None, description="ours: also the characters that a score comes from"
    )
    max_tokens_per_doc: int | None = Field(
        default=None, description="read this many tokens of each; absent or 0: what the model reads"
    )
    truncate: bool | None = Field(default=None, description="false: refuse what would be cut")
    truncation: bool | None = Field(default=None, description="the same as truncate")
    truncation_direction: str | None = Field(default=None, description="right, and no other")


class ScoreBody(BaseModel):
    """What a client may send to ``/score``: one text or several on either side, in vLLM's words."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    text_1: list[str] | str | None = None
    text_2: list[str] | str | None = None
    queries: list[str] | str | None = None
    documents: list[str] | str | None = None
    items: list[str] | str | None = None
    data_1: list[str] | str | None = None
    data_2: list[str] | str | None = None
    model: str | None = None
    raw_scores: bool | None = None


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """One checked rerank request; ``tei`` says whose shape the answer has."""

    query: str
    passages: list[str]
    model: str | None
    top_n: int | None
    return_documents: bool
    return_windows: bool
    raw_scores: bool
    may_truncate: bool
    max_tokens_per_doc: int | None
    tei: bool


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One checked score request: as many queries as passages."""

    queries: list[str]
    passages: list[str]
    model: str | None
    raw_scores: bool


def rerank_request(body: bytes, *, max_documents: int) -> RerankRequest:
    """Read the body of a rerank request, or raise `RequestFault` naming the field."""
    fields = _validated(RerankBody, body)
    tei = fields.texts is not None and fields.documents is None
    name = "texts" if tei else "documents"
    documents = fields.texts if tei else fields.documents
    if documents is None:
        raise invalid("documents", "is missing; send a list of strings", code="missing_field")
    documents = [documents] if isinstance(documents, str) else documents
    if fields.query is None:
        raise invalid("query", "is missing; send a string", code="missing_field")
    if not fields.query.strip():
        raise invalid("query", "is empty; send the text to order the documents by")
    _check_count(name, len(documents), max_documents)
    top_n = fields.top_n if fields.top_n is not None else fields.top_k
    if top_n is not None and top_n < 0:
        asked = "top_n" if fields.top_n is not None else "top_k"
        raise invalid(asked, f"must be 0 (all) or more, got {top_n}")
    if fields.max_tokens_per_doc is not None and fields.max_tokens_per_doc < 0:
        told = f"must be 0 (no limit) or more, got {fields.max_tokens_per_doc}"
        raise invalid("max_tokens_per_doc", told)
    if (fields.truncation_direction or "right").lower() != "right":
        told = "only 'right' is there: a document loses its end"
        raise invalid("truncation_direction", told)
    truncate = fields.truncate if fields.truncate is not None else fields.truncation
    return RerankRequest(
        query=fields.query,
        passages=[
            document if isinstance(document, str) else _object_text(document, index, fields)
            for index, document in enumerate(documents)
        ],
        model=fields.model,
        top_n=top_n or None,
        return_documents=bool(fields.return_text if tei else fields.return_documents),
        return_windows=bool(fields.return_windows) and not tei,
        raw_scores=bool(fields.raw_scores),
        may_truncate=truncate is not False,
        max_tokens_per_doc=fields.max_tokens_per_doc or None,
        tei=tei,
    )


def asks_for_tei(body: bytes) -> bool:
    """Say whether a body, right or wrong, is in TEI's words, so that its fault is told in them."""
    try:
        found = from_json(body)
    except ValueError:
        return False
    return (
        isinstance(found, dict)
        and found.get("texts") is not None
        and found.get("documents") is None
    )


def score_request(body: bytes, *, max_documents: int) -> ScoreRequest:
    """Read the body of a score request, or raise `RequestFault` naming the field."""
    fields = _validated(ScoreBody, body)
    left_name, left = _first(fields, ("text_1", "queries", "data_1"))
    right_name, right = _first(fields, ("text_2", "documents", "items", "data_2"))
    _check_count(right_name, len(right), max_documents)
    _check_count(left_name, len(left), max_documents)
    if len(left) == 1:
        left = left * len(right)
    if len(left) != len(right):
        raise invalid(
            left_name,
            f"has {len(left)} texts and {right_name} has {len(right)}; send one text against "
            "all, or as many on either side",
        )
    return ScoreRequest(left, right, fields.model, bool(fields.raw_scores))


def _first(fields: ScoreBody, names: Sequence[str]) -> tuple[str, list[str]]:
    for name in names:
        value = getattr(fields, name)
        if value is not None:
            return name, [value] if isinstance(value, str) else value
    raise invalid(names[0], "is missing; send a string or a list of strings", code="missing_field")


def _check_count(name: str, count: int, limit: int) -> None:
    if count == 0:
        raise invalid(name, "is empty; send at least one", code="empty_documents")
    if count > limit:
        raise RequestFault(
            413, f"{name}: {count} are more than the {limit} of one request", "too_many", name
        )


def _object_text(document: dict[str, Any], index: int, fields: RerankBody) -> str:
    if fields.rank_fields:
        missing = [name for name in fields.rank_fields if name not in document]
        if missing:
            raise invalid(f"documents[{index}]", f"has no field {missing[0]!r} of rank_fields")
        return "\n".join(f"{name}: {document[name]}" for name in fields.rank_fields)
    text = document.get("text")
    if not isinstance(text, str):
        raise invalid(f"documents[{index}]", "has no string 'text'; add it, or send rank_fields")
    return text


def _validated(kind: type[Any], body: bytes) -> Any:
    if not body.strip():
        raise RequestFault(400, "the body is empty; send a JSON object", "invalid_json")
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        # Without the input: it may hold documents.
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] == "json_invalid":
            raise RequestFault(
                400, f"the body is no valid JSON: {first['msg']}", "invalid_json"
            ) from None
        if not first["loc"]:
            raise RequestFault(400, "the body must be a JSON object", "invalid_json") from None
        where = str(first["loc"][0])
        position = next((part for part in first["loc"][1:] if isinstance(part, int)), None)
        shown = where if position is None else f"{where}[{position}]"
        fault = invalid(shown, first["msg"][:1].lower() + first["msg"][1:])
        fault.param = where
        raise fault from None

"""What can be wrong with a request, and the body that says so in the shape its client reads."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic_core import to_json
from starlette.responses import Response

from rerank_plugins.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    NonFiniteScoreError,
    OutOfMemoryError,
    OverloadedError,
    RerankError,
    ScorerClosedError,
)

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "overloaded_error",
    503: "unavailable_error",
    504: "timeout_error",
}


@dataclass
class RequestFault(Exception):
    """A request that gets an error: its status, a message for people and a code for programs.

    ``param`` names the field of the body that is wrong; ``retry_after_s`` says when to come again.
    """

    status: int
    message: str
    code: str
    param: str | None = None
    retry_after_s: int | None = None

    def response(self, *, tei: bool = False) -> Response:
        """Return the answer that tells the client, in TEI's shape or everybody else's."""
        headers = {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        status = self.status
        if tei and self.code in ("invalid_value", "missing_field"):
            status = 422  # TEI's number for them
        return Response(to_json(self.body(tei=tei)), status, headers, "application/json")

    def body(self, *, tei: bool) -> dict[str, object]:
        """Return the JSON body: Text Embeddings Inference's shape, or the one of everybody else.

        The latter says the message three times, because clients look for it in three places:
        ``error.message`` (OpenAI, vLLM), ``message`` (Cohere) and a string ``detail`` (Jina,
        Voyage).
        """
        if tei:
            return {"error": self.message, "error_type": self._tei_type()}
        error = {
            "message": self.message,
            "type": _TYPES.get(self.status, "server_error"),
            "param": self.param,
            "code": self.code,
        }
        return {"error": error, "message": self.message, "detail": self.message}

    def _tei_type(self) -> str:
        if self.code == "empty_documents":
            return "Empty"
        if self.status == 429:
            return "Overloaded"
        if self.status == 503:
            return "Unhealthy"
        return "Backend" if self.status >= 500 else "Validation"


def invalid(param: str, message: str, *, code: str = "invalid_value") -> RequestFault:
    """Return the fault of one field's value."""
    return RequestFault(400, f"{param}: {message}", code, param)


def of_error(error: Exception) -> RequestFault:
    """Return the fault that an error of the scorer is; none of them quotes a document."""
    if isinstance(error, OverloadedError):
        return RequestFault(
            429, "the queue is full; send the request again later", "overloaded", retry_after_s=1
        )
    if isinstance(error, DeadlineExceededError):
        return RequestFault(
            504, "the documents were not scored in time; send fewer of them", "deadline_exceeded"
        )
    if isinstance(error, NonFiniteScoreError):
        index = getattr(error, "index", None)
        which = "" if index is None else f" of documents[{index}]"
        return RequestFault(
            500, f"the score{which} is not a finite number: the model is faulty", "non_finite_score"
        )
    if isinstance(error, OutOfMemoryError):
        return RequestFault(500, "a document does not fit into memory", "out_of_memory")
    if isinstance(error, ScorerClosedError):
        return RequestFault(503, "the model is closed", "unavailable", retry_after_s=5)
    if isinstance(error, InvalidArgumentError):
        return RequestFault(400, "the request cannot be scored as it stands", "invalid_value")
    code = "scoring_failed" if isinstance(error, RerankError) else "internal_error"
    return RequestFault(500, "scoring failed; the server's log has the cause", code)

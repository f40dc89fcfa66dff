"""A page to try the server with: three files, no build step, no other host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import FastAPI
from starlette.responses import Response

_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
}
_HEADERS = {
    # Scripts and styles of this server alone: a document's text can never run.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def add_to(app: FastAPI) -> None:
    """Serve the page at ``/``."""
    for name in _TYPES:
        path = "/" if name == "index.html" else f"/{name}"
        app.add_api_route(path, _file(name), methods=["GET"], include_in_schema=False)


def _file(name: str) -> Callable[[], Awaitable[Response]]:
    content = files(__name__).joinpath(name).read_bytes()

    async def answer() -> Response:
        return Response(content, 200, _HEADERS, _TYPES[name])

    return answer

"""A page to try the server with: four files, no build step, no other host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import FastAPI
from starlette.responses import Response

_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
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


PATHS = {"/" if name == "index.html" else f"/{name}": name for name in _TYPES}


def add_to(app: FastAPI) -> None:
    """Serve the page at ``/``."""
    for path, name in PATHS.items():
        app.add_api_route(path, _file(name), methods=["GET"], include_in_schema=False)


def _file(name: str) -> Callable[[], Awaitable[Response]]:
    content = files(__name__).joinpath(name).read_bytes()

    async def answer() -> Response:
        return Response(content, 200, _HEADERS, _TYPES[name])

    return answer

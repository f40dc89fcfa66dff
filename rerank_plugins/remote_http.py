"""HTTP connections that threads, event loops and forked processes share."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import AsyncGenerator, Generator
from typing import Any

import httpx

from rerank_plugins.checks import check_text, shown
from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError

# What a call does, step by step, for a thread and an event loop alike: it yields a request (keyword
# arguments of httpx's ``request``), and is sent what came of it, or yields seconds to wait.
Got = httpx.Response | httpx.RequestError | None
Steps = Generator["float | dict[str, Any]", Got, Any]
_Open = tuple[AsyncGenerator[httpx.AsyncClient, None], httpx.AsyncClient]


class Connections:
    """Runs `Steps`. Connections are kept: a new client costs 20 ms for its TLS context alone.

    The key is sent with every request, and shown nowhere.
    """

    def __init__(self, key: str | None) -> None:
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._connect()

    def run(self, steps: Steps) -> Any:
        """Take the steps in this thread; return what they return."""
        got: Got = None
        while True:
            try:
                step = steps.send(got)
            except StopIteration as end:
                return end.value
            got = None
            if isinstance(step, dict):
                try:
                    got = self._sync_client().request(**step, headers=self._headers)
                except httpx.RequestError as error:
                    got = error
            else:
                time.sleep(step)

    async def arun(self, steps: Steps) -> Any:
        """Take the steps in this event loop, and leave it free."""
        got: Got = None
        while True:
            try:
                step = steps.send(got)
            except StopIteration as end:
                return end.value
            got = None
            if isinstance(step, dict):
                try:
                    got = await (await self._async_client()).request(**step, headers=self._headers)
                except httpx.RequestError as error:
                    got = error
            else:
                await asyncio.sleep(step)

    def _connect(self) -> None:
        # An event loop needs a client of its own, and so does a forked child.
        self._pid = os.getpid()
        self._client = httpx.Client()
        # When nobody holds these connections any more, nobody else would close them.
        self._finalizer = weakref.finalize(self, self._client.close)
        self._open: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop,
            tuple[AsyncGenerator[httpx.AsyncClient, None], httpx.AsyncClient],
        ] = weakref.WeakKeyDictionary()

    def _sync_client(self) -> httpx.Client:
        if self._pid != os.getpid():
            self._connect()
        return self._client

    async def _async_client(self) -> httpx.AsyncClient:
        if self._pid != os.getpid():
            self._connect()
        loop = asyncio.get_running_loop()
        if loop not in self._open:
            keeper = _kept_open()
            self._open[loop] = keeper, await anext(keeper)
        return self._open[loop][1]

    def close(self) -> None:
        """Close the connections of threads; the next request opens new ones."""
        self._finalizer()
        self._connect()


async def _kept_open() -> AsyncGenerator[httpx.AsyncClient, None]:
    """Yield a client that is closed when its event loop ends.

    As a generator, because ending those is what every event loop does at its end.
    """
    async with httpx.AsyncClient() as client:
        yield client


def check_address(base_url: object) -> None:
    """Raise `InvalidArgumentError` unless ``base_url`` can be asked, and holds no secret."""
    base_url = check_text("base_url", base_url)
    if not base_url.startswith(("http://", "https://")):
        raise InvalidArgumentError(
            f"base_url must begin with http:// or https://, got {shown(base_url)}"
        )
    try:
        address = httpx.URL(base_url)
    except httpx.InvalidURL:  # whose text may hold a password, as all before the @ may
        shown_part = base_url.rpartition("@")[2]
        raise InvalidArgumentError(
            f"base_url={shown_part!r} is no address; expected one like http://host:8000"
        ) from None
    if address.userinfo:  # which every repr and error would show
        raise InvalidArgumentError("base_url holds a user or password; give a key as api_key")
    if not address.host or (address.port or 0) > 65_535:
        raise InvalidArgumentError(f"base_url={base_url!r} has no host, or a port beyond 65535")


def check_key(key: object) -> None:
    """Refuse a key that no header may hold; the error does not show it."""
    if key is None:
        return
    if not isinstance(key, str):
        raise InvalidTypeError(f"api_key must be a string, got a {type(key).__name__}")
    if not (key.isascii() and key.isprintable() and key == key.strip()):
        raise InvalidArgumentError(
            "api_key holds a space at an end, a line end or another character that a header may "
            "not hold; strip() it"
        )


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that a server asks to wait, or None."""
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, factor * float(response.headers[name]))
        except (KeyError, ValueError):  # absent, or a date
            continue
    return None

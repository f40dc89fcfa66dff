"""One process, one server, which answers before its models are loaded and ends in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rerank_plugins.serving.app import create_app
from rerank_plugins.serving.options import ServerOptions
from rerank_plugins.serving.served_models import ServedModel

logger = logging.getLogger("rerank_plugins.serving")

_GRACE_S = 2.0  # for answering 503 to what was given up, before uvicorn cuts it off

# Longer than proxies and clients keep an idle connection (60 s): who ends it must be the one who
# would send on it, or a request meets a connection that has just been closed.
_KEEP_ALIVE_S = 75
_MAX_HEAD_BYTES = 65_536
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"connection: close\r\ncontent-length: 0\r\n\r\n"
)


def serve(models: Sequence[ServedModel], options: ServerOptions) -> int:
    """Serve until a signal comes; return the exit status: 0, or 1 where a model cannot be loaded.

    SIGTERM and SIGINT drain: ``/ready`` says 503 at once, new requests are taken for
    ``drain_delay`` seconds more, and those under way have ``shutdown_timeout`` seconds. A second
    signal ends the process at once.
    """
    if os.environ.get("WEB_CONCURRENCY"):
        logger.warning("WEB_CONCURRENCY is ignored: one process serves, with one copy of a model")
    if not options.keys() and options.host not in ("127.0.0.1", "::1", "localhost"):
        logger.warning("listening on %s without an api_key: anybody may use it", options.host)
    app = create_app(models, options)
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        http=bounded_protocol(options),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        root_path=options.root_path,
        timeout_graceful_shutdown=None,
        timeout_keep_alive=_KEEP_ALIVE_S,
        backlog=2_048,
    )
    server = _Server(config, options)
    server.run()
    return 1 if app.state.routes.load_failed else 0


class _Server(uvicorn.Server):
    """uvicorn with an end of its own: uvicorn's closes the listener at once and exits with 143."""

    def __init__(self, config: uvicorn.Config, options: ServerOptions) -> None:
        super().__init__(config)
        self._options = options
        self._ending = False
        self._timers: list[asyncio.TimerHandle] = []

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self._signalled, number)
        yield
        for number in signals:
            loop.remove_signal_handler(number)

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            sys.stderr.write(f"listening on http://{host}:{port}\n")
            sys.stderr.flush()

    async def on_tick(self, counter: int) -> bool:
        routes = self._routes()
        if routes.load_failed and not self.should_exit:
            self.should_exit = True  # a supervisor starts it again; waiting would not help
        return await super().on_tick(counter)

    def _routes(self) -> Any:
        app: Any = self.config.app
        return app.state.routes

    def _signalled(self, number: int) -> None:
        if self._ending:
            os._exit(128 + number)
        self._ending = True
        self._routes().draining = True
        loop = asyncio.get_running_loop()
        options = self._options
        self._timers = [
            loop.call_later(options.drain_delay, self._close),
            loop.call_later(options.drain_delay + options.shutdown_timeout, self._give_up),
        ]

    def _close(self) -> None:
        self.should_exit = True

    def _give_up(self) -> None:
        self._routes().given_up.set()
        self._timers.append(asyncio.get_running_loop().call_later(_GRACE_S, self._cut))

    def _cut(self) -> None:
        self.force_exit = True


def bounded_protocol(options: ServerOptions) -> type[asyncio.Protocol]:
    """Return the protocol of a connection with the bounds of ``options``."""
    return type("Bounded", (BoundedProtocol,), {"options": options})


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with bounds on connections, on a head, and on the reading of an answer.

    uvicorn itself takes any number of connections, and waits for ever for the rest of a head of any
    size, and for a client to read its answer. It does close a connection that is idle after one.
    """

    options: ServerOptions
    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _answer_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.options.max_connections:
            transport.abort()
        else:
            self._expect_head()

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > _MAX_HEAD_BYTES:
            self.transport.write(_HEAD_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_timer is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_is_there()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        limit_s = self.options.request_timeout
        self._answer_timer = self.loop.call_later(limit_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._answer_is_read()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        self._answer_is_read()
        super().connection_lost(exc)

    def _answer_is_read(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.options.read_timeout, self.transport.abort)

    def _head_is_there(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

"""Every option of the server: its type, default, environment variable and help, in one place.

How the models run is said by `ScorerOptions`, whose fields ``rerank-plugins serve`` takes too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from rerank_plugins.errors import InvalidArgumentError
from rerank_plugins.models import EMBEDDED_MODEL
from rerank_plugins.options import ScorerOptions, is_repeated


def _option(default: Any, text: str, *, metavar: str = "N", least: float | None = None) -> Any:
    metadata = {"help": text, "metavar": metavar, "least": least}
    if isinstance(default, tuple):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Where and how a server runs; a tuple is an option that may be given several times.

    Raises `InvalidArgumentError` for a value out of range.

    >>> ServerOptions(port=70_000)
    Traceback (most recent call last):
    ...
    rerank_plugins.errors.InvalidArgumentError: port must be from 0 to 65535, got 70000
    """

    model: tuple[str, ...] = _option(
        (EMBEDDED_MODEL,),
        "a Hub id, a local folder or 'embedded'; give it again to serve several",
        metavar="MODEL",
    )
    served_model_name: tuple[str, ...] = _option(
        (), "another name for the model, or NAME=MODEL where several are served", metavar="NAME"
    )
    host: str = _option("127.0.0.1", "the address to listen on", metavar="ADDRESS")
    port: int = _option(8000, "the port to listen on; 0 takes a free one", least=0)
    root_path: str = _option("", "the path prefix that a proxy takes off", metavar="PATH")
    api_key: tuple[str, ...] = _option(
        (), "a key that clients must send as 'Authorization: Bearer KEY'", metavar="KEY"
    )
    api_key_file: str | None = _option(None, "a file with one key a line", metavar="FILE")
    protect_metrics: bool = _option(False, "ask for the key at /metrics too")
    cors_origin: tuple[str, ...] = _option(
        (), "an origin whose pages may call this server", metavar="ORIGIN"
    )
    max_documents: int = _option(1_000, "documents that one request may hold", least=1)
    max_body_bytes: int = _option(16 * 2**20, "bytes that one request body may have", least=1)
    max_held_bytes: int = _option(
        256 * 2**20, "bytes of all request bodies at a time; beyond that requests get 429", least=1
    )
    max_connections: int = _option(1_000, "open connections; beyond that new ones close", least=1)
    request_timeout: float = _option(25.0, "seconds until a request gets 504", least=0.001)
    read_timeout: float = _option(10.0, "seconds for a request's head, and its body", least=0.001)
    drain_delay: float = _option(
        0.0, "seconds to go on accepting after SIGTERM, while /ready says 503", least=0
    )
    shutdown_timeout: float = _option(
        30.0, "seconds for the requests under way after that", least=0
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            value, least = getattr(self, option.name), option.metadata["least"]
            if least is not None and value is not None and not value >= least:
                raise InvalidArgumentError(f"{option.name} must be at least {least}, got {value}")
        if not 0 <= self.port <= 65_535:
            raise InvalidArgumentError(f"port must be from 0 to 65535, got {self.port}")
        if not self.model:
            raise InvalidArgumentError("model names no model; give at least one")
        if self.max_held_bytes < self.max_body_bytes:
            raise InvalidArgumentError(
                f"max_held_bytes={self.max_held_bytes} is less than max_body_bytes="
                f"{self.max_body_bytes}; one request must fit"
            )

    def keys(self) -> tuple[str, ...]:
        """Return all API keys, those of the file too.

        Raises `InvalidArgumentError` for a file that cannot be read, and for an empty key, which
        would let everybody in.
        """
        keys = list(self.api_key)
        if self.api_key_file is not None:
            try:
                lines = Path(self.api_key_file).read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise InvalidArgumentError(
                    f"api_key_file={self.api_key_file!r} cannot be read: {type(error).__name__}"
                ) from None
            keys += [line.strip() for line in lines if line.strip()]
            if not keys:
                raise InvalidArgumentError(f"api_key_file={self.api_key_file!r} holds no key")
        if not all(key.strip() for key in keys):
            raise InvalidArgumentError("an api_key is empty; give a key, or leave the option out")
        return tuple(keys)


SCORER_FIELDS = [option for option in fields(ScorerOptions) if option.name != "model"]
SCORER_DEFAULTS = {"max_queued_pairs": 10_000}  # a server must have a bound


def default_of(option: Field[Any]) -> Any:
    """Return what an option is where nobody says anything."""
    made = option.default_factory
    return SCORER_DEFAULTS.get(option.name, option.default if made is MISSING else made())


def environment_name(option: Field[Any]) -> str:
    """Return the environment variable that stands for an option."""
    return f"RERANK_{option.name.upper()}"


def from_environment(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return the options that the environment sets; several values are separated by commas.

    >>> from_environment({"RERANK_PORT": "9000", "RERANK_MODEL": "embedded,other/model"})
    {'model': ('embedded', 'other/model'), 'port': 9000}
    """
    found: dict[str, Any] = {}
    for option in (*fields(ServerOptions), *SCORER_FIELDS):
        text = environment.get(environment_name(option))
        if text:
            found[option.name] = parsed(option, text)
    return found


def parsed(option: Field[Any], text: str) -> Any:
    """Return the value that ``text`` has for an option, or raise `InvalidArgumentError`."""
    kind = str(option.type)
    if is_repeated(option):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind == "bool":
        if text.lower() not in _SWITCHES:
            raise InvalidArgumentError(
                f"{environment_name(option)} must be one of {', '.join(_SWITCHES)}; got {text!r}"
            )
        return _SWITCHES[text.lower()]
    if kind.startswith(("int", "float")):
        try:
            return int(text) if kind.startswith("int") else float(text)
        except ValueError:
            raise InvalidArgumentError(
                f"{environment_name(option)} must be a number, got {text!r}"
            ) from None
    return text


_SWITCHES = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}

"""The known models, read from ``models.json``: what they cost, how good they are, when to take one.

A row describes; it decides nothing: a scorer reads what it needs from the model's own files. Every
figure names its source, and None stands for what no source was found for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from rerank_plugins.checks import check_text
from rerank_plugins.errors import closest_name

__all__ = [
    "DEFAULT_MODEL",
    "EMBEDDED_MODEL",
    "EMBEDDED_MODELS",
    "KnownModel",
    "Quality",
    "closest_model",
    "known_model",
    "known_models",
]

DEFAULT_MODEL = "cross-encoder/ms-marco-TinyBERT-L2-v2"
EMBEDDED_MODEL = "embedded"
# The models inside the package, in folders of these names, the smallest first.
EMBEDDED_MODELS = (EMBEDDED_MODEL, "embedded-l6")


@dataclass(frozen=True, slots=True)
class Quality:
    """A published figure, times 100, of ``measure`` on ``data``; ``source`` is where it stands."""

    measure: str
    data: str
    value: float
    source: str


@dataclass(frozen=True, slots=True)
class Speed:
    """Published passages a second on ``machine``; ``source`` is where it stands."""

    docs_per_s: float
    machine: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """One model; ``max_length`` is in tokens, ``score`` says how a score is made."""

    model: str
    aliases: tuple[str, ...]
    parameters: int | None
    layers: int | None
    hidden: int | None
    max_length: int | None
    languages: tuple[str, ...] | None
    licence: str | None
    score: str | None
    take_when: str
    quality: tuple[Quality, ...]
    speed: Speed | None
    note: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every name under which the model is asked for, the present one first."""
        return (self.model, *self.aliases)


@cache
def known_models() -> tuple[KnownModel, ...]:
    """Return the known models, the embedded one first.

    >>> known_models()[0].model
    'embedded'
    """
    rows = json.loads(files("rerank_plugins").joinpath("models.json").read_text("utf-8"))
    return tuple(
        KnownModel(
            **row
            | {
                "aliases": tuple(row["aliases"]),
                "languages": tuple(row["languages"]) if row["languages"] else None,
                "quality": tuple(Quality(**figure) for figure in row["quality"]),
                "speed": Speed(**row["speed"]) if row["speed"] else None,
            }
        )
        for row in rows
    )


def known_model(name: str) -> KnownModel | None:
    """Return the row of a model by its id or an alias, in any case; None if it is not known.

    >>> known_model("cross-encoder/ms-marco-MiniLM-L-6-v2").model
    'cross-encoder/ms-marco-MiniLM-L6-v2'
    >>> known_model("someone/else") is None
    True
    """
    wanted = check_text("name", name).casefold()
    for model in known_models():
        if wanted in (known.casefold() for known in model.names):
            return model
    return None


def closest_model(name: str) -> str | None:
    """Return the name that ``name`` was probably meant to be; None if it is one, or near none.

    >>> closest_model("ms-marco-MiniLM-L-12-v2")
    'cross-encoder/ms-marco-MiniLM-L-12-v2'
    """
    names = [known for model in known_models() for known in model.names]
    if known_model(name):
        return None
    within = (known for known in names if known.rpartition("/")[2].casefold() == name.casefold())
    return next(within, None) or closest_name(name, names)

"""Everything that can be chosen about a cross-encoder: one field, one option.

`ScorerOptions` is what `CrossEncoderScorer` and `shared_scorer` take as keywords, the registry's
key, what a scorer is pickled as, the fields of the adapters, and what ``rerank-plugins serve``
takes. A new option is a new field here, its check in ``__post_init__``, and its use.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import KW_ONLY, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, get_args

from rerank_plugins.checks import check_choice, check_text, check_whole_number, shown
from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError, unknown_name
from rerank_plugins.models import DEFAULT_MODEL, EMBEDDED_MODELS

__all__ = ["LongDocuments", "ScoreUnitOption", "ScorerOptions"]

LongDocuments = Literal["truncate", "max"]
ScoreUnitOption = Literal["auto", "logit", "probability"]

_P = ParamSpec("_P")
_S = TypeVar("_S")
_R = TypeVar("_R")


def _told(text: str, metavar: str = "N") -> dict[str, str]:
    """Return the metadata of a field: what a command line shows of it."""
    return {"help": text, "metavar": metavar}


@dataclass(frozen=True)
class ScorerOptions:
    """The options of a `CrossEncoderScorer`, checked; its docstring says what each one means.

    A ``model`` that is a folder becomes its real path, so that it stays the same model when the
    process changes its directory. Raises `InvalidArgumentError`.

    >>> ScorerOptions("embedded", max_length=128).changed()
    {'model': 'embedded', 'max_length': 128}
    """

    model: str = DEFAULT_MODEL
    _: KW_ONLY
    revision: str | None = field(
        default=None, metadata=_told("of a Hub id: branch, tag or commit", "NAME")
    )
    device: str | Sequence[str] | None = field(
        default=None,
        metadata=_told("cpu, cuda, cuda:1, mps; several: one copy of the model on each", "DEVICE"),
    )
    dtype: str = field(
        default="auto", metadata=_told("auto, float32, float16, bfloat16 or int8", "DTYPE")
    )
    max_length: int | None = field(default=None, metadata=_told("tokens a pair at most"))
    max_batch_tokens: int | None = field(
        default=None, metadata=_told("tokens a forward pass at most")
    )
    long_documents: LongDocuments = field(
        default="truncate",
        metadata=_told("truncate, or max: the best of a long document's windows", "HOW"),
    )
    local_files_only: bool = field(default=False, metadata=_told("download nothing"))
    token: str | bool | None = field(
        default=None, repr=False, metadata=_told("for the Hub", "TOKEN")
    )
    cache_folder: str | None = field(
        default=None, metadata=_told("where downloads are kept", "FOLDER")
    )
    trust_remote_code: bool = field(
        default=False, metadata=_told("run the code that a model brings")
    )
    max_queued_pairs: int | None = field(
        default=None, metadata=_told("pairs that may wait; more are refused")
    )
    score_unit: ScoreUnitOption = field(
        default="auto", metadata=_told("auto, logit or probability", "UNIT")
    )
    query_prefix: str = field(default="", metadata=_told("goes before every query", "TEXT"))
    passage_prefix: str = field(default="", metadata=_told("goes before every passage", "TEXT"))

    def __post_init__(self) -> None:
        check = functools.partial(object.__setattr__, self)
        check("model", _model(self.model))
        check("device", _device(self.device))
        check("dtype", _dtype(self.dtype))
        check("cache_folder", _path("cache_folder", self.cache_folder))
        check("token", _token(self.token))
        check("revision", None if self.revision is None else check_text("revision", self.revision))
        for name, choices in (("score_unit", ScoreUnitOption), ("long_documents", LongDocuments)):
            check(name, check_choice(name, getattr(self, name), get_args(choices)))
        for name in ("query_prefix", "passage_prefix"):
            check(name, check_text(name, getattr(self, name)))
        for name in ("local_files_only", "trust_remote_code"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidTypeError(
                    f"{name} must be True or False, a boolean; got {shown(getattr(self, name))}"
                )
        for name in ("max_length", "max_batch_tokens", "max_queued_pairs"):
            value = getattr(self, name)
            if value is not None:
                check(name, check_whole_number(name, value, least=1))

    def changed(self) -> dict[str, Any]:
        """Return the model, and those options that are not the default."""
        values = {each.name: (getattr(self, each.name), each.default) for each in fields(self)}
        return {
            name: value
            for name, (value, default) in values.items()
            if name == "model" or value != default
        }


def takes_options(
    options: Callable[_P, ScorerOptions],
) -> Callable[[Callable[[_S, ScorerOptions], _R]], Callable[Concatenate[_S, _P], _R]]:
    """Make a method that takes `ScorerOptions` take their keywords instead.

    The keywords are in the method's signature, for ``help()``, editors and type checkers. An
    unknown one is an `InvalidTypeError` that names the closest.
    """
    known = inspect.signature(options)

    def decorated(method: Callable[[_S, ScorerOptions], _R]) -> Callable[Concatenate[_S, _P], _R]:
        @functools.wraps(method)
        def call(self: _S, /, *args: _P.args, **keywords: _P.kwargs) -> _R:
            _check_names(keywords, known.parameters)
            return method(self, options(*args, **keywords))

        first = next(iter(inspect.signature(method).parameters.values()))
        call.__signature__ = inspect.signature(method).replace(  # type: ignore[attr-defined]
            parameters=[first, *known.parameters.values()]
        )
        return call

    return decorated


def checked_options(**keywords: Any) -> dict[str, Any]:
    """Return the keywords of a scorer, checked and without defaults, for another process.

    >>> checked_options(model="embedded", device="cpu")
    {'model': 'embedded', 'device': 'cpu'}
    """
    _check_names(keywords, [option.name for option in fields(ScorerOptions)])
    return ScorerOptions(**keywords).changed()


def is_repeated(option: Field[Any]) -> bool:
    """Say whether an option may be given several times."""
    return "tuple[" in str(option.type) or "Sequence[" in str(option.type)


def _check_names(keywords: Iterable[str], known: Collection[str]) -> None:
    for name in keywords:
        if name not in known:
            raise InvalidTypeError(
                unknown_name(f"unknown scorer option {name!r}", name, known, kind="options")
            )


def _model(model: object) -> str:
    name = os.fspath(model) if isinstance(model, os.PathLike) else model
    if not isinstance(name, str):
        raise InvalidTypeError(f"model must be a Hub id or a folder, a string; got {shown(model)}")
    name = str.__str__(name)
    if name in EMBEDDED_MODELS:
        return name
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name


def _path(name: str, path: object) -> str | None:
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if text is not None and not isinstance(text, str):
        raise InvalidTypeError(f"{name} must be a path, got {shown(path)}")
    return None if text is None else str.__str__(text)


def _token(token: object) -> str | bool | None:
    if token is None or isinstance(token, bool):
        return token
    if not isinstance(token, str):  # not shown: it may be the secret in another form
        raise InvalidTypeError(f"token must be a string, got a {type(token).__name__}")
    return str.__str__(token)


def _device(device: object) -> str | tuple[str, ...] | None:
    """Return device names as text: a torch.device is as good as its name."""
    if device is None:
        return None
    if isinstance(device, (list, tuple)):
        if not device:
            raise InvalidArgumentError("device is an empty list; name at least one, such as 'cpu'")
        return tuple(_device_name(each) for each in device)
    return _device_name(device)


def _device_name(device: object) -> str:
    name = _torch_name(device)
    if not isinstance(name, str):
        raise InvalidTypeError(
            f"device must be a name such as 'cpu' or 'cuda:0', or a list of names; "
            f"got {shown(device)}"
        )
    return str.__str__(name)


def _dtype(dtype: object) -> str:
    name = _torch_name(dtype)
    if not isinstance(name, str):
        raise InvalidTypeError(f"dtype must be a name such as 'float32', got {shown(dtype)}")
    return str.__str__(name)


def _torch_name(value: Any) -> Any:
    from_torch = type(value).__module__.partition(".")[0] == "torch"
    return str(value).removeprefix("torch.") if from_torch else value

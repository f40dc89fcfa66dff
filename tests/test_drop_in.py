"""The keywords of the classes that the adapters replace."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rerank_plugins import langchain, llama_index
from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError

NESTED = [
    (langchain.CrossEncoderRerank, "model_kwargs"),
    (langchain.SharedCrossEncoder, "model_kwargs"),
    (llama_index.CrossEncoderRerank, "cross_encoder_kwargs"),
]


@pytest.mark.parametrize(("cls", "nested"), NESTED)
class TestDropIn:
    def test_keywords_of_the_cross_encoder_inside(self, cls: Any, nested: str) -> None:
        kwargs = {
            "device": "cpu",
            "max_length": 256,
            "revision": "abc",
            "cache_dir": "models",
            "local_files_only": True,
            "trust_remote_code": False,
            "token": None,
            "model_kwargs": {"torch_dtype": torch.bfloat16},
        }
        adapter = cls(**{nested: kwargs})
        expected = cls(
            device="cpu",
            max_length=256,
            revision="abc",
            cache_folder="models",
            local_files_only=True,
            dtype="bfloat16",
        )
        assert adapter.model_dump() == expected.model_dump()

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"devcie": "cpu"}, r"did you mean 'device'"),
            ({"model_kwargs": {"attn_implementation": "sdpa"}}, r"no keyword 'attn_imp"),
            (["cpu"], "must be a dict, got a list"),
        ],
    )
    def test_those_without_a_meaning_here_are_refused(
        self, cls: Any, nested: str, kwargs: object, message: str
    ) -> None:
        with pytest.raises(InvalidTypeError, match=message):
            cls(**{nested: kwargs})

    def test_two_values_for_one_setting_are_refused(self, cls: Any, nested: str) -> None:
        with pytest.raises(InvalidArgumentError, match=r"'device'\] and device differ: 'cpu' and"):
            cls(device="cuda", **{nested: {"device": "cpu"}})
        with pytest.raises(InvalidArgumentError, match=r"differ; give one") as caught:
            cls(token="hf_one", **{nested: {"token": "hf_two"}})
        assert "hf_" not in str(caught.value)


def test_hugging_face_cross_encoder_keywords() -> None:
    theirs = {"model_name": "some/model", "model_kwargs": {"device": "cpu"}}
    for cls in (langchain.SharedCrossEncoder, langchain.CrossEncoderRerank):
        assert cls(**theirs) == cls(model="some/model", device="cpu")


def test_sentence_transformer_rerank_keywords() -> None:
    rerank = llama_index.CrossEncoderRerank(
        top_n=5,
        model="some/model",
        device="cpu",
        keep_retrieval_score=True,
        trust_remote_code=False,
        cache_folder="models",
        cross_encoder_kwargs={"max_length": 64},
    )
    assert (rerank.top_n, rerank.model, rerank.keep_retrieval_score) == (5, "some/model", True)
    assert (rerank.device, rerank.cache_folder, rerank.max_length) == ("cpu", "models", 64)

"""What dumps, copies and pickles of the adapters hold: configuration, no weights, no token."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from typing import Any

import pytest

from rerank_plugins import langchain, llama_index, registry
from rerank_plugins.errors import InvalidTypeError
from rerank_plugins.testing import FakeScorer
from rerank_plugins.testing.contract import SCORES

CLASSES = [
    langchain.CrossEncoderRerank,
    langchain.SharedCrossEncoder,
    llama_index.CrossEncoderRerank,
]
OPTIONS: dict[str, Any] = {
    "model": "some/model",
    "revision": "abc",
    "device": ["cpu", "cpu"],
    "dtype": "float16",
    "max_length": 128,
    "max_batch_tokens": 2048,
    "long_documents": "max",
    "local_files_only": True,
    "cache_folder": "models",
    "trust_remote_code": True,
}


@pytest.mark.parametrize("cls", CLASSES)
class TestSerialization:
    def test_round_trips_give_the_same_settings(self, cls: Any) -> None:
        adapter = cls(**OPTIONS)
        again = [
            cls.model_validate_json(adapter.model_dump_json()),
            cls.model_validate(adapter.model_dump()),
            pickle.loads(pickle.dumps(adapter)),
            copy.deepcopy(adapter),
            copy.copy(adapter),
        ]
        dump = adapter.model_dump()
        assert [one.model_dump() for one in again] == [dump] * len(again)
        assert OPTIONS.items() <= dump.items()

    def test_what_was_loaded_stays_behind(self, cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        class Unpicklable(FakeScorer):
            def __reduce__(self) -> Any:
                raise AssertionError("weights must not be pickled")

        monkeypatch.setattr(registry, "shared_scorer", lambda **_: Unpicklable(SCORES))
        used, fresh = cls(), cls()
        used._load()
        assert pickle.loads(pickle.dumps(used)).model_dump() == fresh.model_dump()
        copied = copy.deepcopy(used)
        assert copied._scorer_at_hand() is None
        if cls is not llama_index.CrossEncoderRerank:  # callback managers compare by identity
            assert used == fresh

    def test_a_token_is_in_no_dump_repr_or_pickle(self, cls: Any) -> None:
        adapter = cls(token="hf_secret")
        shown = [adapter.model_dump_json(), str(adapter.model_dump()), repr(adapter), str(adapter)]
        assert not any("hf_secret" in text for text in shown)
        assert "token" not in adapter.model_dump()
        assert b"hf_secret" not in pickle.dumps(adapter)
        assert pickle.loads(pickle.dumps(adapter)).token is None
        assert copy.deepcopy(adapter).token.get_secret_value() == "hf_secret"

    def test_an_explicit_scorer_is_named_in_dumps_and_pickled_whole(self, cls: Any) -> None:
        adapter = cls(scorer=FakeScorer(SCORES))
        dump = json.loads(adapter.model_dump_json())
        assert dump["model"] == "fake"
        assert "scorer" not in dump
        again = pickle.loads(pickle.dumps(adapter))
        assert again.scorer.scores == SCORES

    def test_a_scorer_that_cannot_be_pickled_says_so(self, cls: Any) -> None:
        scorer = FakeScorer(lambda passage: 1.0)
        with pytest.raises(InvalidTypeError, match=r"its scorer \(FakeScorer\) cannot"):
            pickle.dumps(cls(scorer=scorer))

    def test_copies_share_the_scorer(self, cls: Any) -> None:
        scorer = FakeScorer(SCORES)
        scorer.lock = threading.Lock()  # type: ignore[attr-defined]  # cannot be copied
        assert copy.deepcopy(cls(scorer=scorer)).scorer is scorer


def test_llama_index_round_trips() -> None:
    rerank = llama_index.CrossEncoderRerank(**OPTIONS, top_n=7, on_error="first_stage")
    data = rerank.to_dict()
    assert data["class_name"] == "CrossEncoderRerank"
    assert llama_index.CrossEncoderRerank.from_dict(data).to_dict() == data
    assert llama_index.CrossEncoderRerank.from_json(rerank.to_json()).to_dict() == data
    scorer = FakeScorer(SCORES)
    saved = llama_index.CrossEncoderRerank(scorer=scorer).to_dict()
    assert llama_index.CrossEncoderRerank.from_dict(saved, scorer=scorer).scorer is scorer

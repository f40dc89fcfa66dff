"""Which scorer an adapter uses, and how its keywords are checked."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

import rerank_plugins.langchain as langchain
import rerank_plugins.llama_index as llama_index
from rerank_plugins import DEFAULT_MODEL, registry
from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError
from rerank_plugins.testing import FakeScorer
from rerank_plugins.testing.contract import SCORES

ADAPTERS: list[Any] = [langchain.CrossEncoderRerank, llama_index.CrossEncoderRerank]
CLASSES: list[Any] = [*ADAPTERS, langchain.SharedCrossEncoder]
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
    "query_prefix": "query: ",
    "passage_prefix": "passage: ",
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the registry was asked for; it answers with one scorer for each request."""
    asked: list[dict[str, Any]] = []

    def shared_scorer(**options: Any) -> FakeScorer:
        asked.append(options)
        return FakeScorer(SCORES)

    monkeypatch.setattr(registry, "shared_scorer", shared_scorer)
    return asked


def use(adapter: Any) -> list[float]:
    """Score "alpha" through ``adapter``, whichever class it is of."""
    if isinstance(adapter, langchain.SharedCrossEncoder):
        return adapter.score([("q", "alpha")])
    if isinstance(adapter, langchain.CrossEncoderRerank):
        kept = adapter.compress_documents([Document("alpha")], "q")
        return [document.metadata["relevance_score"] for document in kept]
    nodes = [NodeWithScore(node=TextNode(text="alpha"))]
    return [node.score for node in adapter.postprocess_nodes(nodes, query_str="q")]


async def ause(adapter: Any) -> int:
    if isinstance(adapter, langchain.CrossEncoderRerank):
        return len(await adapter.acompress_documents([Document("alpha")], "q"))
    nodes = [NodeWithScore(node=TextNode(text="alpha"))]
    return len(await adapter.apostprocess_nodes(nodes, query_str="q"))


@pytest.mark.parametrize("cls", CLASSES)
class TestScorer:
    def test_the_shared_one_is_asked_for_at_the_first_call_and_kept(
        self, cls: Any, asked: list[Any]
    ) -> None:
        adapter = cls(**OPTIONS, token="hf_secret")
        assert asked == []
        assert use(adapter) == use(adapter) == [0.5]
        assert asked == [{**OPTIONS, "token": "hf_secret"}]

    def test_defaults_are_left_to_the_scorer(self, cls: Any, asked: list[Any]) -> None:
        use(cls())
        assert asked == [{"model": DEFAULT_MODEL}]

    def test_a_closed_one_is_asked_for_again(
        self, cls: Any, asked: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        adapter = cls()
        use(adapter)
        monkeypatch.setattr(FakeScorer, "closed", True, raising=False)
        use(adapter)
        assert len(asked) == 2

    def test_a_copy_with_another_model_gets_another_scorer(
        self, cls: Any, asked: list[Any]
    ) -> None:
        adapter = cls()
        use(adapter)
        use(adapter.model_copy(update={"model": "some/model"}))
        assert [options["model"] for options in asked] == [DEFAULT_MODEL, "some/model"]

    def test_names_its_model(self, cls: Any) -> None:
        assert cls(scorer=FakeScorer(SCORES)).model == "fake"
        with pytest.raises(InvalidArgumentError, match="two models; give one"):
            cls(scorer=FakeScorer(SCORES), model="some/model")

    @pytest.mark.parametrize("name", [name for name in OPTIONS if name != "model"])
    def test_options_that_would_have_no_effect_are_refused(self, cls: Any, name: str) -> None:
        with pytest.raises(InvalidArgumentError, match=f"{name} has no effect"):
            cls(scorer=FakeScorer(SCORES), **{name: OPTIONS[name]})

    @pytest.mark.parametrize("scorer", ["some/model", FakeScorer, object()])
    def test_what_is_no_scorer_is_refused(self, cls: Any, scorer: object) -> None:
        with pytest.raises(InvalidTypeError, match=r"is no scorer.*score\(query, passages\)"):
            cls(scorer=scorer)

    def test_it_is_fixed_once_made(self, cls: Any) -> None:
        with pytest.raises(ValueError, match="frozen"):
            cls().model = "some/model"


@pytest.mark.parametrize("cls", ADAPTERS)
def test_no_candidates_need_no_model(cls: Any, asked: list[Any]) -> None:
    if cls is langchain.CrossEncoderRerank:
        assert cls().compress_documents([], "q") == []
        assert asyncio.run(cls().acompress_documents([], "q")) == []
    else:
        assert cls().postprocess_nodes([], query_str="q") == []
        assert asyncio.run(cls().apostprocess_nodes([], query_str="q")) == []
    assert asked == []


@pytest.mark.parametrize("cls", ADAPTERS)
def test_loading_leaves_the_event_loop_free_even_if_its_pool_is_full(
    cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading, loaded, leave = threading.Event(), threading.Event(), threading.Event()

    def slow(**options: Any) -> FakeScorer:
        loading.set()
        assert loaded.wait(60), "the event loop was blocked while the model was loading"
        return FakeScorer(SCORES)

    async def main() -> int:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        blocker = loop.run_in_executor(None, leave.wait, 60)
        task = asyncio.create_task(ause(cls()))
        try:
            for _ in range(20_000):
                if loading.is_set():
                    break
                await asyncio.sleep(0.001)
            assert loading.is_set(), "the model waits for a place in the loop's pool"
            loaded.set()
            return await task
        finally:
            leave.set()
            await blocker

    monkeypatch.setattr(registry, "shared_scorer", slow)
    assert asyncio.run(main()) == 1


@pytest.mark.parametrize("cls", CLASSES)
class TestKeywords:
    def test_an_unknown_one_is_named_with_the_closest_known(self, cls: Any) -> None:
        with pytest.raises(TypeError, match="no keyword 'modle'; did you mean 'model'"):
            cls(modle="some/model")
        with pytest.raises(InvalidTypeError, match=r"no keyword 'xyz'; known keywords: .*device"):
            cls(xyz=1)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("model", 3, "model must be .* a string; got 3"),
            ("max_length", "long", "max_length must be a whole number, got 'long'"),
            ("trust_remote_code", "maybe", "trust_remote_code must be .*boolean"),
        ],
    )
    def test_a_wrong_value_is_named(self, cls: Any, name: str, value: Any, message: str) -> None:
        with pytest.raises(InvalidArgumentError, match=message):
            cls(**{name: value})

    def test_a_wrong_token_is_not_shown(self, cls: Any) -> None:
        with pytest.raises(InvalidArgumentError) as caught:
            cls(token=["hf_secret"])
        assert "hf_secret" not in str(caught.value)
        assert caught.value.__context__ is None

    def test_paths_and_torch_values_are_taken_by_name(self, cls: Any) -> None:
        adapter = cls(
            model=Path("folder"),
            cache_folder=Path("cache"),
            device=torch.device("cuda", 1),
            dtype=torch.float16,
        )
        assert (adapter.model, adapter.cache_folder) == ("folder", "cache")
        assert (adapter.device, adapter.dtype) == ("cuda:1", "float16")

    def test_remote_code_is_not_trusted_unless_asked(self, cls: Any) -> None:
        assert cls().model_dump()["trust_remote_code"] is False
        assert cls(trust_remote_code=True).model_dump()["trust_remote_code"] is True


@pytest.mark.parametrize("cls", ADAPTERS)
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("top_n", 0, "top_n must be at least 1, or None to keep all; got 0"),
        ("top_n", "3", "top_n must be a whole number"),
        ("top_n", True, "top_n must be a whole number"),
        ("score_threshold", float("nan"), "score_threshold: .*finite.*nan"),
        ("score_threshold", "0.5", "score_threshold: .*number, got '0.5'"),
        ("first_stage_weight", float("inf"), "first_stage_weight: .*finite"),
        ("on_error", "ignore", "on_error: .*'raise' or 'first_stage', got 'ignore'"),
    ],
)
def test_a_wrong_cut_is_refused_when_made_and_when_assigned(
    cls: Any, name: str, value: Any, message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        cls(**{name: value})
    with pytest.raises(ValueError, match=name):
        setattr(cls(), name, value)


def test_both_frameworks_score_alike_through_one_model() -> None:
    texts = ["A cat sleeps.", "Paris is the capital of France.", "France is in Europe."]
    adapters = [cls(model="embedded", device="cpu", top_n=3) for cls in ADAPTERS]
    try:
        documents = adapters[0].compress_documents([Document(text) for text in texts], "q")
        nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
        kept = adapters[1].postprocess_nodes(nodes, query_str="q")
        assert [(one.text, one.score) for one in kept] == [
            (one.page_content, one.metadata["relevance_score"]) for one in documents
        ]
        assert adapters[0]._scorer_at_hand() is adapters[1]._scorer_at_hand()
    finally:
        registry.close_shared_scorers()

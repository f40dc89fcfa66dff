"""Adapters whose model is behind a rerank API: `base_url` and `api_key`."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import traceback
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from langchain_core.documents import Document
from langchain_core.load import dumpd, load
from live_server import ready, serving
from llama_index.core.schema import NodeWithScore, TextNode

from rerank_plugins import langchain, llama_index, shared_scorer
from rerank_plugins.errors import InvalidArgumentError, InvalidTypeError, RemoteError
from rerank_plugins.serving import ServerOptions
from rerank_plugins.testing import FakeScorer

CLASSES: list[Any] = [
    langchain.CrossEncoderRerank,
    langchain.SharedCrossEncoder,
    llama_index.CrossEncoderRerank,
]
KEY = "sk-very-secret"
QUERY = "how do I sort a list?"
TEXTS = [f"{n} list.sort() sorts in place " * (n % 5 + 1) for n in range(12)]
AWAY: dict[str, Any] = {"base_url": "http://127.0.0.1:9", "model": "m"}


@pytest.fixture(scope="module")
def server() -> Iterator[httpx.Client]:
    scorer = shared_scorer("embedded", device="cpu")
    with serving(scorer, options=ServerOptions(api_key=(KEY,))) as client:
        client.headers["authorization"] = f"Bearer {KEY}"
        yield ready(client)


def scored(adapter: Any, *, awaited: bool = False) -> list[tuple[str, float]]:
    """Return the texts that an adapter keeps of `TEXTS`, with their scores."""
    if isinstance(adapter, langchain.SharedCrossEncoder):
        scores = adapter.score([(QUERY, text) for text in TEXTS])
        return sorted(zip(TEXTS, scores, strict=True), key=lambda row: -row[1])
    if isinstance(adapter, langchain.CrossEncoderRerank):
        documents = [Document(text) for text in TEXTS]
        found = (
            asyncio.run(adapter.acompress_documents(documents, QUERY))
            if awaited
            else adapter.compress_documents(documents, QUERY)
        )
        return [(one.page_content, one.metadata["relevance_score"]) for one in found]
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    kept = (
        asyncio.run(adapter.apostprocess_nodes(nodes, query_str=QUERY))
        if awaited
        else adapter.postprocess_nodes(nodes, query_str=QUERY)
    )
    return [(one.text, one.score) for one in kept]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("unit", ["auto", "logit", "probability"])
def test_a_model_behind_an_address_gives_what_it_gives_here(
    server: httpx.Client, cls: Any, unit: str
) -> None:
    more = {} if cls is langchain.SharedCrossEncoder else {"top_n": 5, "timeout_s": 60.0}
    here = scored(cls(model="embedded", device="cpu", score_unit=unit, **more))
    address = {"base_url": str(server.base_url), "api_key": KEY}
    away = cls(model="embedded", **address, score_unit=unit, **more)
    for awaited in (False, True):
        found = scored(away, awaited=awaited)
        assert [text for text, _ in found] == [text for text, _ in here]
        assert [score for _, score in found] == pytest.approx([s for _, s in here], abs=4e-6)


@pytest.mark.parametrize("cls", CLASSES)
def test_one_client_serves_all_calls_and_shallow_copies(server: httpx.Client, cls: Any) -> None:
    adapter = cls(model="embedded", base_url=str(server.base_url), api_key=KEY)
    scored(adapter)
    assert adapter._load() is adapter._scorer_at_hand()
    assert adapter.model_copy()._scorer_at_hand() is adapter._scorer_at_hand()


@pytest.mark.parametrize("cls", CLASSES)
def test_a_key_is_in_no_dump_repr_pickle_log_or_error(
    server: httpx.Client, cls: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    adapter = cls(model="embedded", base_url=str(server.base_url), api_key=KEY + "-old")
    with pytest.raises(RemoteError) as caught:
        scored(adapter)
    texts = ["".join(traceback.format_exception(caught.value)), caplog.text, repr(adapter)]
    texts += [str(adapter), adapter.model_dump_json(), str(adapter.model_dump())]
    assert not any(KEY in text for text in texts)
    assert "answered 401" in texts[0]
    assert KEY.encode() not in pickle.dumps(adapter)
    assert copy.deepcopy(adapter).api_key.get_secret_value() == KEY + "-old"
    with pytest.raises(InvalidArgumentError, match="api_key cannot be changed") as refused:
        adapter.api_key = KEY
    assert KEY not in str(refused.value)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_dump_or_pickle_asks_with_the_key_of_the_environment(
    server: httpx.Client, cls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = cls(model="embedded", base_url=str(server.base_url), api_key=KEY)
    expected = scored(adapter)
    monkeypatch.setenv("RERANK_API_KEY", KEY)
    for again in (
        pickle.loads(pickle.dumps(adapter)),
        cls.model_validate_json(adapter.model_dump_json()),
    ):
        assert (again.base_url, again.api_key) == (adapter.base_url, None)
        assert scored(again) == expected


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_langchain_saves_it_with_the_key_as_a_secret() -> None:
    rerank = langchain.CrossEncoderRerank(**AWAY, api_key=KEY, top_n=7, score_unit="logit")
    saved = json.loads(json.dumps(dumpd(rerank)))
    assert saved["kwargs"]["api_key"] == {"lc": 1, "type": "secret", "id": ["RERANK_API_KEY"]}
    assert KEY not in json.dumps(saved)
    options: dict[str, Any] = {
        "valid_namespaces": ["rerank_plugins"],
        "allowed_objects": [langchain.CrossEncoderRerank],
    }
    again = load(saved, secrets_map={"RERANK_API_KEY": KEY}, **options)
    assert again == rerank
    local = langchain.CrossEncoderRerank(model="some/model", device="cpu", query_prefix="q: ")
    assert load(dumpd(local), **options) == local
    # An object that scores cannot be saved: LangChain says so instead of dropping it.
    assert dumpd(langchain.CrossEncoderRerank(scorer=FakeScorer()))["type"] == "not_implemented"


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "localhost:8000", "model": "m"}, "base_url must begin with http"),
        ({"base_url": "http://", "model": "m"}, "has no host"),
        ({"base_url": "http://me:sk-pass@host", "model": "m"}, "holds a user or password"),
        ({"base_url": "http://me:sk-pass@host:port", "model": "m"}, "is no address"),
        ({"base_url": "http://host"}, r"base_url= needs model="),
        ({**AWAY, "device": "cpu"}, "device has no effect on a model behind base_url="),
        ({**AWAY, "query_prefix": "q"}, "query_prefix has no effect"),
        ({**AWAY, "api": "coheer"}, "api must be auto"),
        ({**AWAY, "api_key": "sk-pass\n"}, "api_key holds a space"),
        (
            {"base_url": AWAY["base_url"], "scorer": FakeScorer()},
            "name two scorers",
        ),
        ({"api_key": "sk-pass"}, r"api_key is for a rerank API; give base_url="),
    ],
)
def test_what_does_not_fit_is_refused_at_once(
    cls: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        cls(**settings)
    assert "sk-pass" not in str(caught.value)


@pytest.mark.parametrize("name", ["base_url", "api_key", "model"])
def test_what_is_no_text_is_refused_by_type(name: str) -> None:
    with pytest.raises(InvalidTypeError, match=name):
        langchain.CrossEncoderRerank(**{**AWAY, name: 3})

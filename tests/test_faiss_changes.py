"""A FAISS store changes as a whole or not at all, whatever is asked of it."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.indexing import InMemoryRecordManager, aindex, index

from rerank_plugins.errors import InvalidArgumentError
from rerank_plugins.faiss import FaissVectorStore


class Spelled(Embeddings):
    """Embeds ``"3,4"`` as the vector it spells; says which methods were asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed_query(self, text: str) -> list[float]:
        self.asked.append("query")
        return [float(number) for number in text.split(",")]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.asked.append("documents")
        return [[float(number) for number in text.split(",")] for text in texts]

    async def aembed_query(self, text: str) -> list[float]:
        self.asked.append("aquery")
        return [float(number) for number in text.split(",")]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        self.asked.append("adocuments")
        return [[float(number) for number in text.split(",")] for text in texts]


IDS = st.sampled_from("abcdefg")
VECTORS = st.tuples(st.integers(-3, 3), st.integers(-3, 3))


class AgainstADictionary(RuleBasedStateMachine):
    """A dictionary of vectors says what the store must find, and with which cosine."""

    def __init__(self) -> None:
        super().__init__()
        self.store = FaissVectorStore(Spelled())
        self.expected: dict[str, tuple[int, int]] = {}

    @rule(added=st.dictionaries(IDS, VECTORS, max_size=4))
    def add(self, added: dict[str, tuple[int, int]]) -> None:
        texts = [f"{x},{y}" for x, y in added.values()]
        assert self.store.add_texts(texts, ids=list(added)) == list(added)
        self.expected.update(added)

    @rule(ids=st.lists(IDS, max_size=3))
    def delete(self, ids: list[str]) -> None:
        assert self.store.delete(ids)
        for name in ids:
            self.expected.pop(name, None)

    @rule(other=st.dictionaries(IDS, VECTORS, min_size=1, max_size=3))
    def merge(self, other: dict[str, tuple[int, int]]) -> None:
        texts = [f"{x},{y}" for x, y in other.values()]
        self.store.merge_from(FaissVectorStore.from_texts(texts, Spelled(), ids=list(other)))
        self.expected.update(other)

    @rule(how=st.sampled_from(["copy", "deepcopy", "pickle"]))
    def go_on_with_a_copy(self, how: str) -> None:
        left = self.store
        if how == "pickle":
            self.store = pickle.loads(pickle.dumps(left))
        else:
            self.store = getattr(copy, how)(left)
        left.delete(list(self.expected))

    @rule(bad=st.sampled_from(["5", "x", "nan,1"]), name=IDS)
    def add_what_cannot_be(self, bad: str, name: str) -> None:
        try:
            self.store.add_texts(["1,1", bad], ids=[name, "new"])
        except ValueError:
            pass
        else:
            raise AssertionError("taken")

    @rule(query=VECTORS, k=st.integers(1, 9))
    def search(self, query: tuple[int, int], k: int) -> None:
        found = self.store.similarity_search_with_score(f"{query[0]},{query[1]}", k)
        cosines = {}
        for name, vector in self.expected.items():
            lengths = np.hypot(*query) * np.hypot(*vector)
            cosines[name] = float(np.dot(query, vector) / lengths) if lengths else 0.0
        best = sorted(cosines.values(), reverse=True)[:k]
        assert [score for _, score in found] == pytest.approx(best, abs=1e-5)
        for document, score in found:
            assert score == pytest.approx(cosines[str(document.id)], abs=1e-5)

    @invariant()
    def the_store_holds_the_same(self) -> None:
        assert len(self.store) == len(self.expected)
        held = {row.id: row.page_content for row in self.store.get_by_ids(list("abcdefg"))}
        assert held == {name: f"{x},{y}" for name, (x, y) in self.expected.items()}


TestAgainstADictionary = AgainstADictionary.TestCase
TestAgainstADictionary.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


@pytest.fixture
def store() -> FaissVectorStore:
    return FaissVectorStore.from_texts(
        ["1,0", "0,1"], Spelled(), [{"tags": ["x"]}, {"tags": []}], ids=["a", "b"]
    )


@pytest.mark.parametrize(
    ("texts", "metadatas", "ids"),
    [
        (["1,1", "2,2"], [{}, [1]], ["c", "a"]),
        (["1,1", 5], None, ["c", "a"]),
        (["1,1", "2,2"], None, ["a", "a"]),
        (["1,1", "2,2"], None, ["c"]),
        (["1,1", "2,2"], [{}], None),
        (["1,1"], [{"lock": threading.Lock()}], ["a"]),
        (["1,1"], None, [True]),
        (["1,1"], None, [2.5]),
        (["1,1"], None, [""]),
        ("11", None, None),
        (["1,1,1"], None, ["a"]),
        (["1,1", "1"], None, ["a", "b"]),
        (["one,two"], None, ["a"]),
    ],
)
def test_a_refused_call_leaves_the_store_as_it_was(
    store: FaissVectorStore, texts: Any, metadatas: Any, ids: Any
) -> None:
    before = store.similarity_search_with_score("1,2", k=9)
    with pytest.raises((ValueError, TypeError)):
        store.add_texts(texts, metadatas, ids=ids)
    assert store.similarity_search_with_score("1,2", k=9) == before
    assert len(store) == 2


def test_what_goes_in_and_out_is_copied_to_the_ground() -> None:
    metadata = {"tags": ["x", {"deep": [1]}]}
    store = FaissVectorStore.from_texts(["1,0"], Spelled(), [metadata], ids=["a"])
    metadata["tags"].append("later")
    for found in (store.similarity_search("1,0"), store.get_by_ids(["a"])):
        found[0].metadata["tags"][1]["deep"].append(2)
    assert store.get_by_ids(["a"])[0].metadata == {"tags": ["x", {"deep": [1]}]}


def test_metadata_may_hold_itself_and_be_deep() -> None:
    ring: dict[str, Any] = {"n": 1}
    ring["self"] = [ring]
    deep: dict[str, Any] = {}
    inner = deep
    for _ in range(50_000):
        inner["a"] = inner = {}
    store = FaissVectorStore.from_texts(["1,0", "0,1"], Spelled(), [ring, deep], ids=["a", "b"])
    found = store.get_by_ids(["a", "b"])
    ring = found[0].metadata["self"][0]
    assert ring["n"] == ring["self"][0]["self"][0]["n"] == 1
    assert "a" in found[1].metadata["a"]


def test_a_number_as_an_id_is_the_string_of_it() -> None:
    numbers: list[Any] = [0, 1]
    store = FaissVectorStore.from_texts(["1,0", "0,1"], Spelled(), ids=numbers)
    assert [row.id for row in store.similarity_search("1,0")] == ["0", "1"]
    store.add_documents([Document("2,2", id="1")])
    assert store.get_by_ids(numbers[1:])[0].page_content == "2,2"
    store.delete(numbers[:1])
    assert len(store) == 1


@pytest.mark.parametrize("cleanup", ["full", "incremental", "scoped_full", None])
@pytest.mark.parametrize("is_async", [False, True])
async def test_langchains_indexing_keeps_it_up_to_date(cleanup: Any, is_async: bool) -> None:
    store, records = FaissVectorStore(Spelled()), InMemoryRecordManager("notes")
    options: dict[str, Any] = {"source_id_key": "from", "key_encoder": "sha256", "cleanup": cleanup}
    for texts in (["1,0", "2,1"], ["1,0", "3,1"]):
        documents = [Document(text, metadata={"from": "book"}) for text in texts]
        if is_async:
            await aindex(documents, records, store, **options)
        else:
            index(documents, records, store, **options)
    found = {row.page_content for row in store.similarity_search("1,0", k=9)}
    assert found == {"1,0", "3,1"} | ({"2,1"} if cleanup is None else set())


@pytest.mark.parametrize(
    ("search_type", "more"),
    [
        ("similarity", {"fetch_k": 9, "filter": {"tags": {"$eq": ["x"]}}}),
        ("mmr", {"fetch_k": 9, "lambda_mult": 0.3}),
        ("similarity_score_threshold", {"score_threshold": 0.1}),
    ],
)
async def test_every_search_type_hands_on_the_cosine_and_awaits_the_embedding(
    search_type: str, more: dict[str, Any]
) -> None:
    embedding = Spelled()
    store = await FaissVectorStore.afrom_texts(["1,0", "3,4"], embedding, [{"tags": ["x"]}, {}])
    options = {"k": 1, "score_key": "cosine", **more}
    retriever = store.as_retriever(search_type=search_type, search_kwargs=options)
    found = await retriever.ainvoke("3,0")
    assert embedding.asked == ["adocuments", "aquery"]
    assert found == retriever.invoke("3,0")
    assert found[0].metadata["cosine"] == pytest.approx(1.0)


async def test_vectors_that_are_there_are_not_embedded_again() -> None:
    embedding = Spelled()
    rows = [("east", [5.0, 0.0]), ("north", [0.0, 1.0])]
    for store in (
        FaissVectorStore.from_embeddings(rows, embedding, ids=["e", "n"]),
        await FaissVectorStore.afrom_embeddings(rows, embedding, ids=["e", "n"]),
    ):
        other = FaissVectorStore(embedding)
        other.merge_from(store)
        for search in (store, other):
            assert search.similarity_search_by_vector([1.0, 0.1], 1)[0].page_content == "east"
    assert embedding.asked == []


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_very_large_and_very_small_vectors_have_their_direction(size: float) -> None:
    rows = [("a", [3 * size, 4 * size]), ("b", [-size, 0.0])]
    store = FaissVectorStore.from_embeddings(rows, Spelled())
    found = store.similarity_search_with_score_by_vector([0.6 * size, 0.8 * size], 2)
    assert [score for _, score in found] == pytest.approx([1.0, -0.6], abs=1e-6)


def test_an_embedding_of_too_few_vectors_is_refused(store: FaissVectorStore) -> None:
    class Short(Spelled):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return super().embed_documents(texts)[:-1]

    with pytest.raises(InvalidArgumentError, match="returned 1 vectors for 2 texts"):
        FaissVectorStore(Short()).add_texts(["1,0", "0,1"])

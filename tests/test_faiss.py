"""The FAISS store behaves as LangChain's own tests ask, and scores as plain NumPy does."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from rerank_plugins.errors import DataFormatError, InvalidArgumentError, InvalidTypeError
from rerank_plugins.faiss import FaissVectorStore


class Given(Embeddings):
    """Embeds a text such as ``"3,4"`` as the vector it spells."""

    def embed_query(self, text: str) -> list[float]:
        return [float(number) for number in text.split(",")]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


class TestStandard(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> VectorStore:
        return FaissVectorStore(self.get_embeddings())


@pytest.fixture
def store() -> FaissVectorStore:
    return FaissVectorStore.from_texts(
        ["1,0", "0,2", "3,3", "-1,0"],
        Given(),
        metadatas=[{"n": number} for number in range(4)],
        ids=["east", "north", "northeast", "west"],
    )


def test_scores_are_cosines_best_first(store: FaissVectorStore) -> None:
    found = store.similarity_search_with_score("5,0", k=4)
    assert [document.id for document, _ in found] == ["east", "northeast", "north", "west"]
    assert [score for _, score in found] == pytest.approx([1.0, 0.5**0.5, 0.0, -1.0], abs=1e-6)
    assert all(type(score) is float for _, score in found)


def test_vectors_come_in_the_order_of_the_ids_with_length_one(store: FaissVectorStore) -> None:
    store.delete(["east"])
    vectors = store.get_vectors_by_ids(["northeast", "west", "northeast"])
    assert vectors.dtype == np.float32
    assert vectors == pytest.approx(np.array([[0.5**0.5] * 2, [-1, 0], [0.5**0.5] * 2]))
    assert store.get_vectors_by_ids([]).shape == (0, 2)
    assert FaissVectorStore(Given()).get_vectors_by_ids([]).shape == (0, 0)
    with pytest.raises(InvalidArgumentError, match="no document has the id 'east'"):
        store.get_vectors_by_ids(["west", "east"])


def test_relevance_is_half_of_one_plus_cosine(store: FaissVectorStore) -> None:
    found = store.similarity_search_with_relevance_scores("5,0", k=4)
    assert [score for _, score in found] == pytest.approx([1.0, 0.853553, 0.5, 0.0], abs=1e-5)
    kept = store.similarity_search_with_relevance_scores("5,0", k=4, score_threshold=0.6)
    assert [document.id for document, _ in kept] == ["east", "northeast"]


@given(
    st.lists(st.lists(st.integers(-9, 9), min_size=3, max_size=3), min_size=1, max_size=30),
    st.lists(st.integers(-9, 9), min_size=3, max_size=3),
    st.integers(1, 40),
)
def test_search_finds_what_numpy_finds(vectors: list[list[int]], query: list[int], k: int) -> None:
    store = FaissVectorStore.from_texts([",".join(map(str, row)) for row in vectors], Given())
    found = store.similarity_search_with_score(",".join(map(str, query)), k=k)
    table, row = np.array(vectors, dtype=float), np.array(query, dtype=float)
    lengths = np.linalg.norm(table, axis=1) * np.linalg.norm(row)
    cosines = np.divide(table @ row, lengths, out=np.zeros(len(table)), where=lengths > 0)
    best = sorted(cosines, reverse=True)[:k]
    assert [score for _, score in found] == pytest.approx(best, abs=1e-5)


def test_replaced_documents_are_found_once_and_at_their_new_place(store: FaissVectorStore) -> None:
    store.add_documents([Document(id="west", page_content="9,0"), Document(page_content="0,-1")])
    assert len(store) == 5
    found = store.similarity_search("1,0", k=10)
    assert [document.id for document in found].count("west") == 1
    assert {document.page_content for document in found[:2]} == {"1,0", "9,0"}


def test_results_can_be_changed_without_changing_the_store(store: FaissVectorStore) -> None:
    store.similarity_search("1,0", k=1)[0].metadata["n"] = "changed"
    store.get_by_ids(["east"])[0].metadata["n"] = "changed"
    assert store.similarity_search("1,0", k=1)[0].metadata == {"n": 0}


async def test_a_retriever_hands_its_scores_to_the_second_stage(store: FaissVectorStore) -> None:
    retriever = store.as_retriever(search_kwargs={"k": 3, "score_key": "cosine"})
    expected = [score for _, score in store.similarity_search_with_score("3,4", 3)]
    for found in (retriever.invoke("3,4"), await retriever.ainvoke("3,4")):
        assert [document.metadata["cosine"] for document in found] == expected
    ids = [str(document.id) for document in found]
    assert all("cosine" not in document.metadata for document in store.get_by_ids(ids))


def test_filter_decides_what_can_be_found(store: FaissVectorStore) -> None:
    odd = store.similarity_search("1,0", k=4, filter=lambda row: row.metadata["n"] % 2 == 1)
    assert [document.id for document in odd] == ["north", "west"]
    assert store.similarity_search("1,0", filter=lambda row: False) == []


def test_marginal_relevance_prefers_a_document_unlike_the_first() -> None:
    texts = ["10,1,0", "10,1.1,0", "10,0,4"]
    store = FaissVectorStore.from_texts(texts, Given())
    retriever = store.as_retriever(search_type="mmr", search_kwargs={"k": 2, "lambda_mult": 0.1})
    assert [row.page_content for row in retriever.invoke("10,1,0")] == ["10,1,0", "10,0,4"]


async def test_async_search_equals_sync_search(store: FaissVectorStore) -> None:
    assert await store.asimilarity_search("1,2", k=3) == store.similarity_search("1,2", k=3)
    assert await store.asimilarity_search_with_score(
        "1,2", k=3
    ) == store.similarity_search_with_score("1,2", k=3)


def test_a_loaded_store_answers_and_grows_like_the_saved_one(
    store: FaissVectorStore, tmp_path: Path
) -> None:
    store.delete(["north"])
    store.save_local(tmp_path / "new" / "folder")
    loaded = FaissVectorStore.load_local(tmp_path / "new" / "folder", Given())
    query = "1,1"
    assert loaded.similarity_search_with_score(query) == store.similarity_search_with_score(query)
    loaded.add_texts(["0,5"], ids=["north"])
    assert loaded.similarity_search("0,1", k=1)[0].id == "north"
    assert len(loaded) == 4


def test_an_empty_store_can_be_saved(tmp_path: Path) -> None:
    FaissVectorStore(Given()).save_local(tmp_path)
    assert FaissVectorStore.load_local(tmp_path, Given()).similarity_search("1,0") == []


def test_saving_again_leaves_one_index_and_no_pickle(
    store: FaissVectorStore, tmp_path: Path
) -> None:
    store.save_local(tmp_path)
    store.add_texts(["2,7"])
    store.save_local(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[0] == "documents.json"
    assert len(names) == 2
    assert names[1] == json.loads((tmp_path / "documents.json").read_text())["index"]


def test_threads_add_delete_and_search_at_the_same_time() -> None:
    store = FaissVectorStore(DeterministicFakeEmbedding(size=8))
    failures: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for step in range(40):
                store.add_texts([f"{worker} {step}"], ids=[f"{worker}-{step}"])
                assert store.similarity_search(f"{worker} {step}", k=3)
                if step % 2:
                    store.delete([f"{worker}-{step}"])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(store) == 8 * 20


def test_another_dimension_is_refused_by_name(store: FaissVectorStore) -> None:
    with pytest.raises(InvalidArgumentError, match=r"has 3 dimensions.*vectors of 2"):
        store.add_texts(["1,2,3"])
    with pytest.raises(InvalidArgumentError, match=r"has 3 dimensions.*vectors of 2"):
        store.similarity_search("1,2,3")
    with pytest.raises(InvalidArgumentError, match=r"different dimensions: \[1, 2\]"):
        store.add_texts(["1,2", "1"])
    assert len(store) == 4


@pytest.mark.parametrize("text", ["nan,1", "inf,0"])
def test_vectors_that_are_not_finite_are_refused(store: FaissVectorStore, text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="finite"):
        store.add_texts([text])
    with pytest.raises(InvalidArgumentError, match="finite"):
        store.similarity_search(text)


def test_wrong_arguments_are_named(store: FaissVectorStore) -> None:
    with pytest.raises(InvalidArgumentError, match="ids has 1 entries for 2 texts"):
        store.add_texts(["1,0", "0,1"], ids=["one"])
    with pytest.raises(InvalidArgumentError, match="metadatas has 0 entries for 1 texts"):
        store.add_texts(["1,0"], metadatas=[])
    with pytest.raises(InvalidArgumentError, match="k must be at least 1, got 0"):
        store.similarity_search("1,0", k=0)
    with pytest.raises(InvalidTypeError, match="unknown option 'top_k'"):
        store.similarity_search("1,0", top_k=3)
    with pytest.raises(InvalidArgumentError, match="ids is None"):
        store.delete()


def test_metadata_that_json_would_change_is_refused_before_anything_is_written(
    store: FaissVectorStore, tmp_path: Path
) -> None:
    store.add_texts(["1,1"], metadatas=[{"when": (2020, 1)}], ids=["odd"])
    with pytest.raises(InvalidArgumentError, match="'odd' would not survive JSON"):
        store.save_local(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_folder_that_does_not_hold_together_is_refused(
    store: FaissVectorStore, tmp_path: Path
) -> None:
    with pytest.raises(DataFormatError, match="does not exist; save a store there"):
        FaissVectorStore.load_local(tmp_path, Given())
    store.save_local(tmp_path)
    table = json.loads((tmp_path / "documents.json").read_text())
    for broken, message in (
        ({**table, "documents": table["documents"][1:]}, "3 documents .* 4 vectors"),
        ({**table, "index": "index-of-another-time.faiss"}, "cannot be read as a FAISS index"),
        ({"rows": []}, "not written by save_local"),
        ([], "not written by save_local"),
    ):
        (tmp_path / "documents.json").write_text(json.dumps(broken))
        with pytest.raises(DataFormatError, match=message):
            FaissVectorStore.load_local(tmp_path, Given())
    (tmp_path / "documents.json").write_text(json.dumps(table))
    (tmp_path / table["index"]).write_bytes(b"IxMp and then nothing")
    with pytest.raises(DataFormatError, match="cannot be read as a FAISS index"):
        FaissVectorStore.load_local(tmp_path, Given())

